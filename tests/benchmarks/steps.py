"""Milliseconds of one step, and of an attack's double backward: as they are written, and on a GPU captured."""

from collections.abc import Callable, Iterable

import pandas as pd
import torch

from polkit.adversary.perturb import Passes, squared_norm, weight_gradient
from polkit.training.conditions import Conditions, applied
from polkit.training.data import Points
from polkit.training.step import Learner, initial_checkpoint
from polkit.training.task import Task
from tests.benchmarks.loops import bare_loop, random_points, seconds_of

BATCHES = 20  # of noise, again and again


def step_table(
    tasks: dict[str, Task], conditions: Conditions, *, epochs: int = 10, precisions: Iterable[str] = ("float32", "bf16")
) -> pd.DataFrame:
    """Columns task, precision, loop, milliseconds, over noise of each task's shape and batch size.

    loop: `bare` is float32 only, `update` the step of `prove` as it is written, `captured` the one it takes on a GPU,
    `objective` a double backward as Attack II takes it, `captured objective` the same on a GPU.
    """
    rows = []
    for name, task in tasks.items():
        short = task.replace(train_size=BATCHES * task.batch_size, epochs=epochs, checkpoint_interval=BATCHES)
        points = random_points(short, short.train_size).to(conditions.device)
        bare = [
            waited(
                conditions,
                lambda chosen=short, given=points: bare_loop(
                    chosen, 0, given, threads=conditions.threads, device=conditions.device
                ),
            )
            for _ in range(2)
        ]
        rows.append((name, "float32", "bare", 1000 * bare[-1] / short.steps))  # the first one warmed up
        for precision in precisions:
            chosen = conditions.replace(precision=precision)
            with applied(chosen):
                for loop, make in loops(chosen).items():
                    learner = Learner(short, chosen)
                    learner.load(initial_checkpoint(short, 0))
                    taken = waited(chosen, repeated(make(learner, points), short))
                    rows.append((name, precision, loop, 1000 * taken / short.steps))
    return pd.DataFrame(rows, columns=["task", "precision", "loop", "milliseconds"])


def loops(conditions: Conditions) -> dict[str, Callable[[Learner, Points], Callable]]:
    """Each makes, for a learner and points on its device, a function of (indices, step=, augmentation_seed=)."""
    made = {"update": plain_update, "objective": plain_objective}
    if conditions.device.startswith("cuda"):
        made |= {"captured": captured_update, "captured objective": captured_objective}
    return made


def plain_update(learner: Learner, points: Points) -> Callable:
    def step(indices: torch.Tensor, *, step: int, augmentation_seed: int) -> torch.Tensor:
        batch = points.take(indices)
        learner.set_learning_rate(step)
        return learner.descend(batch, learner.draw_shifts(len(batch), augmentation_seed))

    return step


def captured_update(learner: Learner, points: Points) -> Callable:
    return lambda indices, **at: learner.update(points.take(indices), **at)


def plain_objective(learner: Learner, points: Points) -> Callable:
    pixels = learner.unit_pixels(points.images)

    def double_backward(indices: torch.Tensor, *, step: int, augmentation_seed: int) -> torch.Tensor:
        batch = Points(pixels, points.labels).take(indices)
        shown = batch.images.requires_grad_()
        _, *gradient = weight_gradient(learner, Points(shown, batch.labels), augmentation_seed)
        return torch.autograd.grad(squared_norm(gradient), shown)[0]

    return double_backward


def captured_objective(learner: Learner, points: Points) -> Callable:
    pixels, objective = Points(learner.unit_pixels(points.images), points.labels), Passes(learner).objective
    whole = torch.ones(1, dtype=pixels.images.dtype, device=pixels.images.device)
    return lambda indices, *, step, augmentation_seed: objective(pixels.take(indices), [augmentation_seed], whole)


def repeated(step: Callable, task: Task) -> Callable[[], None]:
    batches = torch.arange(task.train_size).reshape(BATCHES, task.batch_size)
    for number in range(3):  # what is made at the first calls is no step's
        step(batches[number], step=0, augmentation_seed=number)

    def run() -> None:
        for number in range(task.steps):
            step(batches[number % BATCHES], step=0, augmentation_seed=number)

    return run


def waited(conditions: Conditions, run: Callable[[], object]) -> float:
    """Seconds until the device has done what it was asked for."""

    def whole() -> None:
        run()
        if conditions.device.startswith("cuda"):
            torch.cuda.synchronize()

    return seconds_of(whole)
