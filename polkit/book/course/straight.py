"""How fine a straight path of harmless batches must be: what exercises of chapters 5 and 6 ask for."""

import math
from collections.abc import Mapping

from torch import Tensor

from polkit.experiments.window import path_spacing
from polkit.training import distances


def path_ratios(
    first: Mapping[str, Tensor], final: Mapping[str, Tensor], pieces: int, allowed: Mapping[str, float]
) -> dict[str, float]:
    """The largest distance between neighbours of the straight way in so many equal pieces, as a multiple of the
    allowed one, in each distance."""
    spacing = path_spacing(first, final, [pieces]).iloc[0]
    return {name: float(value / allowed[name]) for name, value in spacing.items()}


def least_pieces(first: Mapping[str, Tensor], final: Mapping[str, Tensor], allowed: Mapping[str, float]) -> int:
    """The smallest T'/k at which a path of harmless batches is within the allowed distances.

    Raises ValueError where one of them is not above 0.
    """
    if not all(value > 0 for value in allowed.values()):
        raise ValueError(f"no path is fine enough for distances of {dict(allowed)}: each must be above 0")
    whole = distances(first, final)
    pieces = max(1, math.ceil(max(whole[name] / allowed[name] for name in whole if name != "cos")))
    while max(path_ratios(first, final, pieces, allowed).values()) > 1:
        pieces += 1
    return pieces
