"""Checks of a replayed proof beyond Algorithm 2, each a plain function from what was seen to what is wrong with it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from polkit.proof import Proof
from polkit.training import DISTANCES, PARTS, Task, derive_seed, distances
from polkit.verifier import STATE, Evidence

Limits = Mapping[str, Mapping[str, float]]  # part -> distance -> value


@dataclass(frozen=True)
class Finding:
    """What a check has against a proof. start: the first step of the interval, or None for the proof as a whole."""

    check: str
    detail: str
    start: int | None = None

    def __str__(self) -> str:
        return f"{self.check}: {self.detail}"


def limits_of(honest: Evidence, margin: float = 1.5, quantile: float = 1.0) -> dict[str, dict[str, float]]:
    """A δ for every part and distance: `margin` times the largest error in an honest proof's evidence, or times a
    smaller quantile of its errors; times its square for cos, which grows with the square of a small difference.

    For other Conditions than those of a `Calibration`, and for the momentum, which it knows nothing of.
    """
    found = honest.intervals.groupby(["part", "distance"])["error"].quantile(quantile)
    margins = {name: margin**2 if name == "cos" else margin for name in DISTANCES}
    return {
        part: {name: float(found[part, name]) * margins[name] for name in DISTANCES}
        for part in honest.intervals["part"].unique()
    }


def within_limits(evidence: Evidence, limits: Limits, parts: Sequence[str] = PARTS) -> list[Finding]:
    """Algorithm 2, line 30, for these parts. With the momentum among them the optimiser's state must be chained: what
    an interval starts with is what the one before has left."""
    rows = evidence.intervals[evidence.intervals["part"].isin(parts)]
    allowed = [limits[part][name] for part, name in zip(rows["part"], rows["distance"], strict=True)]
    return above("limits", rows, np.array(allowed), "δ")


def mostly_within(evidence: Evidence, limits: Limits, forgiven: float, parts: Sequence[str] = STATE) -> list[Finding]:
    """A second, tight δ: all but a share `forgiven` of the intervals must be within these limits.

    Honest errors on other kernels are a few millionths, but for one interval in a hundred; a δ for every interval must
    forgive that one, and so forgives in all of them what only a spoof needs in all of them.
    """
    worst = times_the_limit(evidence, limits, parts)
    missed, allowed = int((~(worst <= 1)).sum()), math.floor(forgiven * len(worst))  # NaN is missed
    if missed <= allowed:
        return []
    return [Finding("tight", f"{missed} of {len(worst)} intervals are above the tight δ, at most {allowed} may be")]


def times_the_limit(evidence: Evidence, limits: Limits, parts: Sequence[str] = STATE) -> pd.Series:
    """For the interval from each start its largest error as a multiple of what is allowed; NaN if one is NaN.

    Of a cosine distance the square root of the multiple, so that all of them grow with a small difference alike.
    """
    rows = evidence.intervals[evidence.intervals["part"].isin(parts)]
    allowed = np.array([limits[part][name] for part, name in zip(rows["part"], rows["distance"], strict=True)])
    errors = rows["error"].to_numpy(float)
    nothing = np.where(np.isnan(errors), math.nan, np.where(errors > 0, math.inf, 0.0))  # where no error is allowed
    times = np.divide(errors, allowed, out=nothing, where=allowed > 0)
    times = np.where(rows["distance"] == "cos", np.sqrt(np.maximum(times, 0)), times)  # rounding may leave -1e-16
    return pd.Series(times, index=rows["start"]).groupby(level=0).agg(lambda values: float(np.max(values.to_numpy())))


def speeds(magnitudes: pd.DataFrame, task: Task) -> pd.Series:
    """How far each interval moved the weights (l2) for each unit of learning rate that it had, by its start.

    magnitudes: start, end, magnitude, as `check_checkpoints` returns them · task: the verifier's.
    """
    rates = [sum(map(task.learning_rate_at, range(row.start, row.end))) for row in magnitudes.itertuples()]
    return pd.Series(magnitudes["magnitude"].to_numpy() / rates, index=magnitudes["start"].to_numpy())


def too_fast(magnitudes: pd.DataFrame, task: Task, limit: float) -> list[Finding]:
    """Momentum is the sum of gradients; an interval that moves much farther than its learning rate has ever moved an
    honest training had a momentum that no gradient has made. Read off the checkpoints, without a replay."""
    return [
        Finding(
            "speed",
            f"the interval moves {speed:.3g} for each unit of learning rate, at most {limit:.3g} may be",
            int(start),
        )
        for start, speed in speeds(magnitudes, task).items()
        if not speed <= limit
    ]


def adaptive_threshold(evidence: Evidence, alpha: float = 1.0) -> list[Finding]:
    """Fang et al. 2023: the error of the weights must stay within α · min(‖g‖, ‖g'‖), g and g' the update as recorded
    and as replayed. In l1, l2 and l∞: the cosine distance of two updates is no length."""
    rows = _lengths(evidence)
    return above("adaptive", rows, alpha * rows[["moved", "replay_moved"]].min(axis=1), f"{alpha:g} min(g, g')")


def relative_error(evidence: Evidence, limit: float) -> list[Finding]:
    """The error of the weights must stay within a share of the distance that the interval moved them, as recorded."""
    rows = _lengths(evidence)
    return above("relative", rows, limit * rows["moved"], f"{limit:.3g} of the distance moved")


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


def above(check: str, rows: pd.DataFrame, allowed: Sequence[float], limit: str) -> list[Finding]:
    """The rows of an Evidence whose error exceeds what each of them is allowed. limit: what that is called."""
    passed = rows["error"].to_numpy() <= np.asarray(allowed)  # NaN does not pass
    return [
        Finding(
            check,
            f"steps {row.start} to {row.end}: {row.distance} of the {row.part} is {row.error:.4g}, "
            f"above {limit} = {bound:.4g}",
            row.start,
        )
        for row, bound, fine in zip(rows.itertuples(), allowed, passed, strict=True)
        if not fine
    ]


def random_starts(proof: Proof, count: int, seed: int) -> list[int]:
    """The first steps of `count` different intervals, each choice as likely as any other.

    seed: the verifier's own, drawn after the proof was handed in. Raises ValueError if there are fewer intervals.
    """
    starts = proof.checkpoint_steps[:-1]
    if not 1 <= count <= len(starts):
        raise ValueError(f"{count} intervals cannot be drawn from the {len(starts)} of this proof")
    generator = np.random.default_rng(derive_seed(seed, "random intervals"))
    return sorted(int(start) for start in generator.choice(starts, size=count, replace=False))


def detection_probability(intervals: int, made_up: int, looked_at: int, forgiven: int = 0) -> float:
    """That more than `forgiven` of the `made_up` intervals among all are among `looked_at` drawn ones.

    With none forgiven 1 - C(n-f, m) / C(n, m); otherwise the upper tail of the hypergeometric distribution. With the
    honest intervals above a tight δ for `made_up`, it is the probability that `mostly_within` rejects an honest proof.
    """

    def drawn(found: int) -> int:
        return math.comb(made_up, found) * math.comb(intervals - made_up, looked_at - found)

    return 1 - sum(map(drawn, range(min(forgiven, looked_at) + 1))) / math.comb(intervals, looked_at)
