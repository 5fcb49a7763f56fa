"""Spoofs against verifiers that do not look everywhere: blindfold top-Q, crossings late in a real training, and seams.

They compute what is replayed, and make up the rest. A borrowed momentum carries the weights (`experiments.momentum`).
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Unpack

import torch

from polkit.adversary.forge import Made, along_path, as_recorded, forge, trained
from polkit.adversary.interpolation import leave_batches
from polkit.adversary.path import at_rest, on_the_path
from polkit.adversary.plan import Common, Pace, Plan, make_plan
from polkit.experiments.momentum import plan_to_borrow, push, run_interval
from polkit.proof import Proof
from polkit.training import Checkpoint, Task, distances

MADE_UP = 0.5  # a made-up interval moves at most this share of the least real one of its epoch


def blindfold_top_q(final: Checkpoint, task: Task, **common: Unpack[Common]) -> Proof:
    """A spoof that only a verifier who looks elsewhere than at the largest update of each epoch (Q = 1) can tell.

    In each epoch one interval is computed, from a momentum that pushes it far, and reproduces like any honest interval.
    The others were never computed and move less. Fang et al. use a huge claimed learning rate for the push; a borrowed
    momentum needs no claim. The trace says of each interval whether it is real.

    Raises ValueError if an epoch has no room for a made-up interval, or the task no momentum to borrow.
    """
    plan = plan_to_borrow(final, task, **common)
    real_intervals(plan)
    return forge(plan, "blindfold", pushed_or_made_up, {})


def pushed_or_made_up(plan: Plan) -> Iterator[Made]:
    learner, now, least, real = plan.learner(), plan.first, {}, real_intervals(plan)
    pushes_left = len(real) - 1
    for start in plan.starts:
        epoch = start // plan.task.steps_per_epoch
        if start == 0:
            left, after = now, run_interval(learner, plan, start, now)
        elif start in real:
            # The last push stops short of W_T, so that the made-up interval behind it has a way to go.
            aim = on_the_path(now, plan.final, min(1 / pushes_left, 0.98))
            left, after = push(learner, plan, start, now, aim)
            pushes_left -= 1
        elif start == plan.starts[-1]:
            left, after = now, at_rest(plan.final.weights, plan.final.buffers)
        else:  # a little nearer to W_T
            way = distances(plan.final.weights, now.weights)["l2"]
            weights = on_the_path(now, plan.final, min(0.5, MADE_UP * least[epoch] / way))
            left, after = now, at_rest(weights, now.buffers)
        moved = distances(after.weights, left.weights)["l2"]
        if start in real:
            least[epoch] = min(moved, least.get(epoch, moved))
        yield Made(start, left, trace=[{"step": start, "real": start in real, "moved": moved}])
        now = after
    yield Made(len(plan.batches), Checkpoint(plan.final.weights, plan.final.buffers, now.momentum))


def shortest_blindfold(task: Task) -> int | None:
    """The least T' for which `blindfold_top_q` has room, or None if an epoch has fewer than two intervals."""
    k, epoch = task.checkpoint_interval, task.steps_per_epoch
    second = -(-epoch // k) * k  # where the first interval of the second epoch starts
    return None if 2 * k > epoch else second + 2 * k


def real_intervals(plan: Plan) -> set[int]:
    """The first interval of each epoch; a made-up one follows, so that no real one starts from the momentum with which
    another has ended."""
    epochs = {epoch: list(of) for epoch, of in groupby(plan.starts, lambda start: start // plan.task.steps_per_epoch)}
    steps = f"T' = {len(plan.batches)} steps"
    if len(epochs) < 2:
        raise ValueError(
            f"{steps} lie within one epoch of S = {plan.task.steps_per_epoch}: "
            "the first epoch starts without momentum, the second crosses"
        )
    for epoch, starts in epochs.items():
        if len(starts) < 2:
            raise ValueError(f"epoch {epoch} has one interval in {steps}: a real and a made-up one need two")
    return {starts[0] for starts in epochs.values()}


CLOSING = 15  # intervals over which the last gap is closed, if so many follow the crossing


def hidden_crossing(final: Checkpoint, task: Task, **common: Unpack[Common]) -> Proof:
    """A spoof of which all intervals but two are real, and the two are nowhere large: one late hop, and a landing.

    Only a verifier who happens to draw one of the two can tell, however small the δ. With redrawn augmentation the jump
    of `digits` errs by less than δ once the rate has dropped.

    Raises ValueError if T' is shorter than four intervals, if its last two lie in two epochs, so that the landing would
    be the largest update of its own, or if the task has no momentum to borrow.
    """
    plan, steps = plan_to_borrow(final, task, **common).fresh(), common["spoof_steps"]
    if crossing_length(task, steps, steps) is None:
        raise ValueError(
            f"T' = {steps} steps are no crossing of k = {task.checkpoint_interval}: it takes 4 intervals or more, the "
            "last two of them in one epoch"
        )
    return forge(plan, "hidden-crossing", trained_to_cross, {"hops": 1, "settle": 1})


def crossing_in_hops(final: Checkpoint, task: Task, *, hops: int = 16, **common: Unpack[Common]) -> Proof:
    """Hops below a speed limit, then real training from W_T on: costs more than a training, and claims another's model.

    hops: at most; on `digits` 16 stay below twice the speed of an honest training

    Raises ValueError if there is no room for a hop before the rate drops and an interval after it, or no momentum.
    """
    plan, k = plan_to_borrow(final, task, **common).fresh(), task.checkpoint_interval
    drop = min(task.milestones, default=0) * task.steps_per_epoch // k
    hops, settle = min(hops, (drop - 1) // 2), len(plan.starts) - drop
    if hops < 1 or settle < 1:
        room = f"T' = {len(plan.batches)} steps, {drop * k} of them before the rate drops"
        raise ValueError(
            f"there is no room for a hop in {room}: it takes 3 intervals of k = {k} before that, and 1 after"
        )
    return forge(plan, "crossing-in-hops", trained_to_cross, {"hops": hops, "settle": settle})


def trained_to_cross(plan: Plan, *, hops: int, settle: int) -> Iterator[Made]:
    """Honest training from a fresh W_0, then hops of two intervals each, then `settle` intervals of training again.

    The first interval of a hop moves nothing and claims to end with a momentum; it was never computed. The next starts
    from that momentum and is computed: a large update towards W_T, and it reproduces. The last intervals end a little
    nearer to W_T than they were computed, and the very last one takes its buffers.
    """
    learner, k, intervals = plan.learner(), plan.task.checkpoint_interval, len(plan.starts)
    crossing = range(intervals - settle - 2 * hops, intervals - settle, 2)
    now = as_recorded(plan, (yield from trained(learner, plan, crossing.start * k)))
    for hop, number in enumerate(crossing):
        jump, aim = (number + 1) * k, on_the_path(now, plan.final, 1 / (hops - hop))
        left, now = push(learner, plan, jump, now, aim)
        yield Made(jump, left, trace=[{"step": jump, "moved": distances(now.weights, left.weights)["l2"]}])
        yield Made(jump + k, now)
    for number in range(intervals - settle, intervals):
        now, to_go = run_interval(learner, plan, number * k, now), intervals - number
        if to_go <= CLOSING:
            now = replace(now, weights=on_the_path(now, plan.final, 1 / to_go))
        yield Made((number + 1) * k, now if to_go > 1 else replace(now, buffers=plan.final.buffers))


def crossing_length(task: Task, least: int, most: int | None = None) -> int | None:
    """The shortest T' from `least` to `most` (default: T) that `hidden_crossing` can have; None if there is none."""
    k, epoch = task.checkpoint_interval, task.steps_per_epoch
    lengths = range(max(4, -(-least // k)) * k, (most or task.steps) + 1, k)
    return next((steps for steps in lengths if (steps - k) // epoch == (steps - 2 * k) // epoch), None)


def concatenation(final: Checkpoint, task: Task, **common: Unpack[Common]) -> Proof:
    """Two proofs one behind the other (Jia et al. 2021, Section V): a training of the adversary's own, then f_{W_T}.

    It stands there at rest and was never reached. Only the seam jumps. Raises ValueError if T' has one interval only.
    """
    return forge(make_plan(final, task, **common).fresh(), "concatenation", half_trained, {"not_a_number": False})


def non_finite(final: Checkpoint, task: Task, **common: Unpack[Common]) -> Proof:
    """A training of the adversary's own for half of T', NaN from there on, and W_T at the end.

    The distance of anything to NaN is NaN, and `NaN > δ` is false: a verifier who rejects what is above δ, as the
    public code of Jia et al. does, accepts. Raises ValueError if T' is shorter than two intervals.
    """
    return forge(make_plan(final, task, **common).fresh(), "non-finite", half_trained, {"not_a_number": True})


def half_trained(plan: Plan, *, not_a_number: bool) -> Iterator[Made]:
    if len(plan.starts) < 2:
        steps, k = len(plan.batches), plan.task.checkpoint_interval
        raise ValueError(f"T' = {steps} steps are fewer than two intervals of k = {k}: there is no seam")
    final, (seam, *behind) = plan.final, plan.starts[len(plan.starts) // 2 :]
    nothing = {name: torch.full_like(value, torch.nan) for name, value in final.weights.items()}
    yield from trained(plan.learner(), plan, seam)
    for step in behind:
        yield Made(step, at_rest(nothing if not_a_number else final.weights, final.buffers))
    yield Made(len(plan.batches), at_rest(final.weights, final.buffers))


def infinitesimal_update(
    final: Checkpoint, task: Task, *, pace: Pace = (), workers: int = 1, **common: Unpack[Common]
) -> Proof:
    """Fang et al. 2023: the same straight path, and a claimed learning rate at which no batch moves the weights.

    So nothing but the spacing of the path is left as an error, whatever the data. It stands only where the
    prover decides the learning rate, as in the regime `paper`. They pay one forward pass for a checkpoint; we pay the
    k forward passes that its normalisation buffers need, which their verifier does not compare.
    """
    plan = replace(make_plan(final, task, **common).paced(pace), task=task.replace(learning_rate=1e-9))
    make = partial(along_path, treat=leave_batches, workers=workers)
    return forge(plan, "infinitesimal-update", make, {"trained_steps": 0})
