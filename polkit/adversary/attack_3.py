"""Attack III (Algorithm 5): as Attack II, with the k batches of an interval optimised together at W_{t-k}."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from polkit.adversary.forge import Forged, forge, replayed_buffers
from polkit.adversary.perturb import (
    KINDS,
    Batch,
    Passes,
    Perturbation,
    check_second_order,
    first_order,
    slope_by_difference,
    squared_norm,
    weight_gradient,
)
from polkit.adversary.plan import Plan, make_plan
from polkit.proof import Proof
from polkit.training import Checkpoint, Conditions, Points, Progress, Task
from polkit.verifier import Calibration


def attack_3(
    final: Checkpoint,
    task: Task,
    *,
    spoof_steps: int,
    seed: int = 0,
    calibration: Calibration | None = None,
    movement_limit: float = 0.75,
    reserve: float = 1 / 3,
    iterations: int = 6,
    stopping_test: bool = True,
    noise_weight: float = 1e-3,
    batches_at_once: int = 10,
    off_path: float = 0.0,
    second_order: str = "double backward",
    conditions: Conditions = Conditions(),
    out: str | Path | None = None,
    workers: int = 1,
    keep_failed: bool = True,
    progress: Progress = True,
) -> Proof:
    """A spoof of f_{W_T} in T' steps, with one optimisation for each interval of k batches.

    movement_limit: γ as a share of δ; here it bounds the joint update of a whole interval · reserve: σ as a
    share of γ, kept for the gap of Corollary 1 · batches_at_once: the most batches whose double backward may be held
    in memory together (by `difference`, none is); more of them in an interval are taken one by one, which costs one
    more gradient each · iterations: N; with T' = 160
    on `digits`, 10 cost 0.34 of the proof's operations for an l∞ error of 0.059 d_ref, 5 cost 0.22 for 0.068 ·
    off_path: how far the first checkpoints leave the straight path, as a share of the weights' size, so that early
    models are worse (Figure 10).
    The other arguments are as in `attack_2`.

    Line 23 stops on d(W'_t, W_t) ≤ γ - σ, which no interpolated W_t allows unless the whole interval is shorter
    than that. The corollary needs W'_t close to where it started, so the test here is d(W'_t, W_{t-k}) ≤ γ - σ;
    the verifier's error is then at most d(W_{t-k}, W_t) + γ - σ + the gap.
    """
    if not 0 <= reserve < 1:
        raise ValueError(f"σ = {reserve} · γ: the reserve is a share of γ from 0 up to, but not, 1")
    plan = make_plan(
        final,
        task,
        spoof_steps=spoof_steps,
        seed=seed,
        conditions=conditions,
        calibration=calibration,
        movement_limit=movement_limit,
        off_path=off_path,
    )
    settings = {
        "iterations": iterations,
        "stopping_test": stopping_test,
        "noise_weight": noise_weight,
        "reserve": reserve,
        "batches_at_once": batches_at_once,
        "second_order": check_second_order(second_order),
    }
    return forge(
        plan, "attack-3", forge_interval, settings, out=out, workers=workers, progress=progress, keep_failed=keep_failed
    )


def forge_interval(
    passes: Passes,
    plan: Plan,
    start: int,
    checkpoint: Checkpoint,
    *,
    iterations: int,
    stopping_test: bool,
    noise_weight: float,
    reserve: float,
    batches_at_once: int,
    second_order: str,
) -> Forged:
    """updateDataPoints(W_{t-k}, W_t), Algorithm 5 lines 20-31."""
    interval = plan.task.checkpoint_interval
    originals = [plan.batch(step) for step in range(start, start + interval)]
    batches, sizes, learner = originals, step_sizes(plan.task, start), passes.learner

    def over_limit(reached: dict[str, Tensor]) -> float:
        return plan.over_limit(reached, checkpoint.weights) / (1 - reserve)

    weights, found = joint_update(passes, plan, checkpoint, batches, sizes)
    row = {"step": start, "loss_before": found["loss"], "gradient_squared_before": found["gradient_squared"]}
    evaluations = done = settled = 0
    shares = [size / sum(sizes) for size in sizes]

    def joint(images: Tensor) -> tuple[Tensor, Tensor, float]:
        value, slope, mean = joint_objective(passes, images, originals, sizes, batches_at_once)
        return value, slope, over_limit(step_from(plan.task, checkpoint.weights, mean, sizes))

    def by_difference(images: Tensor) -> tuple[Tensor, Tensor, float]:
        nonlocal settled
        found = first_order(learner, images, originals, shares)
        over = over_limit(step_from(plan.task, checkpoint.weights, found.mean, sizes))
        if stopping_test and over <= 1:  # these images stay as they are: nobody needs the slope
            settled += 1
            return squared_norm(found.mean), torch.zeros_like(images), over
        return squared_norm(found.mean), slope_by_difference(learner, images, originals, shares, found), over

    if not (stopping_test and over_limit(weights) <= 1):
        pixels = torch.stack([learner.unit_pixels(batch.points.images) for batch in originals])
        perturbation = Perturbation(pixels, by_difference if second_order == "difference" else joint, noise_weight)
        for done in range(1, iterations + 1):
            learner.load(checkpoint)
            seems_settled = perturbation.improve(lambda over: stopping_test and over <= 1)
            if seems_settled or done == iterations:
                batches = [
                    Batch(Points(images, batch.points.labels), batch.augmentation_seed)
                    for images, batch in zip(perturbation.images(), originals, strict=True)
                ]
                weights, found = joint_update(passes, plan, checkpoint, batches, sizes)
            if stopping_test and over_limit(weights) <= 1:
                break
        evaluations = perturbation.evaluations
        plan.meter.charge(KINDS[second_order], evaluations - settled, batches=interval)
        plan.meter.charge("update", settled, batches=interval)
        if second_order == "double backward" and batches_at_once < interval:
            # The first of two passes takes the gradients once more.
            plan.meter.charge("update", evaluations, batches=interval)
    row |= {
        "loss_after": found["loss"],
        "gradient_squared_after": found["gradient_squared"],
        "iterations": done,
        "evaluations": evaluations,
        "movement_over_limit": over_limit(weights),
    }
    return Forged(batches, replayed_buffers(passes, plan, start, checkpoint, batches), [row])


def step_sizes(task: Task, start: int, count: int | None = None) -> list[float]:
    """How far `count` updates from `start` on (default: k) carry each batch's gradient, to first order.

    η for every batch, so η'' = kη in all, where SGD has no momentum, as Corollary 1 assumes. With momentum μ
    the i-th gradient goes on moving the weights: η(1 + μ + μ² + …) up to the end of the interval.
    """
    sizes = []
    count = count or task.checkpoint_interval
    for first in range(count):
        later = range(first, count)
        sizes.append(sum(task.learning_rate_at(start + step) * task.momentum ** (step - first) for step in later))
    return sizes


def step_from(task: Task, weights: dict[str, Tensor], mean: Sequence[Tensor], sizes: list[float]) -> dict[str, Tensor]:
    """W'_t = W_{t-k} - Σ_i s_i (G + λW_{t-k}), line 22, where G is the mean gradient."""
    whole = sum(sizes)
    return {
        name: value - whole * (part.detach().to("cpu") + task.weight_decay * value)
        for (name, value), part in zip(weights.items(), mean, strict=True)
    }


