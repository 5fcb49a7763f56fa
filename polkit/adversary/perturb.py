"""Adversarial optimisation: noise R on a batch's images, so that updating on X + R does what the adversary wants."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from polkit.training import Learner, Points, Shifts


class Perturbation:
    """X + R for one or more batches, improved one L-BFGS iteration at a time (Algorithm 4, lines 26-29).

    objective(images) returns the scalar to minimise, its gradient with respect to the images, and anything else
    the caller wants to know about these very images; d(R, 0) is added here as noise_weight · ‖R‖². R starts at
    zero once, before the loop: the printed algorithms set it to zero inside, where nothing would ever be
    learned. Pixels stay in [0, 1] by projection.

    No line search: on `digits` it takes 2.3 evaluations an iteration and ends no lower (0.344 after 61
    evaluations against 0.309 after 19, first batch).
    """

    def __init__(
        self, originals: Tensor, objective: Callable[[Tensor], tuple[Tensor, Tensor, Any]], noise_weight: float
    ):
        self.originals, self.objective, self.noise_weight = originals, objective, noise_weight
        self.noise = torch.zeros_like(originals, requires_grad=True)
        self.evaluations = 0
        self._optimiser = torch.optim.LBFGS(
            [self.noise], max_iter=1, history_size=10, tolerance_grad=0.0, tolerance_change=0.0
        )

    def images(self) -> Tensor:
        """X + R as they stand, in uint8: as they will be stored, and so as they will be verified."""
        return (self._shown().detach() * 255).round().to(torch.uint8)

    def improve(self, good_enough: Callable[[Any], bool] = lambda _: False) -> bool:
        """One iteration: evaluate at X + R, and unless that is good enough already, move R. True if it was."""
        standing = self.noise.detach().clone()
        self._optimiser.step(self._evaluate)
        if good_enough(self._found):
            with torch.no_grad():
                self.noise.copy_(standing)
            return True
        return False

    def _shown(self) -> Tensor:
        return (self.originals + self.noise).clamp(0, 1)

    def _evaluate(self) -> Tensor:
        self.evaluations += 1
        self._optimiser.zero_grad()
        shown = self._shown()
        value, gradient, self._found = self.objective(shown.detach().requires_grad_())
        penalty = self.noise_weight * (self.noise**2).sum()
        torch.autograd.backward([shown, penalty], [gradient, None])
        return value.detach() + penalty.detach()


@dataclass(frozen=True)
class Batch:
    """One batch as the adversary handles it: its points (uint8 images) and the seed of its augmentation."""

    points: Points
    augmentation_seed: int | None


def weight_gradient(learner: Learner, points: Points, augmentation_seed: int | None) -> tuple[Tensor, ...]:
    """L(f_W(X + R), y), then ∂L/∂W, one tensor per weight, which can be differentiated again."""
    loss = learner.loss(points, augmentation_seed)
    return loss.detach(), *torch.autograd.grad(loss, list(learner.model.parameters()), create_graph=True)


def squared_norm(gradient: Sequence[Tensor]) -> Tensor:
    return sum((part**2).sum() for part in gradient)


@dataclass(frozen=True)
class Passes:
    """What Attacks II and III compute for batch after batch at a learner's weights; captured on a GPU (`on_batches`).

    update(points, step=, augmentation_seed=): the loss, after one update · gradient(points, augmentation_seed): L, then
    ∂L/∂W · objective(points, augmentation_seed): ‖∂L/∂W‖², its slope in the images, then ∂L/∂W ·
    slope_along(points, augmentation_seed, share, *direction): of 2 share ⟨∂L/∂W, direction⟩ in the images.
    """

    learner: Learner
    update: Callable[..., Tensor]
    gradient: Callable[..., Sequence[Tensor]]
    objective: Callable[..., Sequence[Tensor]]
    slope_along: Callable[..., Sequence[Tensor]]


def passes_of(learner: Learner) -> Passes:
    weights = list(learner.model.parameters())

    def gradient(points: Points, shifts: Shifts | None) -> tuple[Tensor, ...]:
        loss = learner.loss_shifted(points, shifts)
        return loss.detach(), *torch.autograd.grad(loss, weights)

    def towards_images(points: Points, shifts: Shifts | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        images = points.images.detach().requires_grad_()
        loss = learner.loss_shifted(Points(images, points.labels), shifts)
        return images, torch.autograd.grad(loss, weights, create_graph=True)

    def objective(points: Points, shifts: Shifts | None) -> tuple[Tensor, ...]:
        images, gradient = towards_images(points, shifts)
        value = squared_norm(gradient)
        slope = torch.autograd.grad(value, images)[0]
        return value.detach(), slope, *(part.detach() for part in gradient)

    def slope_along(points: Points, shifts: Shifts | None, share: Tensor, *direction: Tensor) -> tuple[Tensor]:
        images, gradient = towards_images(points, shifts)
        inner = sum((2 * share * fixed * part).sum() for fixed, part in zip(direction, gradient, strict=True))
        return torch.autograd.grad(inner, images)

    return Passes(learner, learner.update, *(learner.on_batches(each) for each in (gradient, objective, slope_along)))


KINDS = {"double backward": "objective", "difference": "difference"}  # second_order -> what `unit_costs` calls it
# How far the weights are moved for a difference, as a share of their length. On `digits`, at five places of the path,
# the cosine with the double backward's slope is 0.99998 or more with 1e-4, 0.998 with 1e-3, 0.92 with 1e-2.
NUDGE = 1e-4


def check_second_order(name: str) -> str:
    if name not in KINDS:
        raise ValueError(f"second_order is {name!r}: choose from {', '.join(KINDS)}")
    return name


class Gates(TorchFunctionMode):
    """Notes which rectifiers a forward pass opens, in order; while they are `held`, a pass finds the same ones open.

    A double backward takes the rectifiers as they stand. A plain difference of gradients also counts those that switch
    on the way: on `digits` its slope and the double backward's then have a cosine of 0.07 to 0.4 where the path begins.
    """

    def __init__(self) -> None:
        super().__init__()
        self.open: list[Tensor] = []
        self.held: Iterator[Tensor] | None = None

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func not in (F.relu, F.relu_, torch.relu, torch.relu_):
            return func(*args, **(kwargs or {}))
        if self.held is not None:
            return args[0] * next(self.held)
        shown = func(*args, **(kwargs or {}))
        self.open.append((shown.detach() > 0).to(shown.dtype))
        return shown


@dataclass(frozen=True)
class FirstOrder:
    """G = Σ_i share_i ∇_i over the batches, and all that `slope_by_difference` needs besides.

    slopes: ∂L_i/∂(X_i + R_i) at the standing weights, (B, channels, height, width) each · gates: of each batch.
    """

    mean: list[Tensor]
    slopes: list[Tensor]
    gates: list[Gates]


def first_order(learner: Learner, images: Tensor, batches: Sequence[Batch], shares: Sequence[float]) -> FirstOrder:
    """One gradient per batch, in the weights and in the images at once. images: (k, B, channels, height, width)."""
    weights, slopes, gates = list(learner.model.parameters()), [], []
    mean = [torch.zeros_like(weight) for weight in weights]
    for shown, batch, share in zip(images, batches, shares, strict=True):
        shown = shown.detach().requires_grad_()
        gates.append(Gates())
        with gates[-1]:
            loss = learner.loss(Points(shown, batch.points.labels), batch.augmentation_seed)
        *gradient, slope = torch.autograd.grad(loss, [*weights, shown])
        torch._foreach_add_(mean, gradient, alpha=share)
        slopes.append(slope)
    return FirstOrder(mean, slopes, gates)


@torch.no_grad()
def slope_by_difference(
    learner: Learner, images: Tensor, batches: Sequence[Batch], shares: Sequence[float], found: FirstOrder
) -> Tensor:
    """∂‖G‖²/∂R_i = 2 share_i ∂⟨∇_i, G⟩/∂R_i without a second-order graph, in the shape of `images`.

    The inner derivative is that of ∂L_i/∂R_i as the weights go along G, so a difference of two gradients in the images
    will do: (∂L_i/∂R_i at W + εG - the same at W) / ε, with ‖εG‖ = NUDGE · ‖W‖, all rectifiers held. Leaves the weights
    at W + εG.
    """
    weights = list(learner.model.parameters())
    length = (squared_norm(weights) / squared_norm(found.mean).clamp_min(1e-30)).sqrt()
    nudge = NUDGE * float(length)
    torch._foreach_add_(weights, found.mean, alpha=nudge)
    slopes = []
    for shown, batch, share, here, gates in zip(images, batches, shares, found.slopes, found.gates, strict=True):
        gates.held = iter(gates.open)
        with torch.enable_grad(), gates:
            shown = shown.detach().requires_grad_()
            loss = learner.loss(Points(shown, batch.points.labels), batch.augmentation_seed)
        there = torch.autograd.grad(loss, shown)[0]
        slopes.append(2 * share / nudge * (there - here))
    return torch.stack(slopes)
