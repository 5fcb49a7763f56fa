"""d(): how far apart two sets of weights are, in the paper's four distances (Section II-D)."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

DISTANCES = ("l1", "l2", "linf", "cos")
AT_ONCE = 2**20  # elements that are compared at a time, so that only so many become float64


@torch.no_grad()
def distances(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> dict[str, float]:
    """All four distances between two weight sets, each taken as one long vector.

    l1 = Σ|a - b|, l2 = √Σ(a - b)², linf = max|a - b|, cos = 1 - a·b / (‖a‖‖b‖), summed in float64.
    cos is 0 between two zero vectors, 1 between a zero vector and any other. A NaN anywhere gives NaN.
    Raises ValueError if names or shapes differ.
    """
    if left.keys() != right.keys():
        odd = sorted(left.keys() ^ right.keys())
        raise ValueError(f"the two weight sets name different tensors: {', '.join(odd[:3])}")
    for name, value in left.items():
        if value.shape != right[name].shape:
            raise ValueError(f"{name} has shape {tuple(value.shape)} in one, {tuple(right[name].shape)} in the other")
    if not left:
        return dict.fromkeys(DISTANCES, 0.0)
    first = torch.cat([value.flatten() for value in left.values()])
    second = torch.cat([right[name].flatten() for name in left])
    sums, largest = torch.zeros(4, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for a, b in zip(first.split(AT_ONCE), second.split(AT_ONCE), strict=True):
        a, b = a.double(), b.double()
        size = (a - b).abs()
        sums += torch.stack([size.sum(), size @ size, a @ a, b @ b])
        largest = torch.maximum(largest, size.max())
    absolute, squared, one, other = torch.cat([sums[:2], sums[2:].sqrt()]).tolist()
    # The definition's form is rounding noise between close neighbours. A NaN stays: nothing compares as larger.
    cosine = max((squared - (one - other) ** 2) / (2 * one * other), 0.0) if one * other else float(squared > 0)
    return {"l1": absolute, "l2": math.sqrt(squared), "linf": float(largest), "cos": cosine}
