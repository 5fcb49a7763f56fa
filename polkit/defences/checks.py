"""Checks of a replayed proof beyond Algorithm 2, each a plain function from what was seen to what is wrong with it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from polkit.defences.evidence import Evidence
from polkit.distance import DISTANCES, distances
from polkit.proof import Proof
from polkit.training import PARTS

Limits = Mapping[str, Mapping[str, float]]  # part -> distance -> value


@dataclass(frozen=True)
class Finding:
    """What a check has against a proof. start: the first step of the interval, or None for the proof as a whole."""

    check: str
    detail: str
    start: int | None = None

    def __str__(self) -> str:
        return f"{self.check}: {self.detail}"


def limits_of(honest: Evidence, margin: float = 1.5) -> dict[str, dict[str, float]]:
    """A δ for every part and distance: `margin` times the largest error in an honest proof's evidence.

    For other Conditions than those of a `Calibration`, and for the momentum, which it knows nothing of.
    """
    largest = honest.intervals.groupby(["part", "distance"])["error"].max() * margin
    return {part: {name: float(largest[part, name]) for name in DISTANCES}
            for part in honest.intervals["part"].unique()}  # fmt: skip


def within_limits(evidence: Evidence, limits: Limits, parts: Sequence[str] = PARTS) -> list[Finding]:
    """Algorithm 2, line 30, for these parts. With the momentum among them the optimiser's state must be chained: what
    an interval starts with is what the one before has left."""
    rows = evidence.intervals[evidence.intervals["part"].isin(parts)]
    allowed = [limits[part][name] for part, name in zip(rows["part"], rows["distance"], strict=True)]
    return _findings("limits", rows, np.array(allowed), "δ")


def adaptive_threshold(evidence: Evidence, alpha: float = 1.0) -> list[Finding]:
    """Fang et al. 2023: the error of the weights must stay within α · min(‖g‖, ‖g'‖), g and g' the update as recorded
    and as replayed. In l1, l2 and l∞: the cosine distance of two updates is no length."""
    rows = _lengths(evidence)
    return _findings("adaptive", rows, alpha * rows[["moved", "replay_moved"]].min(axis=1), f"{alpha:g} min(g, g')")


def relative_error(evidence: Evidence, limit: float) -> list[Finding]:
    """The error of the weights must stay within a share of the distance that the interval moved them, as recorded."""
    rows = _lengths(evidence)
    return _findings("relative", rows, limit * rows["moved"], f"{limit:.3g} of the distance moved")


def relative_limit(honest: Evidence, margin: float = 1.5) -> float:
    """`margin` times the largest share in an honest proof's evidence."""
    rows = _lengths(honest)
    return margin * float((rows["error"] / rows["moved"]).max())


def straightness(proof: Proof) -> float:
    """d(W_0, W_T) over the length of the way by all checkpoints, in l2: 1 for a straight path, NaN for no way."""
    weights = [proof.checkpoint(step).weights for step in proof.checkpoint_steps]
    length = sum(distances(left, right)["l2"] for left, right in pairwise(weights))
    return distances(weights[0], weights[-1])["l2"] / length if length else math.nan


def straight_path(proof: Proof, limit: float) -> list[Finding]:
    """A training wanders; a path that is nearly straight was drawn. limit: the largest straightness allowed."""
    found = straightness(proof)
    if found <= limit:
        return []
    return [Finding("straight", f"the checkpoints' way is {found:.0%} straight, at most {limit:.0%} is allowed")]


def _lengths(evidence: Evidence) -> pd.DataFrame:
    rows = evidence.intervals
    return rows[(rows["part"] == "weights") & (rows["distance"] != "cos")]


def _findings(check: str, rows: pd.DataFrame, allowed: Sequence[float], limit: str) -> list[Finding]:
    passed = rows["error"].to_numpy() <= np.asarray(allowed)  # NaN does not pass
    return [
        Finding(check, f"steps {row.start} to {row.end}: {row.distance} of the {row.part} is {row.error:.4g}, "
                       f"above {limit} = {bound:.4g}", row.start)
        for row, bound, fine in zip(rows.itertuples(), allowed, passed, strict=True) if not fine
    ]  # fmt: skip
