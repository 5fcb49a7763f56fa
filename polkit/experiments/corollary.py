"""Corollary 1: how far the verifier's k separate updates can end from Attack III's one joint update."""

import pandas as pd
import torch

from polkit.adversary import Batch, Passes, make_plan, squared_norm, weight_gradient
from polkit.adversary.attack_3 import mean_gradient, step_from, step_sizes
from polkit.training import Checkpoint, Conditions, Learner, Task, applied, distances


def corollary_bound(
    *,
    learning_rate: float,
    checkpoint_interval: int,
    first_derivative: float,
    second_derivative: float,
    momentum: float = 0.0,
    as_printed: bool = False,
) -> float:
    """The right-hand side of Corollary 1 without γ - σ: what ‖Ŵ_t - W'_t‖ cannot exceed, in l2.

    The paper prints η²αβ (k-1)(k-2)/2. It counts the distance from W_{t-k} to the l-th replayed model as l - 1 updates,
    where it is l; so it claims no gap at all for k = 2, although the second gradient is taken one update away. The sum
    is η²αβ k(k-1)/2. Momentum μ, which the authors' code uses and their proof does not, carries each gradient further.

    learning_rate, checkpoint_interval: η and k
    first_derivative, second_derivative: α ≥ ‖∇L‖ and β ≥ ‖∇²L‖
    as_printed: the paper's own expression
    """
    k, rate = checkpoint_interval, learning_rate
    if as_printed:
        return rate**2 * first_derivative * second_derivative * (k - 1) * (k - 2) / 2
    moved = reached = gap = 0.0
    for step in range(k):
        carried = sum(rate * momentum**later for later in range(k - step))  # s_i, how far gradient i counts
        gap += carried * second_derivative * reached
        moved = momentum * moved + rate * first_derivative  # the longest possible update
        reached += moved
    return gap


def measured_derivatives(learner: Learner, start: Checkpoint, batches: list[Batch]) -> tuple[float, float]:
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
        for _ in range(15):
            length = squared_norm(direction).sqrt()
            direction = [part / length for part in direction]
            direction = torch.autograd.grad(gradient, weights, grad_outputs=direction, retain_graph=True)
        second = max(second, float(squared_norm(direction).sqrt()))
    return first, second


def corollary_gap(learner: Learner, start: Checkpoint, batches: list[Batch]) -> float:
    """‖Ŵ_t - W'_t‖ in l2: the verifier's k updates from W_{t-k} = W_0 against the joint one, on the same batches."""
    rested = Checkpoint(start.weights, start.buffers, {})
    sizes = step_sizes(learner.task.replace(checkpoint_interval=len(batches)), 0)
    learner.load(rested)
    images = torch.stack([learner.unit_pixels(batch.points.images) for batch in batches])
    _, mean = mean_gradient(Passes(learner), images, batches, sizes, len(batches))
    joint = step_from(learner.task, start.weights, mean, sizes)
    learner.load(rested)
    for step, batch in enumerate(batches):
        learner.update(batch.points, step=step, augmentation_seed=batch.augmentation_seed)
    return distances(learner.snapshot().weights, joint)["l2"]


def corollary_table(
    final: Checkpoint, task: Task, *, intervals: tuple[int, ...], conditions: Conditions = Conditions()
) -> pd.DataFrame:
    """At the adversary's W_0, for several k: the measured gap ‖Ŵ_t - W'_t‖, Corollary 1's bound on it with α and
    β measured there, and the bound as the paper prints it (all in l2, γ - σ left out on both sides)."""
    whole = -(-max(intervals) // task.checkpoint_interval) * task.checkpoint_interval
    plan = make_plan(final, task, spoof_steps=whole, seed=1, conditions=conditions)
    rows = []
    with applied(conditions):
        learner = plan.learner()
        batches = [plan.batch(step) for step in range(max(intervals))]
        alpha, beta = measured_derivatives(learner, plan.first, batches)
        known = {"learning_rate": task.learning_rate, "first_derivative": alpha, "second_derivative": beta}
        for k in intervals:
            gap = corollary_gap(learner, plan.first, batches[:k])
            bound = corollary_bound(**known, checkpoint_interval=k, momentum=task.momentum)
            printed = corollary_bound(**known, checkpoint_interval=k, as_printed=True)
            rows.append((k, gap, bound, printed, alpha, beta))
    return pd.DataFrame(rows, columns=["k", "measured_gap", "bound", "bound_as_printed", "alpha", "beta"])
