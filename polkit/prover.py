"""Algorithm 1: train, and record W_0, W_k, …, W_T, the batch indices, and the signature of every batch."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from polkit.background import in_background
from polkit.captured import updates
from polkit.checkpoints import checkpoint_name, checkpoint_steps, read_checkpoint, write_checkpoint
from polkit.cost import Cost, Meter
from polkit.data import Points, derive_seed, epoch_batches, signature, training_points
from polkit.journal import journal_of
from polkit.places import cache_folder, fresh_folder, versions
from polkit.progress import Progress, reported
from polkit.proof import Proof, needs_points, open_proof, publish, seal, seed_commitment
from polkit.task import Task
from polkit.training import (
    Checkpoint,
    Conditions,
    Learner,
    applied,
    initial_checkpoint,
    load,
    make_learner,
    snapshot,
    unit_costs,
)  # fmt: skip
from polkit.whole import made_alone, stands


class Diverged(ArithmeticError):
    """A training whose loss or state is no longer finite; the text names the step and the learning rate."""


def batch_order(task: Task, seed: int) -> np.ndarray:
    """𝕀: int32 (T, B), the batches of all epochs (Algorithm 1, lines 3-4)."""
    return np.concatenate([epoch_batches(task, seed, epoch) for epoch in range(task.epochs)])


def augmentation_order(task: Task, seed: int, steps: int) -> np.ndarray:
    """int64 (T,): one seed per step, from which that batch's shifts and flips are drawn."""
    return np.array([derive_seed(seed, "augmentation", step) for step in range(steps)], dtype=np.int64)


def train(task: Task, seed: int, conditions: Conditions, points: Points, *, start: int = 0,
          state: Checkpoint | None = None, record: Callable[[int, Checkpoint], None] | None = None,
          progress: Progress = False) -> Checkpoint:  # fmt: skip
    """Lines 2-7: updates `start` … T-1 from `state` (default: W_0 of the seed); returns W_T.

    record(t, W_t) is called at each multiple of k and at T.
    Raises Diverged, before anything that is not finite is recorded. It is looked for where checkpoints are due: at
    every step it would make a GPU wait for the CPU.
    """
    batches, seeds = batch_order(task, seed), augmentation_order(task, seed, task.steps).tolist()
    # All indices at once: a copy at every step would make a GPU wait for the CPU.
    points, batches = points.to(conditions.device), torch.from_numpy(batches).to(conditions.device)
    good, known = start, state or initial_checkpoint(task, seed)

    def take_step(step: int) -> float | Tensor:
        return one_update(batches[step], step=step, augmentation_seed=seeds[step])

    with applied(conditions):
        learner = make_learner(task, conditions)
        one_update = updates(learner, points)
        load(learner, known)
        steps = range(start, task.steps)
        seen: float | Tensor = 0.0  # NaN as soon as a loss is not finite
        for step in reported(steps, initial=start, total=task.steps, title="training", unit="step", progress=progress):
            seen, done = seen + 0 * take_step(step), step + 1
            if done % task.checkpoint_interval and done < task.steps:
                continue
            reached = snapshot(learner) if record or done == task.steps else None
            if not math.isfinite(seen) or (reached and not reached.is_finite()):
                load(learner, known)
                raise _divergence(learner, range(good, done), take_step)
            if record:
                record(done, reached)
                good, known = done, reached
        return snapshot(learner)


def _divergence(learner: Learner, steps: range, take_step: Callable[[int], float | Tensor]) -> Diverged:
    """What to raise: the steps are repeated from where all was finite, to find the one at which that ended."""
    task = learner.task
    for step in steps:
        loss = float(take_step(step))
        if not (math.isfinite(loss) and snapshot(learner).is_finite()):
            found = f"its loss is {loss:.4g}" + (", its update is not finite" if math.isfinite(loss) else "")
            return Diverged(
                f"the training of {task.name} diverged at step {step} of {task.steps}, with a learning rate of "
                f"{task.learning_rate_at(step):g}: {found}; a smaller learning rate may hold"
            )
    return Diverged(f"the training of {task.name} diverged between the steps {steps.start} and {steps.stop}, with a "
                    f"learning rate of {task.learning_rate_at(steps.start):g}, and not when they were repeated: "
                    "these conditions do not compute the same twice")  # fmt: skip