def joint_update(
    passes: Passes, plan: Plan, start: Checkpoint, batches: list[Batch], sizes: list[float]
) -> tuple[dict[str, Tensor], dict]:
    """W'_t, and the mean loss and the squared norm of the mean gradient.

    Each batch goes through the model by itself, as it will before the verifier: normalisation layers see
    one batch at a time.
    """
    passes.learner.load(start)
    images = [passes.learner.unit_pixels(batch.points.images) for batch in batches]
    loss, mean = mean_gradient(passes.gradient, images, batches, sizes)
    plan.meter.charge("update", batches=len(batches))
    found = {"loss": loss, "gradient_squared": float(squared_norm(mean))}
    return step_from(plan.task, start.weights, mean, sizes), found


def mean_gradient(
    gradient: Callable[..., Sequence[Tensor]], images: Sequence[Tensor], batches: list[Batch], sizes: list[float]
) -> tuple[float, list[Tensor]]:
    """The mean loss, and G = Σ_i s_i ∇_i / Σ_i s_i. gradient: of (points, augmentation_seed), L and then ∂L/∂W."""
    losses, total = [], None
    for shown, batch, size in zip(images, batches, sizes, strict=True):
        loss, *parts = gradient(Points(shown, batch.points.labels), batch.augmentation_seed)
        scaled = torch._foreach_mul(parts, size / sum(sizes))
        total = scaled if total is None else torch._foreach_add(total, scaled)
        losses.append(loss.clone())
    return sum(torch.stack(losses).tolist()) / len(batches), list(total)  # read once: a GPU need not wait for each


def joint_objective(
    passes: Passes, images: Tensor, batches: list[Batch], sizes: list[float], at_once: int
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """‖G‖² (line 26), its gradient in the images (k, B, channels, height, width), and G itself.

    With fewer batches at once than there are, G is summed first without a graph; then each batch adds
    2 s_i / Σ s_i · ⟨∂∇_i/∂R_i, G⟩, which is the same derivative.
    """
    if at_once >= len(batches):
        _, mean = mean_gradient(partial(weight_gradient, passes.learner), images, batches, sizes)
        value = squared_norm(mean)
        return value, torch.autograd.grad(value, images)[0], mean
    _, mean = mean_gradient(passes.gradient, images.detach(), batches, sizes)
    slopes = torch.empty_like(images)
    for slope, shown, batch, size in zip(slopes, images, batches, sizes, strict=True):
        share = torch.full((), size / sum(sizes), dtype=images.dtype, device=images.device)
        points = Points(shown.detach(), batch.points.labels)
        slope.copy_(passes.slope_along(points, batch.augmentation_seed, share, *mean)[0])
    return squared_norm(mean), slopes, mean
