"""Attack III (Algorithm 5): as Attack II, with the k batches of an interval optimised together at W_{t-k}."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Unpack

import torch
from torch import Tensor

from polkit.adversary.forge import Treated, along_path, arrived, forge, updated
from polkit.adversary.perturb import Optimised, Passes, Perturbation, Update, best_attempt, size, squared_norm
from polkit.adversary.plan import Batch, Common, Pace, Plan, make_plan
from polkit.proof import Proof
from polkit.training import Checkpoint, Points, Task
from polkit.verifier import Calibration

RESERVE = 1 / 3  # σ as a share of γ, kept for the gap of Corollary 1
# In memory together for a double backward. More of them are taken in pieces, which costs one more gradient each.
BATCHES_AT_ONCE = 10


def attack_3(
    final: Checkpoint,
    task: Task,
    *,
    calibration: Calibration | None = None,
    movement_limit: float = 0.75,
    iterations: int = 6,
    stopping_test: bool = True,
    leave_within: float = 0.0,
    noise_weight: float = 1e-3,
    weigh_linf: bool = False,
    draws: int = 1,
    retries: int = 0,
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
    off_path: how far the first checkpoints leave the straight path, as a share of the weights' size (Figure 10)

    The other arguments, and what is raised, are as in `attack_2`; for N, `iterations`, the paper has 10 here, too.
    """
    plan = make_plan(final, task, **common).paced(pace)
    plan = replace(plan.limited(calibration, movement_limit, weigh_linf=weigh_linf), off_path=off_path)
    settings = {"iterations": iterations, "stopping_test": stopping_test, "noise_weight": noise_weight}
    settings |= {"leave_within": leave_within, "draws": draws, "retries": retries, "trained_steps": trained_steps}
    return forge(plan, "attack-3", partial(along_path, treat=treat_together, workers=workers), settings, keep_failed)


def treat_together(
    passes: Passes, plan: Plan, start: int, first: Checkpoint, *, leave_within: float, retries: int, **budget
) -> Treated:
    """updateDataPoints(W_{t-k}, W_t), lines 20-31: the joint update should move the weights by at most γ - σ.

    The normalisation buffers are those of a replay, as the verifier will do it: forward passes at W_{t-k} alone would
    miss by more than δ where the weights move fast.
    """
    learner, sizes = passes.learner, step_sizes(plan.task, start)
    several = at_once(len(sizes))
    enough = partial(arrived, learner, plan, start, first, leave_within)
    if ended := enough(plan.interval(start)):
        return plan.interval(start), ended.buffers, [{"step": start, "evaluations": 0}]

    def over_limit(reached: dict[str, Tensor]) -> float:
        return plan.over_limit(reached, first.weights) / (1 - RESERVE)

    def joint_update(batches: list[Batch]) -> Update:
        learner.load(first)
        images = torch.stack([learner.unit_pixels(batch.points.images) for batch in batches])
        loss, mean = mean_gradient(passes, images, batches, sizes, several)
        plan.meter.charge("update", batches=len(batches))
        reached = step_from(plan.task, first.weights, mean, sizes)
        return Update(Checkpoint(reached, {}, {}), loss, float(squared_norm(mean)), over_limit(reached))

    def squared_gradient(images: Tensor, batches: list[Batch]) -> tuple[Tensor, Tensor, float]:
        value, slope, mean = joint_objective(passes, images, batches, sizes, several)
        plan.meter.charge("objective", batches=len(images))
        if several < len(images):  # the first of two passes takes the gradients once more
            plan.meter.charge("update", batches=len(images))
        return value, slope, over_limit(step_from(plan.task, first.weights, mean, sizes))

    def optimise(attempt: int) -> Optimised:
        batches = plan.interval(start, attempt)
        return Perturbation(learner, first, batches, joint_update, squared_gradient, enough=enough, **budget).result()

    batches, update, row = best_attempt(optimise, retries)
    buffers = update.reached.buffers or updated(learner, plan, start, first, batches).buffers
    return batches, buffers, [{"step": start} | row]


def at_once(batches: int) -> int:
    """How many batches go through the model together: the most that memory is asked for, and that divide them all."""
    return max(count for count in range(1, BATCHES_AT_ONCE + 1) if batches % count == 0)


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


def pieces(images: Tensor, batches: list[Batch], sizes: list[float], several: int) -> Iterator[tuple]:
    """What `Passes` take of `several` batches each: their points, their augmentation seeds, their shares of G."""
    shares = torch.tensor(sizes, dtype=images.dtype, device=images.device) / (sum(sizes) or 1.0)
    for begin in range(0, len(batches), several):
        some = slice(begin, begin + several)
        labels = torch.cat([batch.points.labels for batch in batches[some]])
        seeds = [batch.augmentation_seed for batch in batches[some]]
        yield Points(images[some].flatten(0, 1), labels), seeds, shares[some]


def mean_gradient(
    passes: Passes, images: Tensor, batches: list[Batch], sizes: list[float], several: int
) -> tuple[float, list[Tensor]]:
    """The mean loss, and G = Σ_i s_i ∇_i / Σ_i s_i. images: (k, B, channels, height, width)"""
    losses, total = [], None
    for piece in pieces(images, batches, sizes, several):
        each, *parts = passes.gradient(*piece)
        losses.append(each.clone())  # a GPU overwrites them
        total = [part.clone() for part in parts] if total is None else torch._foreach_add(total, parts)
    return float(torch.cat(losses).mean()), list(total)


def joint_objective(
    passes: Passes, images: Tensor, batches: list[Batch], sizes: list[float], several: int
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The `size` of G (line 26), its gradient in the images (k, B, channels, height, width), and G itself.

    With fewer batches at once than there are, G is summed first without a graph; then the derivative in R_i is
    s_i / Σ s_i · ⟨∂∇_i/∂R_i, the derivative in G⟩.
    """
    if several == len(batches):
        value, slope, *mean = passes.objective(*next(pieces(images, batches, sizes, several)))
        return value.clone(), slope.view_as(images).clone(), mean  # a GPU overwrites them
    _, mean = mean_gradient(passes, images, batches, sizes, several)
    value = size([part.requires_grad_() for part in mean], passes.linf_weight)
    direction = torch.autograd.grad(value, mean)
    slopes = [passes.slope_along(*piece, *direction)[0].clone() for piece in pieces(images, batches, sizes, several)]
    return value.detach(), torch.cat(slopes).view_as(images), [part.detach() for part in mean]
