"""Attack II (Algorithm 4): walk the straight path, and perturb every batch until its update hardly moves."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from polkit.adversary.forge import Forged, forge
from polkit.adversary.perturb import (
    KINDS,
    Batch,
    Passes,
    Perturbation,
    check_second_order,
    first_order,
    slope_by_difference,
    squared_norm,
)
from polkit.adversary.plan import Plan, make_plan
from polkit.proof import Proof
from polkit.training import Checkpoint, Conditions, Points, Progress, Task
from polkit.verifier import Calibration


def attack_2(
    final: Checkpoint,
    task: Task,
    *,
    spoof_steps: int,
    seed: int = 0,
    calibration: Calibration | None = None,
    movement_limit: float = 0.07,
    iterations: int = 10,
    stopping_test: bool = True,
    noise_weight: float = 1e-3,
    second_order: str = "double backward",
    pace: Sequence[tuple[float, float]] = (),
    conditions: Conditions = Conditions(),
    out: str | Path | None = None,
    workers: int = 1,
    keep_failed: bool = True,
    progress: Progress = True,
) -> Proof:
    """A spoof of f_{W_T} in T' steps, whose every batch has been perturbed on its own.

    final: the weights and buffers of W_T · spoof_steps: T' · movement_limit: γ as a share of δ (of the path's
    spacing without a calibration) · iterations: N, the most L-BFGS iterations for a batch · stopping_test:
    leave a batch as soon as its update moves at most γ in every distance (line 25); without it each batch takes
    all N, as the cost formula 31 T' assumes · noise_weight: of ‖R‖² in the objective · second_order: how the
    objective's slope in the images is computed, by a `double backward` or from the `difference` of two gradients in the
    images, which costs 1.7 updates in place of 2.7 · pace: knots (share of the steps, share of the path) for a path
    that is not evenly divided, such as `staged_pace` · workers: threads that share the intervals; the spoof is the same
    byte for byte · keep_failed: write a spoof some of whose batches miss γ all the same, for the verifier to judge;
    `Proof.missed` says so.
    Raises ValueError on a budget no spoof can have, FileExistsError if `out` exists, AttackFailed without keep_failed.
    """
    plan = make_plan(
        final,
        task,
        spoof_steps=spoof_steps,
        seed=seed,
        conditions=conditions,
        calibration=calibration,
        movement_limit=movement_limit,
        pace=pace,
    )
    settings = {
        "iterations": iterations,
        "stopping_test": stopping_test,
        "noise_weight": noise_weight,
        "second_order": check_second_order(second_order),
    }
    return forge(
        plan,
        "attack-2",
        forge_each_batch,
        settings,
        out=out,
        workers=workers,
        progress=progress,
        keep_failed=keep_failed,
    )


def forge_each_batch(
    passes: Passes,
    plan: Plan,
    start: int,
    checkpoint: Checkpoint,
    *,
    iterations: int,
    stopping_test: bool,
    noise_weight: float,
    second_order: str,
) -> Forged:
    """updateDataPoints(W_{t-k}, W_t), Algorithm 4 lines 20-34: a chain of updates W' that hardly leaves W_{t-k}."""
    reached, made, trace = checkpoint, [], []
    for step in range(start, start + plan.task.checkpoint_interval):
        batch, reached, row = settle_batch(
            passes,
            plan,
            step,
            reached,
            iterations=iterations,
            stopping_test=stopping_test,
            noise_weight=noise_weight,
            second_order=second_order,
        )
        made.append(batch)
        trace.append(row)
    return Forged(made, reached.buffers, trace)


def settle_batch(
    passes: Passes,
    plan: Plan,
    step: int,
    before: Checkpoint,
    *,
    iterations: int,
    stopping_test: bool,
    noise_weight: float,
    second_order: str = "double backward",
) -> tuple[Batch, Checkpoint, dict]:
    """Lines 23-32 for one batch: the batch to publish, W'_{i+1}, and what it took.

    Where the update would end follows from the gradient that the objective has at hand, so line 30 is run only
    once that gradient says enough: then on the images as they will be stored, rounded to whole grey levels.
    """
    original = batch = plan.batch(step)
    learner, labels, seed = passes.learner, original.points.labels, original.augmentation_seed
    after, found = try_update(passes, plan, step, before, batch)
    row = {"step": step, "loss_before": found["loss"], "gradient_squared_before": found["gradient_squared"]}
    rate, task = plan.task.learning_rate_at(step), plan.task
    evaluations = done = settled = 0

    def over_limit(gradient: Sequence[Tensor]) -> float:
        reached = {}
        for (name, weight), part in zip(before.weights.items(), gradient, strict=True):
            pull = task.momentum * before.momentum[name] + task.weight_decay * weight
            reached[name] = weight - rate * (pull + part.detach().to("cpu"))
        return plan.over_limit(reached, before.weights)

    def squared_gradient(images: Tensor) -> tuple[Tensor, Tensor, float]:
        value, slope, *gradient = passes.objective(Points(images, labels), seed)
        return value, slope, over_limit(gradient)

    def by_difference(images: Tensor) -> tuple[Tensor, Tensor, float]:
        nonlocal settled
        found = first_order(learner, images[None], [original], [1.0])
        value, over = squared_norm(found.mean), over_limit(found.mean)
        if stopping_test and over <= 1:  # these images stay as they are: nobody needs the slope
            settled += 1
            return value, torch.zeros_like(images), over
        return value, slope_by_difference(learner, images[None], [original], [1.0], found)[0], over

    if not (stopping_test and found["movement_over_limit"] <= 1):
        objective = by_difference if second_order == "difference" else squared_gradient
        perturbation = Perturbation(learner.unit_pixels(original.points.images), objective, noise_weight)
        for done in range(1, iterations + 1):
            learner.load(before)
            seems_settled = perturbation.improve(lambda over: stopping_test and over <= 1)
            if seems_settled or done == iterations:
                batch = Batch(Points(perturbation.images(), labels), seed)
                after, found = try_update(passes, plan, step, before, batch)
            if stopping_test and found["movement_over_limit"] <= 1:
                break
        evaluations = perturbation.evaluations
        plan.meter.charge(KINDS[second_order], evaluations - settled)
        plan.meter.charge("update", settled)
    row |= {
        "loss_after": found["loss"],
        "gradient_squared_after": found["gradient_squared"],
        "iterations": done,
        "evaluations": evaluations,
        "movement_over_limit": found["movement_over_limit"],
    }
    return batch, after, row


def try_update(passes: Passes, plan: Plan, step: int, before: Checkpoint, batch: Batch) -> tuple[Checkpoint, dict]:
    """Lines 24 and 30: W'_{i+1} ← update(W'_i, batch), and whether it moved at most γ in every distance."""
    learner = passes.learner
    learner.load(before)
    loss = passes.update(batch.points, step=step, augmentation_seed=batch.augmentation_seed)
    plan.meter.charge("update")
    gradient = squared_norm([value.grad for value in learner.model.parameters()])
    after = learner.snapshot()
    return after, {
        "loss": float(loss),
        "gradient_squared": float(gradient),
        "movement_over_limit": plan.over_limit(after.weights, before.weights),
    }
