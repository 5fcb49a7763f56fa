"""d(): how far apart two sets of weights are, in the paper's four distances (Section II-D)."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

DISTANCES = ("l1", "l2", "linf", "cos")
JOINED = 2**20  # elements: so few are compared as one tensor; for `digits` in 0.2 ms, one by one in 0.8


@torch.no_grad()
def distances(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> dict[str, float]:
    """All four distances between two weight sets, each taken as one long vector, in one pass over tensors.

    l1 = Σ|a - b|, l2 = √Σ(a - b)², linf = max|a - b|, cos = 1 - a·b / (‖a‖‖b‖), summed in float64.
    cos is 0 between two zero vectors, 1 between a zero vector and any other. A NaN anywhere gives NaN.
    Raises ValueError if names or shapes differ.
    """
    if left.keys() != right.keys():
        odd = sorted(left.keys() ^ right.keys())
        raise ValueError(f"the two weight sets name different tensors: {', '.join(odd[:3])}")
    absolute = squared = largest = product = left_squared = right_squared = 0.0
    for first, second in _pairs(left, right):
        a, b = first.double(), second.double()
        size = (a - b).abs()
        absolute += float(size.sum())
        squared += float(size @ size)
        largest = _larger(largest, float(size.max()))
        product += float(a @ b)
        left_squared += float(a @ a)
        right_squared += float(b @ b)
    return {
        "l1": absolute,
        "l2": math.sqrt(squared),
        "linf": largest,
        "cos": _cosine_distance(product, left_squared, right_squared, squared),
    }


def _pairs(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    pairs = []
    for name, first in left.items():
        second = right[name]
        if first.shape != second.shape:
            raise ValueError(f"{name} has shape {tuple(first.shape)} in one set, {tuple(second.shape)} in the other")
        if first.numel():
            pairs.append((first.flatten(), second.flatten()))
    if pairs and sum(len(first) for first, _ in pairs) <= JOINED:
        firsts, seconds = zip(*pairs, strict=True)
        return [(torch.cat(firsts), torch.cat(seconds))]
    return pairs


def _larger(left: float, right: float) -> float:
    """max() that keeps a NaN, so that a NaN weight can never look close."""
    return left if math.isnan(left) or left > right else right


def _cosine_distance(product: float, left_squared: float, right_squared: float, squared: float) -> float:
    if squared == 0.0:
        return 0.0
    norms = math.sqrt(left_squared) * math.sqrt(right_squared)
    return 1.0 - product / norms if norms else 1.0
