"""Steps on a GPU without the CPU's part of them: captured once as CUDA graphs, then replayed for batch after batch.

A step of ResNet-20 is some 500 small kernels, and the CPU takes longer to ask for them than the GPU to run them. A
graph holds the very kernels that the plain function asks for, so that the bits are the same: it is no matter of the
Conditions.
"""

from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock

import torch
from torch import Tensor

from polkit.data import Points, Shifts, draw_shifts
from polkit.training import (
    Checkpoint,
    Learner,
    descend,
    load,
    loss_shifted,
    set_learning_rate,
    snapshot,
    update,
)

ONE_AT_A_TIME = Lock()  # threads that replay intervals share the GPU
WARM_UP_STEPS = 3  # what libraries make at their first calls must be there before a capture


def updates(learner: Learner, points: Points) -> Callable[..., Tensor]:
    """A function of (indices, step=, augmentation_seed=) that updates the learner on these points; returns the loss.

    points: on the learner's device · indices: int, (B,), any array or tensor · step, augmentation_seed: as in `update`.
    """
    if on_gpu(learner):
        captured = CapturedUpdate(learner, points.take)

        def take_step(indices, *, step: int, augmentation_seed: int | None) -> Tensor:
            indices = torch.as_tensor(indices).to(learner.conditions.device, torch.int64, non_blocking=True)
            return captured((indices,), step, augmentation_seed)

        return take_step
    if learner.conditions.compiled:
        learner.model.compile(dynamic=False)  # at the first step; in this process, not again for the same model

    def plain(indices, *, step: int, augmentation_seed: int | None) -> Tensor:
        return update(learner, points.take(indices), step=step, augmentation_seed=augmentation_seed)

    return plain


def batch_updates(learner: Learner) -> Callable[..., Tensor]:
    """`updates` on batches that are no rows of one set of points: a function of (points, step=, augmentation_seed=).

    points: (B, …), on the learner's device. The weights' .grad is that of the batch, as `update` leaves it.
    """
    captured = CapturedUpdate(learner, Points) if on_gpu(learner) else None

    def take_step(points: Points, *, step: int, augmentation_seed: int | None) -> Tensor:
        if captured is None:
            return update(learner, points, step=step, augmentation_seed=augmentation_seed)
        return captured((points.images, points.labels), step, augmentation_seed)

    return take_step


def on_batches(learner: Learner, function: Callable[..., Sequence[Tensor]]) -> Callable[..., Sequence[Tensor]]:
    """`function(points, shifts, *tensors)`, captured on a GPU, as a function of (points, augmentation_seed, *tensors).

    function: a computation at the learner's weights that leaves them as they are · points: (B, …), on the learner's
    device. On a GPU the next call overwrites what it returns.
    """

    def flat(images: Tensor, labels: Tensor, offsets: Tensor, flipped: Tensor, *tensors: Tensor) -> Sequence[Tensor]:
        return function(Points(images, labels), Shifts(offsets, flipped), *tensors)

    called = Captured(learner, flat) if on_gpu(learner) else flat

    def of_batch(points: Points, augmentation_seed: int | None, *tensors: Tensor) -> Sequence[Tensor]:
        if augmentation_seed is None:
            return function(points, None, *tensors)
        shifts = draw_shifts(learner.task, len(points), augmentation_seed).to(learner.conditions.device)
        return called(points.images, points.labels, shifts.offsets, shifts.flipped, *tensors)

    return of_batch


def on_gpu(learner: Learner) -> bool:
    return learner.conditions.device.startswith("cuda")


class Captured:
    """A function of tensors that reads and writes a learner's state, on a GPU: recorded at the first call.

    Every later call must bring tensors of the same shapes. It replays the kernels on them and returns what the function
    returned, in memory that the call after it overwrites.
    """

    def __init__(self, learner: Learner, function: Callable[..., Sequence[Tensor]]):
        self.learner, self.function = learner, function
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *given: Tensor) -> Sequence[Tensor]:
        if self.graph is None:
            found = snapshot(self.learner)
            self.given = [value.detach().clone() for value in given]  # memory that stays: the graph reads it there
            with ONE_AT_A_TIME:
                self._record(found)
        for kept, value in zip(self.given, given, strict=True):
            kept.copy_(value)
        self.graph.replay()
        return self.returned

    def _record(self, found: Checkpoint) -> None:
        """Leaves the learner's state as it was `found`."""
        aside = torch.cuda.Stream(self.learner.conditions.device)
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP_STEPS):
                self.function(*self.given)
        torch.cuda.current_stream().wait_stream(aside)
        load(self.learner, found)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self.returned = self.function(*self.given)
        self.graph = graph


class CapturedUpdate:
    """`update` with one graph per learning rate, since torch's SGD writes the rate into its kernels; a schedule has
    three or so. read: makes the batch of the inputs of a call, as part of the graph."""

    def __init__(self, learner: Learner, read: Callable[..., Points]):
        self.learner, self.read = learner, read
        self.recorded: tuple[float, bool] | None = None

    def __call__(self, inputs: Sequence[Tensor], step: int, augmentation_seed: int | None) -> Tensor:
        task, shifts = self.learner.task, []
        if augmentation_seed is not None:
            drawn = draw_shifts(task, len(inputs[0]), augmentation_seed).to(self.learner.conditions.device)
            shifts = [drawn.offsets, drawn.flipped]
        wanted = task.learning_rate_at(step), bool(shifts)
        if wanted != self.recorded:
            set_learning_rate(self.learner, step)
            self.captured, self.recorded = Captured(self.learner, partial(self._step, bool(shifts))), wanted
        return self.captured(*shifts, *inputs)[0].clone()

    def _step(self, augmented: bool, *given: Tensor) -> tuple[Tensor]:
        shifts, inputs = (Shifts(*given[:2]), given[2:]) if augmented else (None, given)
        self.learner.optimiser.zero_grad()
        return (descend(self.learner, loss_shifted(self.learner, self.read(*inputs), shifts)),)
