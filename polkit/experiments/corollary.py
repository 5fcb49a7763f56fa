"""Corollary 1: how far the verifier's k separate updates can end from Attack III's one joint update."""

import pandas as pd
import torch
from torch import Tensor

from polkit.adversary import (
    Batch,
    make_plan,
    mean_gradient,
    passes_of,
    squared_norm,
    step_from,
    step_sizes,
    weight_gradient,
)
from polkit.training import Checkpoint, Conditions, Learner, Task, applied, distances


def corollary_bound(
    *,
    learning_rate: float,
    checkpoint_interval: int,
    first_derivative: float,
    second_derivative: float,
    joint_movement: float = 0.0,
    momentum: float = 0.0,
    as_printed: bool = False,
) -> float:
    """The right-hand side of Corollary 1: what ‖Ŵ_t - W_t‖ cannot exceed, in l2.

    learning_rate: η · checkpoint_interval: k · first_derivative: α ≥ ‖∇L‖ · second_derivative: β ≥ ‖∇²L‖ ·
    joint_movement: γ - σ, the bound on d(W'_t, W_t).

    The paper prints η²αβ (k-1)(k-2)/2 + γ - σ. It counts the distance from W_{t-k} to the l-th replayed model
    as l - 1 updates, where it is l; so it claims no gap at all for k = 2, although the second gradient is taken
    one update away. The sum is η²αβ k(k-1)/2. Momentum μ, which the paper's settings use and its proof does not,
    carries each gradient further: see `step_sizes`. `as_printed` gives the paper's own expression.
    """
    k, rate = checkpoint_interval, learning_rate
    if as_printed:
        return rate**2 * first_derivative * second_derivative * (k - 1) * (k - 2) / 2 + joint_movement
    moved = reached = gap = 0.0
    for step in range(k):
        carried = sum(rate * momentum**later for later in range(k - step))  # s_i, how far gradient i counts
        gap += carried * second_derivative * reached
        moved = momentum * moved + rate * first_derivative  # the longest possible update
        reached += moved
    return gap + joint_movement


def measured_derivatives(
    learner: Learner, start: Checkpoint, batches: list[Batch], power_iterations: int = 15
) -> tuple[float, float]:
    """α and β as they are at W_{t-k}: the largest ‖∇L_i‖ and ‖∇²L_i‖ (spectral, by power iteration) of the batches.

    Both are values at one point, so lower estimates of the suprema over Ω that the corollary speaks of.
    """
    first = second = 0.0
    learner.load(start)
    weights = list(learner.model.parameters())
    generator = torch.Generator().manual_seed(0)
    for batch in batches:
        _, *gradient = weight_gradient(learner, batch.points, batch.augmentation_seed)
        first = max(first, float(squared_norm([part.detach() for part in gradient]).sqrt()))
        direction = [torch.randn(w.shape, generator=generator).to(w) for w in weights]
        for _ in range(power_iterations):
            length = squared_norm(direction).sqrt()
            direction = [part / length for part in direction]
            turned = torch.autograd.grad(gradient, weights, grad_outputs=direction, retain_graph=True)
            direction = [part.detach() for part in turned]
        second = max(second, float(squared_norm(direction).sqrt()))
    return first, second


def corollary_gap(learner: Learner, start_step: int, start: Checkpoint, batches: list[Batch]) -> float:
    """‖Ŵ_t - W'_t‖ in l2: the verifier's k updates from W_{t-k} against the joint one, on the same batches."""
    rested = Checkpoint(start.weights, start.buffers, {})
    passes, sizes = passes_of(learner), step_sizes(learner.task, start_step, len(batches))
    learner.load(rested)
    images: list[Tensor] = [learner.unit_pixels(batch.points.images) for batch in batches]
    _, mean = mean_gradient(passes.gradient, images, batches, sizes)
    joint = step_from(learner.task, start.weights, mean, sizes)
    learner.load(rested)
    for offset, batch in enumerate(batches):
        passes.update(batch.points, step=start_step + offset, augmentation_seed=batch.augmentation_seed)
    return distances(learner.snapshot().weights, joint)["l2"]


def corollary_table(
    final: Checkpoint,
    task: Task,
    *,
    intervals: tuple[int, ...] = (2, 5, 10),
    seed: int = 1,
    conditions: Conditions = Conditions(),
) -> pd.DataFrame:
    """At the adversary's W_0, for several k: the measured gap ‖Ŵ_t - W'_t‖, Corollary 1's bound on it with α and
    β measured there, and the bound as the paper prints it (all in l2, γ - σ left out on both sides)."""
    whole = -(-max(intervals) // task.checkpoint_interval) * task.checkpoint_interval
    plan = make_plan(final, task, spoof_steps=whole, seed=seed, conditions=conditions)
    rows = []
    with applied(conditions):
        learner = Learner(task, conditions)
        batches = [plan.batch(step) for step in range(max(intervals))]
        alpha, beta = measured_derivatives(learner, plan.first, batches)
        for k in intervals:
            known = {
                "learning_rate": task.learning_rate,
                "checkpoint_interval": k,
                "first_derivative": alpha,
                "second_derivative": beta,
            }
            gap = corollary_gap(learner, 0, plan.first, batches[:k])
            bound = corollary_bound(**known, momentum=task.momentum)
            rows.append((k, gap, bound, corollary_bound(**known, as_printed=True), alpha, beta))
    return pd.DataFrame(rows, columns=["k", "measured_gap", "bound", "bound_as_printed", "alpha", "beta"])
