"""The adversary's weights: a W_0 that looks freshly drawn yet lies close to W_T, and the straight path between."""

import torch
from torch import Tensor

from polkit.training import Checkpoint, Task, build_model, derive_seed, initial_buffers, weight_distributions


def sorted_initialisation(task: Task, final: Checkpoint, seed: int, keep_normalisation: bool = False) -> Checkpoint:
    """initW_0(ζ, W_T), Section III-B: a true draw from ζ, dealt out in the order of W_T's own elements.

    The paper sorts all n elements at once. We sort each tensor, since a verifier tests each layer against its own ζ.
    keep_normalisation: leave the weights that must be constant as they are in W_T; the test of Jia et al. never looks
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "sorted initialisation"))
    model, weights = build_model(task), {}
    for name, distribution in weight_distributions(model).items():
        target = final.weights[name]
        if keep_normalisation and distribution.kind == "constant":
            weights[name] = target
            continue
        drawn = distribution.draw(target.shape, generator).to(target.dtype).flatten()
        dealt = torch.empty_like(drawn)
        dealt[target.flatten().argsort()] = drawn.sort().values
        weights[name] = dealt.view_as(target)
    return at_rest(weights, initial_buffers(model))


def at_rest(weights: dict[str, Tensor], buffers: dict[str, Tensor]) -> Checkpoint:
    """A checkpoint whose momentum is zero: the adversary has no history of an optimiser to write there."""
    return Checkpoint(weights, buffers, {name: torch.zeros_like(value) for name, value in weights.items()})


def on_the_path(first: Checkpoint, final: Checkpoint, share: float) -> dict[str, Tensor]:
    """The weights at a share 0 … 1 of the straight way from W_0 to W_T; both ends are exact.

    "Equally dividing the distance between W_0 and W_T" (Section III-B) takes the shares 0, k/T', 2k/T', …, 1.
    """
    if share == 1:
        return final.weights
    return {name: torch.lerp(value, final.weights[name], share) for name, value in first.weights.items()}


def perturbation(weights: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """A direction in which to leave the path (Figure 10): random signs, as large as each tensor in the mean square."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "perturbation"))
    return {
        name: (torch.randint(0, 2, value.shape, generator=generator) * 2 - 1) * value.square().mean().sqrt()
        for name, value in weights.items()
    }
