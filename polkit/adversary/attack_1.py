"""Attack I (Algorithm 3), the strawman: train afresh, then force the very last update to land on W_T."""

from pathlib import Path

import torch
from torch import Tensor

from polkit.adversary.forge import already_made, spoof_place, train_on_the_plan, write_spoof
from polkit.adversary.perturb import Batch, Passes, Perturbation, passes_of, squared_norm, weight_gradient
from polkit.adversary.plan import Plan, make_plan
from polkit.proof import Proof, write_checkpoint
from polkit.training import (
    Checkpoint,
    Conditions,
    Learner,
    Points,
    Progress,
    Task,
    applied,
    distances,
    initial_checkpoint,
)
from polkit.verifier import Calibration

SHARE = 0.1  # of δ, the plan's γ, which this attack does not use


def attack_1(
    final: Checkpoint,
    task: Task,
    *,
    spoof_steps: int,
    seed: int = 0,
    calibration: Calibration | None = None,
    iterations: int = 20,
    noise_weight: float = 1e-3,
    conditions: Conditions = Conditions(),
    out: str | Path | None = None,
    keep_failed: bool = True,
    progress: Progress = True,
) -> Proof:
    """A spoof of f_{W_T} that trains for T' - 1 steps and perturbs one batch, so that step T' should end at W_T.

    iterations: the budget of the while loop of line 22, d(W'_T', W_T) > δ, which the paper leaves without one ·
    keep_failed: when it is spent, write the spoof as it stands; its trace says how far in l2 it missed. Arguments
    as in `attack_2`.
    """
    plan = make_plan(
        final,
        task,
        spoof_steps=spoof_steps,
        seed=seed,
        conditions=conditions,
        calibration=calibration,
        movement_limit=SHARE,
    )
    settings = {"iterations": iterations, "noise_weight": noise_weight}
    with spoof_place(plan, "attack-1", settings, out) as (folder, partial):
        if partial is None:
            return already_made(plan, folder, keep_failed)
        first = initial_checkpoint(task, plan.seed)
        write_checkpoint(partial, 0, first)
        with applied(conditions):
            passes = passes_of(Learner(task, conditions))
            passes.learner.load(first)
            train_on_the_plan(passes, plan, partial, spoof_steps - 1, "attack-1", progress)
            batch, momentum, row = land_on(passes, plan, **settings)
        write_checkpoint(partial, spoof_steps, Checkpoint(final.weights, final.buffers, momentum))
        missed = (
            ""
            if row["missed_over_threshold"] <= 1
            else (
                f"the last update does not end within δ of W_T after {iterations} iterations: it misses by "
                f"{row['missed_over_threshold']:.3g} δ, {row['missed_after']:.3g} in l2 "
                f"({row['missed_before']:.3g} before)"
            )
        )
        return write_spoof(plan, partial, folder, [batch], [row], missed=missed, keep_failed=keep_failed)


def land_on(passes: Passes, plan: Plan, *, iterations: int, noise_weight: float) -> tuple[Batch, dict, dict]:
    """updateDataPoints(W_{T'-1}, W_T), lines 18-30: minimise d(W_{T'-1} + η∇, W_T) + d(R, 0)."""
    learner, step = passes.learner, len(plan.batches) - 1
    before, batch = learner.snapshot(), plan.batch(step)
    task, rate = plan.task, plan.task.learning_rate_at(step)
    # Without the new gradient, the update would end here; what is missing to W_T is all that R can supply.
    missing = {}
    for name, weight in before.weights.items():
        pull = task.momentum * before.momentum[name] + task.weight_decay * weight
        missing[name] = (weight - rate * pull - plan.final.weights[name]).to(plan.conditions.device)

    def distance_left(images: Tensor) -> tuple[Tensor, Tensor, None]:
        _, *gradient = weight_gradient(learner, Points(images, batch.points.labels), batch.augmentation_seed)
        value = squared_norm([gap - rate * part for gap, part in zip(missing.values(), gradient, strict=True)])
        return value, torch.autograd.grad(value, images)[0], None

    def reached() -> dict[str, Tensor]:
        learner.load(before)
        passes.update(batch.points, step=step, augmentation_seed=batch.augmentation_seed)
        plan.meter.charge("update")
        return learner.snapshot().weights

    wanted = plan.final.weights
    row = {"step": step, "missed_before": distances(reached(), wanted)["l2"], "iterations": iterations}
    perturbation = Perturbation(learner.unit_pixels(batch.points.images), distance_left, noise_weight)
    learner.load(before)
    for _ in range(iterations):
        perturbation.improve()
    plan.meter.charge("objective", perturbation.evaluations)
    batch = Batch(Points(perturbation.images(), batch.points.labels), batch.augmentation_seed)
    ended = reached()
    row |= {
        "missed_after": distances(ended, wanted)["l2"],
        "evaluations": perturbation.evaluations,
        "missed_over_threshold": SHARE * plan.over_limit(ended, wanted),
    }
    return batch, learner.snapshot().momentum, row
