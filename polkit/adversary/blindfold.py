"""Blindfold top-Q (Fang et al. 2023): make the updates that the verifier will pick real, and make up the rest."""

from pathlib import Path

from polkit.adversary.momentum import needs_momentum, push, run_interval
from polkit.adversary.path import at_rest, on_the_path
from polkit.adversary.perturb import passes_of
from polkit.adversary.plan import Plan, make_plan
from polkit.adversary.spoof import already_made, spoof_place, write_spoof
from polkit.calibration import Calibration
from polkit.checkpoints import write_checkpoint
from polkit.distance import distances
from polkit.progress import Progress, reported
from polkit.proof import Proof
from polkit.task import Task
from polkit.training import Checkpoint, Conditions, applied, make_learner

MADE_UP = 0.5  # a made-up interval moves at most this share of the least real one of its epoch


def blindfold_top_q(final: Checkpoint, task: Task, *, spoof_steps: int, seed: int = 0,
                    calibration: Calibration | None = None, top_q: int = 1, corrections: int = 2,
                    conditions: Conditions = Conditions(), out: str | Path | None = None,
                    progress: Progress = True) -> Proof:  # fmt: skip
    """A spoof that only a verifier who looks elsewhere than at the Q largest updates of each epoch can tell.

    In each epoch Q intervals are computed, from momenta that push them far, and recorded with the very state in which
    they end: they reproduce like any honest interval. Between them stand intervals that were never computed and move
    less. Fang et al. use a huge claimed learning rate for the push; a borrowed momentum needs no claim.
    top_q: Q that the verifier is expected to use · corrections: as in `borrowed_momentum`. Other arguments as in
    `attack_2`. The trace says for each interval whether it is real.
    Raises ValueError if T' is shorter than two epochs, some epoch has no room for Q made-up
    intervals, or the task has no momentum to borrow.
    """
    needs_momentum(task)
    plan = make_plan(final, task, spoof_steps=spoof_steps, seed=seed, conditions=conditions, calibration=calibration)
    real = real_intervals(plan, top_q)
    with spoof_place(plan, "blindfold", {"top_q": top_q, "corrections": corrections}, out) as (folder, partial):
        if partial is None:
            return already_made(plan, folder)
        trace, least = [], {}
        pushes, pushed = len(real) - 1, 0
        with applied(conditions):
            passes = passes_of(make_learner(task, conditions))
            now = plan.first
            for start in reported(plan.starts, total=len(plan.starts), title="blindfold", progress=progress):
                epoch = start // task.steps_per_epoch
                if start == 0:
                    left, after = now, run_interval(passes, plan, start, now)
                elif start in real:
                    pushed += 1
                    # The last push stops short of W_T, so that the made-up interval behind it has a way to go.
                    aim = Checkpoint(on_the_path(now, final, min(1 / (pushes - pushed + 1), 0.98)), {}, {})
                    left, after = push(passes, plan, start, now, aim, corrections)
                else:
                    left, after = now, made_up(plan, now, least[epoch], last=start == plan.starts[-1])
                moved = distances(after.weights, left.weights)["l2"]
                if start in real:
                    least[epoch] = min(moved, least.get(epoch, moved))
                trace.append({"step": start, "real": start in real, "moved": moved})
                write_checkpoint(partial, start, left)
                now = after
        write_checkpoint(partial, spoof_steps, Checkpoint(final.weights, final.buffers, now.momentum))
        return write_spoof(plan, partial, folder, [], trace)


def shortest_blindfold(task: Task, top_q: int = 1) -> int | None:
    """The least T' for which `blindfold_top_q` has room, or None if an epoch has fewer than 2 Q intervals."""
    interval, epoch = task.checkpoint_interval, task.steps_per_epoch
    if 2 * top_q * interval > epoch:
        return None
    first = -(-epoch // interval) * interval  # where the first interval of the second epoch starts
    return first + 2 * top_q * interval


def real_intervals(plan: Plan, top_q: int) -> set[int]:
    """The first, third, fifth … interval of each epoch, Q in all; a made-up one follows each, so that no real one
    starts from the momentum with which another has ended."""
    epochs: dict[int, list[int]] = {}
    for start in plan.starts:
        epochs.setdefault(start // plan.task.steps_per_epoch, []).append(start)
    if len(epochs) < 2:
        raise ValueError(f"T' = {len(plan.batches)} steps lie within one epoch of S = {plan.task.steps_per_epoch}: "
                         "the first epoch starts without momentum, the second crosses")  # fmt: skip
    for epoch, starts in epochs.items():
        if len(starts) < 2 * top_q:
            raise ValueError(f"epoch {epoch} has {len(starts)} intervals in T' = {len(plan.batches)} steps: "
                             f"{top_q} real and {top_q} made-up ones need {2 * top_q}")  # fmt: skip
    return {start for starts in epochs.values() for start in starts[: 2 * top_q : 2]}


def made_up(plan: Plan, now: Checkpoint, allowed: float, last: bool) -> Checkpoint:
    """Where an interval ends that nobody computed: a little nearer to W_T, at rest; the last one at W_T itself."""
    if last:
        return Checkpoint(plan.final.weights, plan.final.buffers, at_rest(plan.final.weights))
    left = distances(plan.final.weights, now.weights)["l2"]
    weights = on_the_path(now, plan.final, min(0.5, MADE_UP * allowed / left))
    return Checkpoint(weights, now.buffers, at_rest(weights))
