"""Spoofs that need no adversarial example: what remains of an attack when its optimisation is taken out."""

from functools import partial
from typing import Unpack

import torch

from polkit.adversary.forge import Treated, along_path, forge, updated
from polkit.adversary.perturb import Passes
from polkit.adversary.plan import Common, Pace, Plan, make_plan
from polkit.proof import Proof
from polkit.training import Checkpoint, Task, whole


def interpolation_only(
    final: Checkpoint,
    task: Task,
    *,
    pace: Pace = (),
    replayed_intervals: int | None = None,
    trained_steps: int = 0,
    workers: int = 1,
    **common: Unpack[Common],
) -> Proof:
    """The ablation of Attacks II and III: the same W_0 and straight path, with the data set's own batches.

    pace: knots (share of the steps, share of the path) for a path that is not evenly divided
    replayed_intervals: how many of the first ones are replayed once, for the normalisation buffers that they end with
        (default: all); the others take forward passes, a third of the cost
    trained_steps: how many of the first steps are trained; the path begins there, where gradients are smaller
    workers, common: as in `attack_2`
    """
    plan = make_plan(final, task, **common).paced(pace)
    replayed = len(plan.starts) if replayed_intervals is None else whole("replayed_intervals", replayed_intervals, 0)
    settings = {"replayed_until": replayed * task.checkpoint_interval, "trained_steps": trained_steps}
    return forge(plan, "interpolation-only", partial(along_path, treat=leave_batches, workers=workers), settings)


def leave_batches(passes: Passes, plan: Plan, start: int, first: Checkpoint, *, replayed_until: int = 0) -> Treated:
    """The buffers after k batches: of a replay, or of forward passes, which leave the weights where they are."""
    learner, own = passes.learner, plan.interval(start)
    if start < replayed_until:
        return [], updated(learner, plan, start, first, own).buffers, []
    learner.load(first)
    with torch.no_grad():
        for batch in own:
            learner.loss(batch.points, batch.augmentation_seed)
            plan.meter.charge("forward")
    return [], learner.snapshot().buffers, []
