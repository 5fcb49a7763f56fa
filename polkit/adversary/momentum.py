"""Borrowed momentum: a spoof that needs neither adversarial examples nor a fine path, only an optimiser's state.

A checkpoint holds the momentum with which the next interval begins. A verifier that loads it, as it must, but does
not compare it with where the interval before has ended, lets the adversary push the weights wherever he likes.
"""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from polkit.adversary.path import on_the_path, perturbation
from polkit.adversary.perturb import Passes, passes_of
from polkit.adversary.plan import Plan, make_plan
from polkit.adversary.spoof import already_made, as_recorded, spoof_place, write_spoof
from polkit.calibration import Calibration
from polkit.checkpoints import write_checkpoint
from polkit.distance import distances
from polkit.progress import Progress, reported
from polkit.proof import Proof
from polkit.task import Task
from polkit.training import (
    Checkpoint,
    Conditions,
    applied,
    initial_checkpoint,
    load,
    make_learner,
    snapshot,
)  # fmt: skip


def borrowed_momentum(final: Checkpoint, task: Task, *, spoof_steps: int, seed: int = 0,
                      calibration: Calibration | None = None, corrections: int = 2, rest: int = 2,
                      off_path: float = 0.0, fresh_start: bool = False,
                      conditions: Conditions = Conditions(), out: str | Path | None = None,
                      progress: Progress = True) -> Proof:  # fmt: skip
    """A spoof whose every update is real, on the data set's own batches, from momenta that nobody has earned.

    The first interval is trained, since the momentum of W_0 must be zero. Each later one starts from the momentum v
    that would carry the weights to the next point of the straight path without any gradient, corrected by what a
    trial run misses; the nearest trial is recorded. The path ends `rest` intervals early: the normalisation buffers
    need time to become f_{W_T}'s.
    corrections: trial runs of k updates for each interval, besides the first · off_path: how far every other
    checkpoint of the crossing leaves the straight path, as a share of its length, against a verifier who looks for
    straight paths · fresh_start: W_0 is drawn from the seed as an honest prover draws it, not sorted. Other arguments
    as in `attack_2`; the paper knows no such spoof, and the thresholds of a calibration are not used.
    Raises ValueError if T' is shorter than `rest` + 2 intervals, or if the task has no momentum to borrow.
    """
    needs_momentum(task)
    interval = task.checkpoint_interval
    if spoof_steps < (rest + 2) * interval:
        raise ValueError(f"T' = {spoof_steps} steps are fewer than {rest + 2} intervals of k = {interval}: one to "
                         f"train, one to cross, {rest} to rest")  # fmt: skip
    plan = make_plan(final, task, spoof_steps=spoof_steps, seed=seed, conditions=conditions, calibration=calibration)
    settings = {"corrections": corrections, "rest": rest}
    settings |= {"crossing_off_path": off_path} if off_path else {}
    if fresh_start:
        plan, settings = replace(plan, first=initial_checkpoint(task, plan.seed)), settings | {"fresh_start": True}
    with spoof_place(plan, "borrowed-momentum", settings, out) as (folder, partial):
        if partial is None:
            return already_made(plan, folder)
        trace = []
        crossing = len(plan.starts) - 1 - rest
        with applied(conditions):
            passes = passes_of(make_learner(task, conditions))
            now = plan.first
            for number, start in enumerate(reported(plan.starts, total=len(plan.starts), title="borrowed-momentum",
                                                    progress=progress)):  # fmt: skip
                if number == 0:
                    left, reached = now, run_interval(passes, plan, start, now)
                    trained = aim = reached
                else:
                    aim = Checkpoint(_waypoint(plan, trained, number, crossing, off_path), {}, {})
                    left, reached = push(passes, plan, start, now, aim, corrections)
                write_checkpoint(partial, start, left)
                trace.append({"step": start, "missed": distances(reached.weights, aim.weights)["l2"]})
                now = Checkpoint(aim.weights, reached.buffers, reached.momentum)
        # The last checkpoint must be the model that is claimed; nothing starts from its momentum.
        write_checkpoint(partial, spoof_steps, Checkpoint(final.weights, final.buffers, now.momentum))
        return write_spoof(plan, partial, folder, [], trace)


def _waypoint(plan: Plan, trained: Checkpoint, number: int, crossing: int, off_path: float) -> dict[str, Tensor]:
    """Where the interval of this number is to end: on the straight path, or for every other one beside it."""
    straight = on_the_path(trained, plan.final, min(1.0, number / crossing))
    if not off_path or number >= crossing or number % 2 == 0:
        return straight
    away = perturbation(plan.final.weights, plan.seed)
    nothing = {name: torch.zeros_like(value) for name, value in away.items()}
    length = distances(trained.weights, plan.final.weights)["l2"] / distances(away, nothing)["l2"]
    return {name: value + off_path * length * away[name] for name, value in straight.items()}


def needs_momentum(task: Task) -> None:
    if not task.momentum:
        raise ValueError(f"task {task.name} trains without momentum: there is none to borrow")


def push(passes: Passes, plan: Plan, start: int, now: Checkpoint, aim: Checkpoint,
         corrections: int) -> tuple[Checkpoint, Checkpoint]:  # fmt: skip
    """The checkpoint to record at `start`, with the momentum it needs, and where k updates from it end."""
    task = plan.task
    # Without gradients step i moves the weights by -η_i μ^i v, i = 1 … k.
    carried = sum(task.learning_rate_at(start + i) * task.momentum ** (i + 1) for i in range(task.checkpoint_interval))
    momentum = {name: (value - aim.weights[name]) / carried for name, value in now.weights.items()}
    trials = []
    for _ in range(1 + corrections):
        left = Checkpoint(now.weights, now.buffers, momentum)
        reached = run_interval(passes, plan, start, left)
        trials.append((distances(reached.weights, aim.weights)["l2"], left, reached))
        momentum = {
            name: value + (reached.weights[name] - aim.weights[name]) / carried for name, value in momentum.items()
        }
    # A correction may overshoot where gradients change fast.
    _, left, reached = min(trials, key=lambda trial: trial[0])
    return left, reached


def run_interval(passes: Passes, plan: Plan, start: int, first: Checkpoint) -> Checkpoint:
    """Where k updates on the plan's own batches end, in the precision in which a checkpoint is recorded."""
    load(passes.learner, first)
    for step in range(start, start + plan.task.checkpoint_interval):
        batch = plan.batch(step)
        passes.update(batch.points, step=step, augmentation_seed=batch.augmentation_seed)
        plan.meter.charge("update")
    return as_recorded(plan, snapshot(passes.learner))
