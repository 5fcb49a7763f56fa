"""Attack III (Algorithm 5): as Attack II, with the k batches of an interval optimised together at W_{t-k}."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Unpack

import torch
from torch import Tensor

from polkit.adversary.forge import Treated, along_path, forge, updated
from polkit.adversary.perturb import Passes, Perturbation, Update, squared_norm, weight_gradient
from polkit.adversary.plan import Batch, Common, Pace, Plan, make_plan
from polkit.proof import Proof
from polkit.training import Checkpoint, Points, Task
from polkit.verifier import Calibration

# In memory together for a double backward. More of them are taken one by one, which costs one more gradient each.
BATCHES_AT_ONCE = 10


def attack_3(
    final: Checkpoint,
    task: Task,
    *,
    calibration: Calibration | None = None,
    movement_limit: float = 0.75,
    reserve: float = 1 / 3,
    iterations: int = 6,
    stopping_test: bool = True,
    noise_weight: float = 1e-3,
    pace: Pace = (),
    trained_steps: int = 0,
    off_path: float = 0.0,
    workers: int = 1,
    keep_failed: bool = True,
    **common: Unpack[Common],
) -> Proof:
    """A spoof of f_{W_T} in T' steps, with one optimisation for each interval of k batches.

    Line 23 stops on d(W'_t, W_t) ≤ γ - σ, which no interpolated W_t allows if its interval is longer than that. We stop
    on d(W'_t, W_{t-k}) ≤ γ - σ; the verifier's error is then at most d(W_{t-k}, W_t) + γ - σ + the gap of Corollary 1.

    movement_limit: γ as a share of δ; here it bounds the joint update of a whole interval
    reserve: σ as a share of γ, kept for that gap
    off_path: how far the first checkpoints leave the straight path, as a share of the weights' size (Figure 10)

    The other arguments, and what is raised, are as in `attack_2`.
    """
    if not 0 <= reserve < 1:
        raise ValueError(f"σ = {reserve} · γ: the reserve is a share of γ from 0 up to, but not, 1")
    plan = make_plan(final, task, **common).paced(pace)
    plan = replace(plan.limited(calibration, movement_limit), off_path=off_path)
    settings = {"iterations": iterations, "stopping_test": stopping_test, "reserve": reserve}
    settings |= {"noise_weight": noise_weight, "trained_steps": trained_steps}
    return forge(plan, "attack-3", partial(along_path, treat=treat_together, workers=workers), settings, keep_failed)


def treat_together(passes: Passes, plan: Plan, start: int, first: Checkpoint, *, reserve: float, **budget) -> Treated:
    """updateDataPoints(W_{t-k}, W_t), lines 20-31: the joint update should move the weights by at most γ - σ.

    The normalisation buffers are those of a replay, as the verifier will do it: forward passes at W_{t-k} alone would
    miss by more than δ where the weights move fast.
    """
    learner, originals, sizes = passes.learner, plan.interval(start), step_sizes(plan.task, start)

    def over_limit(reached: dict[str, Tensor]) -> float:
        return plan.over_limit(reached, first.weights) / (1 - reserve)

    def joint_update(batches: list[Batch]) -> Update:
        # Each batch goes through the model by itself: before the verifier, normalisation layers see one at a time.
        learner.load(first)
        images = [learner.unit_pixels(batch.points.images) for batch in batches]
        loss, mean = mean_gradient(passes.gradient, images, batches, sizes)
        plan.meter.charge("update", batches=len(batches))
        reached = step_from(plan.task, first.weights, mean, sizes)
        return Update(Checkpoint(reached, {}, {}), loss, float(squared_norm(mean)), over_limit(reached))

    def squared_gradient(images: Tensor) -> tuple[Tensor, Tensor, float]:
        value, slope, mean = joint_objective(passes, images, originals, sizes, BATCHES_AT_ONCE)
        plan.meter.charge("objective", batches=len(images))
        if len(images) > BATCHES_AT_ONCE:  # the first of two passes takes the gradients once more
            plan.meter.charge("update", batches=len(images))
        return value, slope, over_limit(step_from(plan.task, first.weights, mean, sizes))

    batches, _, row = Perturbation(learner, first, originals, joint_update, squared_gradient, **budget).result()
    return batches, updated(learner, plan, start, first, batches).buffers, [{"step": start} | row]


def step_sizes(task: Task, start: int) -> list[float]:
    """How far the k updates from `start` on carry each batch's gradient, to first order.

    η for every batch, so η'' = kη in all, where SGD has no momentum, as Corollary 1 assumes. With momentum μ the i-th
    gradient goes on moving the weights: η(1 + μ + μ² + …) up to the end of the interval.
    """
    k = task.checkpoint_interval
    return [sum(task.learning_rate_at(start + j) * task.momentum ** (j - i) for j in range(i, k)) for i in range(k)]


def step_from(task: Task, weights: dict[str, Tensor], mean: Sequence[Tensor], sizes: list[float]) -> dict[str, Tensor]:
    """W'_t = W_{t-k} - Σ_i s_i (G + λW_{t-k}), line 22, where G is the mean gradient."""
    whole = sum(sizes)
    return {
        name: value - whole * (part.detach().to("cpu") + task.weight_decay * value)
        for (name, value), part in zip(weights.items(), mean, strict=True)
    }


def mean_gradient(
    gradient: Callable[..., Sequence[Tensor]], images: Sequence[Tensor], batches: list[Batch], sizes: list[float]
) -> tuple[float, list[Tensor]]:
    """The mean loss, and G = Σ_i s_i ∇_i / Σ_i s_i; `gradient(points, augmentation_seed)` gives L, then ∂L/∂W."""
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

    With fewer batches at once than there are, G is summed first without a graph; then the derivative in R_i is
    2 s_i / Σ s_i · ⟨∂∇_i/∂R_i, G⟩.
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