def prove(task: Task, seed: int = 0, *, out: str | Path | None = None, conditions: Conditions = Conditions(),
          progress: Progress = True) -> Proof:  # fmt: skip
    """PoL creation (Algorithm 1): a proof in the folder `out`, or in the cache.

    A proof that is there already is returned as it is; one that was interrupted, at whatever step, goes on
    from its last checkpoint and ends with the same bytes as if it had never stopped. The printed algorithm
    appends W_t after the update that made W_{t+1}; as the text says, we record W_0, W_k, W_2k, ….
    Raises FileExistsError if `out` holds something else, FileNotFoundError if the data set is missing, Diverged if
    the training does; what was recorded until then waits for nothing but to be removed.
    """
    folder = Path(out) if out else cached_proof(task, seed, conditions)
    if stands(folder):
        return _finished(folder, task, seed, conditions)
    with made_alone(folder), applied(conditions):
        return _made(folder, task, seed, conditions, progress)


def _made(folder: Path, task: Task, seed: int, conditions: Conditions, progress: Progress) -> Proof:
    facts = {"task": task.to_json(), "seed": seed, "conditions": conditions.to_json()}
    journal = journal_of(folder, facts | versions())
    partial = journal.partial
    if folder.exists():  # another process has made it meanwhile, or was killed before it could tidy up
        journal.end()
        return _finished(folder, task, seed, conditions)
    points = training_points(task)
    meter = Meter(unit_costs(task, ["update"]))
    start, seconds_before = journal.resume(checkpoint_steps(task.steps, task.checkpoint_interval))

    def record(step: int, checkpoint: Checkpoint) -> None:
        digest = write_checkpoint(partial, step, checkpoint)
        journal.note(step, digest, seconds_before + meter.elapsed())

    if start is None:
        journal.end()  # of a folder that was removed, or of one whose first checkpoint is lost
        fresh_folder(folder)
        journal.begin()
        record(0, initial_checkpoint(task, seed))
        start = 0
    state = read_checkpoint(partial / checkpoint_name(start), task)
    with in_background(record) as recorded:
        train(task, seed, conditions, points, start=start, state=state, record=recorded, progress=progress)
    batches = batch_order(task, seed)
    seal(
        partial, task=task, checkpoint_interval=task.checkpoint_interval, seed=seed, conditions=conditions,
        batches=batches, signatures=signatures_of(points, batches),
        augmentation_seeds=augmentation_order(task, seed, task.steps),
        points=points if needs_points(task) else None,
    )  # fmt: skip
    meter.charge("update", task.steps)
    proof = publish(partial, folder, meter.cost() + Cost(wall_seconds=seconds_before), meter.counts, trace=[])
    journal.end()
    return replace(proof, task=task)


def cached_proof(task: Task, seed: int, conditions: Conditions) -> Path:
    """Where `prove` keeps the proof of these settings, whether it stands there or not."""
    return cache_folder("proofs", task=task.to_json(), seed=seed, conditions=conditions.to_json())


def signatures_of(points: Points, batches: np.ndarray) -> np.ndarray:
    """ℍ: uint8 (T, 32), the signature of each batch (Algorithm 1, line 9)."""
    return np.stack([np.frombuffer(signature(points.take(batch)), np.uint8) for batch in batches])


def _finished(folder: Path, task: Task, seed: int, conditions: Conditions) -> Proof:
    proof = open_proof(folder)
    same = (task.without_place(), seed_commitment(seed), conditions.to_json())
    if (proof.task.without_place(), proof.manifest["seed_commitment"], proof.manifest["conditions"]) != same:
        raise FileExistsError(f"{folder} holds the proof of another task or seed, or of other conditions")
    return replace(proof, task=task)  # the caller knows where its folder of images lies

