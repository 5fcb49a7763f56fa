"""Borrowed momentum: a spoof that needs neither adversarial examples nor a fine path, only an optimiser's state.

A checkpoint holds the momentum with which the next interval begins. A verifier that loads it, as it must, but does
not compare it with where the interval before has ended, lets the adversary push the weights wherever they like.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Unpack

from torch import Tensor

from polkit.adversary.forge import Made, as_recorded, forge, updated
from polkit.adversary.path import at_rest, on_the_path, perturbation
from polkit.adversary.plan import Common, Plan, make_plan
from polkit.proof import Proof
from polkit.training import Checkpoint, Learner, Task, distances


def borrowed_momentum(
    final: Checkpoint,
    task: Task,
    *,
    corrections: int = 2,
    rest: int = 2,
    off_path: float = 0.0,
    fresh_start: bool = False,
    **common: Unpack[Common],
) -> Proof:
    """A spoof whose every update is real, on the data set's own batches, from momenta that nobody has earned.

    The first interval is trained, since the momentum of W_0 must be zero. Each later one starts from the momentum v
    that would carry the weights to the next point of the straight path without any gradient, corrected by what a
    trial run misses; the nearest trial is recorded. The paper knows no such spoof.

    corrections: trial runs of k updates for each interval, besides the first
    rest: by how many intervals the path ends early: the normalisation buffers need time to become f_{W_T}'s
    off_path: how far every other checkpoint of the crossing leaves the straight path, as a share of its length
    fresh_start: draw W_0 as an honest prover draws it, not sorted

    Raises ValueError if T' is shorter than `rest` + 2 intervals, or if the task has no momentum to borrow.
    """
    plan, k = replace(plan_to_borrow(final, task, **common), off_path=off_path), task.checkpoint_interval
    if len(plan.batches) < (rest + 2) * k:
        raise ValueError(
            f"T' = {len(plan.batches)} steps are fewer than {rest + 2} intervals of k = {k}: one to train, one to "
            f"cross, {rest} to rest"
        )
    plan = plan.fresh() if fresh_start else plan
    return forge(plan, "borrowed-momentum", pushed_along, {"corrections": corrections, "rest": rest})


def plan_to_borrow(final: Checkpoint, task: Task, **common: Unpack[Common]) -> Plan:
    if not task.momentum * task.learning_rate:
        raise ValueError(f"task {task.name} trains without momentum or a learning rate: there is nothing to borrow")
    return make_plan(final, task, **common)


def pushed_along(plan: Plan, *, corrections: int, rest: int) -> Iterator[Made]:
    learner, now, crossing = plan.learner(), plan.first, len(plan.starts) - 1 - rest
    for number, start in enumerate(plan.starts):
        if number == 0:
            left, reached = now, run_interval(learner, plan, start, now)
            trained_to = aim = reached.weights
        else:
            aim = waypoint(plan, trained_to, number / crossing, beside=number % 2 == 1)
            left, reached = push(learner, plan, start, now, aim, corrections)
        yield Made(start, left, trace=[{"step": start, "missed": distances(reached.weights, aim)["l2"]}])
        now = Checkpoint(aim, reached.buffers, reached.momentum)
    # The last checkpoint must be the model that is claimed; nothing starts from its momentum.
    yield Made(len(plan.batches), Checkpoint(plan.final.weights, plan.final.buffers, now.momentum))


def waypoint(plan: Plan, trained_to: dict[str, Tensor], share: float, beside: bool) -> dict[str, Tensor]:
    """A point of the straight path from where the training has ended to W_T, or one that lies beside it."""
    straight = on_the_path(Checkpoint(trained_to, {}, {}), plan.final, min(1.0, share))
    if not (beside and plan.off_path and share < 1):
        return straight
    away = perturbation(plan.final.weights, plan.seed)
    length = distances(trained_to, plan.final.weights)["l2"] / distances(away, at_rest(away, {}).momentum)["l2"]
    return {name: value + plan.off_path * length * away[name] for name, value in straight.items()}


def push(
    learner: Learner, plan: Plan, start: int, now: Checkpoint, aim: dict[str, Tensor], corrections: int = 2
) -> tuple[Checkpoint, Checkpoint]:
    """The checkpoint to record at `start`, with the momentum it needs, and where k updates from it end."""
    task = plan.task
    # Without gradients step i moves the weights by -η_i μ^i v, i = 1 … k.
    carried = sum(task.learning_rate_at(start + i) * task.momentum ** (i + 1) for i in range(task.checkpoint_interval))
    momentum = {name: (value - aim[name]) / carried for name, value in now.weights.items()}
    trials = []
    for _ in range(1 + corrections):
        left = Checkpoint(now.weights, now.buffers, momentum)
        reached = run_interval(learner, plan, start, left)
        trials.append((distances(reached.weights, aim)["l2"], left, reached))
        momentum = {name: value + (reached.weights[name] - aim[name]) / carried for name, value in momentum.items()}
    # A correction may overshoot where gradients change fast.
    _, left, reached = min(trials, key=lambda trial: trial[0])
    return left, reached


def run_interval(learner: Learner, plan: Plan, start: int, first: Checkpoint) -> Checkpoint:
    """Where k updates on the plan's own batches end, in the precision in which a checkpoint is recorded."""
    return as_recorded(plan, updated(learner, plan, start, first, plan.interval(start)))
