"""Attack I (Algorithm 3), the strawman: train afresh, then force the very last update to land on W_T."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Unpack

import torch
from torch import Tensor

from polkit.adversary.forge import Made, forge, trained, updated
from polkit.adversary.path import at_rest
from polkit.adversary.perturb import Perturbation, squared_norm, stepped, try_update, weight_gradient
from polkit.adversary.plan import Batch, Common, Plan, make_plan
from polkit.proof import Proof
from polkit.training import Checkpoint, Points, Task, distances
from polkit.verifier import Calibration


def attack_1(
    final: Checkpoint,
    task: Task,
    *,
    calibration: Calibration | None = None,
    iterations: int = 20,
    fresh: bool = False,
    keep_failed: bool = True,
    **common: Unpack[Common],
) -> Proof:
    """A spoof of f_{W_T} that trains for T' - 1 steps and perturbs one batch, so that step T' should end at W_T.

    calibration: tells δ, to say how far the last update misses
    iterations: the budget of the while loop of line 22, d(W'_T', W_T) > δ, which the paper leaves without one
    fresh: start from a W_0 that is drawn as a prover draws it; the public code of Zhang et al. sorts it, as we do
    keep_failed: write the spoof even if that is spent and W_T further off than δ; otherwise AttackFailed is raised
    common: as every spoof, see `Common`
    """
    plan = make_plan(final, task, **common).limited(calibration)
    plan = plan.fresh() if fresh else plan
    return forge(plan, "attack-1", trained_to_land, {"iterations": iterations}, keep_failed)


def trained_to_land(plan: Plan, *, iterations: int) -> Iterator[Made]:
    """Honest work up to W_{T'-1}, then updateDataPoints(W_{T'-1}, W_T), lines 18-30: every iteration is taken."""
    learner, wanted, start, step = plan.learner(), plan.final, plan.starts[-1], len(plan.batches) - 1
    reached = yield from trained(learner, plan, start)
    *but_last, batch = plan.interval(start)
    before = updated(learner, plan, start, reached, but_last)
    # What an update without a gradient would miss is all that R can supply.
    ended = stepped(plan.task, step, before, at_rest(before.weights, {}).momentum.values())
    missing = [(value - wanted.weights[name]).to(plan.conditions.device) for name, value in ended.items()]

    def distance_left(images: Tensor, _: list[Batch]) -> tuple[Tensor, Tensor, float]:
        """Line 25: the squared l2 of what the update, with momentum and decay, misses of W_T; ‖R‖² weighs 1e-3."""
        images.requires_grad_()
        points, rate = Points(images[0], batch.points.labels), plan.task.learning_rate_at(step)
        _, *gradient = weight_gradient(learner, points, batch.augmentation_seed)
        plan.meter.charge("objective")
        value = squared_norm([gap - rate * part for gap, part in zip(missing, gradient, strict=True)])
        return value, torch.autograd.grad(value, images)[0], math.nan  # nobody asks: there is no stopping test

    tried = partial(try_update, learner, plan, step, before, wanted)
    loop = Perturbation(learner, before, [batch], tried, distance_left, iterations, stopping_test=False)
    batches, update, _ = loop.result()
    row = {
        "step": step,
        "missed_before": distances(loop.untouched.reached.weights, wanted.weights)["l2"],
        "iterations": iterations,
        "missed_after": distances(update.reached.weights, wanted.weights)["l2"],
        "evaluations": iterations,
        "missed_over_threshold": update.over_limit,
    }
    missed = (
        f"the last update does not end within δ of W_T after {iterations} iterations: the largest error is "
        f"{update.over_limit:.3g} δ; in l2 it is {row['missed_after']:.4g}, before them {row['missed_before']:.4g}"
    )
    claimed = Checkpoint(wanted.weights, wanted.buffers, update.reached.momentum)
    yield Made(len(plan.batches), claimed, batches, [row], "" if update.over_limit <= 1 else missed)
