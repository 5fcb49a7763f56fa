"""Adversarial optimisation: noise R on the images of one batch or of k, so that an update ends where it should."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from polkit.adversary.plan import Batch, Plan
from polkit.training import Checkpoint, Learner, Points, Task
from polkit.training.data import Shifts


def weight_gradient(learner: Learner, points: Points, augmentation_seed: int | None) -> tuple[Tensor, ...]:
    """L(f_W(X + R), y), then ∂L/∂W, one tensor per weight, which can be differentiated again."""
    loss = learner.loss(points, augmentation_seed)
    return loss.detach(), *torch.autograd.grad(loss, list(learner.model.parameters()), create_graph=True)


def squared_norm(gradient: Sequence[Tensor]) -> Tensor:
    return sum((part**2).sum() for part in gradient)


def size(gradient: Sequence[Tensor], linf_weight: float = 0.0) -> Tensor:
    """What is minimised: ‖∇‖², and so many times the squared 8-norm, which stands in smoothly for the largest entry."""
    value = squared_norm(gradient)
    if linf_weight:
        value = value + linf_weight * (sum((part**8).sum() for part in gradient) + 1.2e-38) ** 0.25  # a slope at 0
    return value


class Passes:
    """What an adversary computes at a Learner's weights, of one batch or of several in one forward pass.

    Each takes the points of the batches, one after the other; their augmentation seeds; and their shares s, (batches,).
    G is Σ s_i ∂L_i/∂W. A GPU captures each call; there the next one overwrites the result.

    gradient(points, augmentation_seeds, shares): L_i, (batches,), then G, one tensor per weight
    objective(points, augmentation_seeds, shares): the `size` of G, its slope in the images, then G
    slope_along(points, augmentation_seeds, shares, *direction): the slope of ⟨G, direction⟩ in the images
    """

    def __init__(self, learner: Learner, linf_weight: float = 0.0):
        self.learner, self.linf_weight, self._weights = learner, linf_weight, list(learner.model.parameters())
        captured = map(learner.on_batches, (self._gradient, self._objective, self._slope_along))
        self.gradient, self.objective, self.slope_along = captured

    def _gradient(self, points: Points, shifts: Shifts | None, shares: Tensor) -> tuple[Tensor, ...]:
        losses = self.learner.losses(points, shifts, len(shares))
        return losses.detach(), *torch.autograd.grad((shares * losses).sum(), self._weights)

    def _towards_images(self, points: Points, shifts: Shifts | None, shares: Tensor) -> tuple[Tensor, ...]:
        images = points.images.detach().requires_grad_()
        losses = self.learner.losses(Points(images, points.labels), shifts, len(shares))
        return images, *torch.autograd.grad((shares * losses).sum(), self._weights, create_graph=True)

    def _objective(self, points: Points, shifts: Shifts | None, shares: Tensor) -> tuple[Tensor, ...]:
        images, *gradient = self._towards_images(points, shifts, shares)
        value = size(gradient, self.linf_weight)
        return value.detach(), *torch.autograd.grad(value, images), *(part.detach() for part in gradient)

    def _slope_along(self, points: Points, shifts: Shifts | None, shares: Tensor, *direction: Tensor) -> tuple[Tensor]:
        images, *gradient = self._towards_images(points, shifts, shares)
        inner = sum((fixed * part).sum() for fixed, part in zip(direction, gradient, strict=True))
        return torch.autograd.grad(inner, images)


@dataclass(frozen=True)
class Update:
    """What an update on one batch, or on k of them jointly, came to."""

    reached: Checkpoint  # W'
    loss: float  # before the update; of k batches the mean
    gradient_squared: float  # ‖∇‖², of k batches that of their mean
    over_limit: float  # how far W' lies from where it should, as a multiple of the limit


def try_update(
    learner: Learner, plan: Plan, step: int, before: Checkpoint, wanted: Checkpoint, batches: list[Batch]
) -> Update:
    """W'_{i+1} ← update(W'_i, (X, y)) on one batch, and how far from `wanted` it ends (Algorithm 4, line 24)."""
    (batch,) = batches
    learner.load(before)
    loss = learner.update(batch.points, step=step, augmentation_seed=batch.augmentation_seed)
    plan.meter.charge("update")
    gradient = float(squared_norm([value.grad for value in learner.model.parameters()]))
    after = learner.snapshot()
    return Update(after, float(loss), gradient, plan.over_limit(after.weights, wanted.weights))


def stepped(task: Task, step: int, before: Checkpoint, gradient: Iterable[Tensor]) -> dict[str, Tensor]:
    """W'_i - η(μv + λW'_i + ∇): where an update takes the weights."""
    rate, ended = task.learning_rate_at(step), {}
    for (name, weight), part in zip(before.weights.items(), gradient, strict=True):
        pull = task.momentum * before.momentum[name] + task.weight_decay * weight
        ended[name] = weight - rate * (pull + part.to("cpu"))
    return ended


# The batches to publish, the update on them, and a row for the trace.
Optimised = tuple[list[Batch], Update, dict]
# Of batches: where their interval ends with them, if that is near enough for them to do as they are.
Enough = Callable[[list[Batch]], Checkpoint | None]


@dataclass
class Perturbation:
    """The while loop of Algorithms 3, 4 and 5: X + R, improved one L-BFGS iteration at a time until the update fits.

    R starts at zero once, before the loop: the printed algorithms set it to zero inside, where nothing would ever be
    learned. Pixels stay in [0, 1] by projection. There is no line search: it takes more evaluations and ends no lower.
    """

    learner: Learner
    before: Checkpoint  # where the update starts
    originals: list[Batch]  # without noise
    # The `Update` on uint8 images, as they will be stored and so as they will be verified.
    try_batches: Callable[[list[Batch]], Update]
    # Of X + R, (k, B, channels, height, width), and of the batches with their augmentation seeds: the scalar to
    # minimise, its slope, and the `over_limit` of the update that follows from the same gradient.
    objective: Callable[[Tensor, list[Batch]], tuple[Tensor, Tensor, float]]
    iterations: int  # N, the most of them
    stopping_test: bool  # stop as soon as the update fits; without it all N are taken, as the formula 31 T' assumes
    noise_weight: float = 1e-3  # of d(R, 0) = ‖R‖² in the objective
    draws: int = 1  # of the augmentation, over which the objective is averaged: a verifier may draw its own
    enough: Enough = lambda batches: None  # asked from the second iteration on

    def __post_init__(self):
        """The update without noise, then R ← 0."""
        self.batches, self.done = self.originals, 0
        self.untouched = self.update = self.try_batches(self.batches)
        self.settled = self.stopping_test and self.update.over_limit <= 1
        self.pixels = torch.stack([self.learner.unit_pixels(batch.points.images) for batch in self.batches])
        self.noise = torch.zeros_like(self.pixels, requires_grad=True)
        once = {"max_iter": 1, "tolerance_grad": 0.0, "tolerance_change": 0.0}
        self._optimiser = torch.optim.LBFGS([self.noise], history_size=10, **once)

    def improve(self) -> None:
        """One iteration: evaluate at X + R and move R. The update is tried on rounded images where the gradient found
        at X + R says that X + R will do, where `enough` is content, and after the last iteration."""
        self.learner.load(self.before)
        evaluated = self.perturbed()
        self._optimiser.step(self._evaluate)
        self.done += 1
        seems_to_fit = self.stopping_test and self._over_limit <= 1
        batches = evaluated if seems_to_fit else self.perturbed()
        arrived = self.enough(batches) if self.done > 1 else None  # the first step is short
        if arrived or seems_to_fit or self.done == self.iterations:
            self.batches, self.update = batches, self.try_batches(batches)
            self.update = replace(self.update, reached=arrived) if arrived else self.update
            self.settled = bool(arrived) or (self.stopping_test and self.update.over_limit <= 1)

    def result(self) -> Optimised:
        """Runs the loop."""
        while self.done < self.iterations and not self.settled:
            self.improve()
        row = {
            "loss_before": self.untouched.loss,
            "gradient_squared_before": self.untouched.gradient_squared,
            "loss_after": self.update.loss,
            "gradient_squared_after": self.update.gradient_squared,
            "iterations": self.done,
            "evaluations": self.done,
            "movement_over_limit": self.update.over_limit,
            "settled": self.settled or self.update.over_limit <= 1,
        }
        return self.batches, self.update, row

    def perturbed(self) -> list[Batch]:
        """The batches with X + R as it stands, in uint8."""
        images = (self._shown().detach() * 255).round().to(torch.uint8)
        return [
            Batch(Points(shown, batch.points.labels), batch.augmentation_seed)
            for shown, batch in zip(images, self.originals, strict=True)
        ]

    def _shown(self) -> Tensor:
        return (self.pixels + self.noise).clamp(0, 1)

    def _evaluate(self) -> Tensor:
        self._optimiser.zero_grad()
        shown = self._shown()
        drawn = [[batch.redrawn(draw) for batch in self.originals] for draw in range(self.draws)]
        values, slopes, over = zip(*[self.objective(shown.detach(), batches) for batches in drawn], strict=True)
        self._over_limit = max(over, key=lambda each: (math.isnan(each), each))
        penalty = self.noise_weight * (self.noise**2).sum()
        torch.autograd.backward([shown, penalty], [sum(slopes) / self.draws, None])
        return sum(values) / self.draws + penalty.detach()


def best_attempt(optimise: Callable[[int], Optimised], retries: int, enough: Enough = lambda made: None) -> Optimised:
    """`optimise(attempt)` until an update will do, on fresh batches each time; the one that misses least if none does.

    enough: asked before the batches are given up for fresh ones
    The public code of Zhang et al. retries up to 30 times in place of the loop over γ.
    """
    tried: list[Optimised] = []
    while not tried or (not tried[-1][2]["settled"] and len(tried) <= retries):
        made, update, row = optimise(len(tried))
        kept = row["settled"] or (len(tried) < retries and enough(made) is not None)
        tried.append((made, update, row | {"settled": kept}))
    misses = [(not row["settled"], math.isnan(update.over_limit), update.over_limit) for _, update, row in tried]
    attempt = misses.index(min(misses))
    batches, update, row = tried[attempt]
    return batches, update, row | {"evaluations": sum(each["evaluations"] for *_, each in tried), "attempt": attempt}
