"""Borrowed momentum: a spoof that needs neither adversarial examples nor a fine path, only an optimiser's state.

A checkpoint holds the momentum with which the next interval begins. A verifier that loads it, as it must, but does
not compare it with where the interval before has ended, lets the adversary push the weights wherever he likes.
"""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from polkit.adversary.forge import already_made, as_recorded, spoof_place, train_on_the_plan, write_spoof
from polkit.adversary.path import at_rest, on_the_path, perturbation
from polkit.adversary.perturb import Passes, passes_of
from polkit.adversary.plan import Plan, make_plan
from polkit.proof import Proof, checkpoint_name, read_checkpoint, write_checkpoint
from polkit.training import (
    Checkpoint,
    Conditions,
    Learner,
    Progress,
    Task,
    applied,
    distances,
    initial_checkpoint,
    reported,
)
from polkit.verifier import Calibration


def borrowed_momentum(
    final: Checkpoint,
    task: Task,
    *,
    spoof_steps: int,
    seed: int = 0,
    calibration: Calibration | None = None,
    corrections: int = 2,
    rest: int = 2,
    off_path: float = 0.0,
    fresh_start: bool = False,
    conditions: Conditions = Conditions(),
    out: str | Path | None = None,
    progress: Progress = True,
) -> Proof:
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
        raise ValueError(
            f"T' = {spoof_steps} steps are fewer than {rest + 2} intervals of k = {interval}: one to "
            f"train, one to cross, {rest} to rest"
        )
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
            passes = passes_of(Learner(task, conditions))
            now = plan.first
            for number, start in enumerate(
                reported(plan.starts, total=len(plan.starts), title="borrowed-momentum", progress=progress)
            ):
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


def push(
    passes: Passes, plan: Plan, start: int, now: Checkpoint, aim: Checkpoint, corrections: int
) -> tuple[Checkpoint, Checkpoint]:
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
    passes.learner.load(first)
    for step in range(start, start + plan.task.checkpoint_interval):
        batch = plan.batch(step)
        passes.update(batch.points, step=step, augmentation_seed=batch.augmentation_seed)
        plan.meter.charge("update")
    return as_recorded(plan, passes.learner.snapshot())


MADE_UP = 0.5  # a made-up interval moves at most this share of the least real one of its epoch


def blindfold_top_q(
    final: Checkpoint,
    task: Task,
    *,
    spoof_steps: int,
    seed: int = 0,
    calibration: Calibration | None = None,
    top_q: int = 1,
    corrections: int = 2,
    conditions: Conditions = Conditions(),
    out: str | Path | None = None,
    progress: Progress = True,
) -> Proof:
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
            passes = passes_of(Learner(task, conditions))
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
        raise ValueError(
            f"T' = {len(plan.batches)} steps lie within one epoch of S = {plan.task.steps_per_epoch}: "
            "the first epoch starts without momentum, the second crosses"
        )
    for epoch, starts in epochs.items():
        if len(starts) < 2 * top_q:
            raise ValueError(
                f"epoch {epoch} has {len(starts)} intervals in T' = {len(plan.batches)} steps: "
                f"{top_q} real and {top_q} made-up ones need {2 * top_q}"
            )
    return {start for starts in epochs.values() for start in starts[: 2 * top_q : 2]}


def made_up(plan: Plan, now: Checkpoint, allowed: float, last: bool) -> Checkpoint:
    """Where an interval ends that nobody computed: a little nearer to W_T, at rest; the last one at W_T itself."""
    if last:
        return Checkpoint(plan.final.weights, plan.final.buffers, at_rest(plan.final.weights))
    left = distances(plan.final.weights, now.weights)["l2"]
    weights = on_the_path(now, plan.final, min(0.5, MADE_UP * allowed / left))
    return Checkpoint(weights, now.buffers, at_rest(weights))


def hidden_crossing(
    final: Checkpoint,
    task: Task,
    *,
    spoof_steps: int,
    seed: int = 0,
    calibration: Calibration | None = None,
    corrections: int = 2,
    conditions: Conditions = Conditions(),
    out: str | Path | None = None,
    progress: Progress = True,
) -> Proof:
    """A spoof of which all intervals but two are real, and the two are nowhere large.

    Whoever replays large updates finds a jump to another model, unless the jump is real. So T' - 3k steps are trained
    from a fresh W_0, as an honest prover trains. Then an interval that moves nothing claims to end with a momentum that
    carries the weights to W_T; it was never computed. The next starts from there and is computed: the largest update
    of all, and it reproduces. The last claims to end at W_T, and was not computed again. Only a lot that falls on one
    of the two tells, however small the δ. With redrawn augmentation the jump errs by more than δ at the learning rate
    with which `digits` begins (1.8 δ), and by less from the first drop on.
    corrections: as in `borrowed_momentum`. Other arguments as in `attack_2`. The trace says how far the jump went.
    Raises ValueError if T' is shorter than four intervals, if its last two lie in two epochs, so that the landing would
    be the largest update of its own, or if the task has no momentum to borrow.
    """
    needs_momentum(task)
    k = task.checkpoint_interval
    if crossing_length(task, spoof_steps, spoof_steps) is None:
        raise ValueError(
            f"T' = {spoof_steps} steps are no crossing of k = {k}: it takes 4 intervals or more, the last "
            "two of them in one epoch"
        )
    plan = make_plan(final, task, spoof_steps=spoof_steps, seed=seed, conditions=conditions, calibration=calibration)
    plan = replace(plan, first=initial_checkpoint(task, plan.seed))
    with spoof_place(plan, "hidden-crossing", {"corrections": corrections}, out) as (folder, partial):
        if partial is None:
            return already_made(plan, folder)
        write_checkpoint(partial, 0, plan.first)
        trained, jump, landing = (spoof_steps - before * k for before in (3, 2, 1))
        with applied(conditions):
            passes = passes_of(Learner(task, conditions))
            passes.learner.load(plan.first)
            train_on_the_plan(passes, plan, partial, trained, "hidden-crossing", progress)
            own = read_checkpoint(partial / checkpoint_name(trained), task)
            left, reached = push(passes, plan, jump, own, Checkpoint(final.weights, {}, {}), corrections)
        write_checkpoint(partial, jump, left)
        write_checkpoint(partial, landing, reached)
        write_checkpoint(partial, spoof_steps, Checkpoint(final.weights, final.buffers, at_rest(final.weights)))
        moved = distances(reached.weights, left.weights)["l2"]
        return write_spoof(plan, partial, folder, [], [{"step": jump, "moved": moved}])


def crossing_length(task: Task, least: int, most: int | None = None) -> int | None:
    """The shortest T' from `least` to `most` (default: T) that `hidden_crossing` can have; None if there is none."""
    k = task.checkpoint_interval
    for steps in range(max(4, -(-least // k)) * k, (most or task.steps) + 1, k):
        if (steps - k) // task.steps_per_epoch == (steps - 2 * k) // task.steps_per_epoch:
            return steps
    return None
