"""Checks of a replayed proof beyond Algorithm 2, each a plain function from what was seen to what is wrong with it.

`rows` are those of `polkit.verifier.replay.replay`: one per interval, part of the state and distance.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from polkit.proof import Proof
from polkit.training import DISTANCES, PARTS, Task, derive_seed, distances
from polkit.verifier import Reason, error_reasons
from polkit.verifier.replay import Table, compared, looked_up


def limits_of(rows: pd.DataFrame, margin: float, quantile: float = 1.0) -> Table:
    """A δ for every part and distance: `margin` times the largest error of an honest proof, or a quantile of them.

    The margin counts squared for cos, which grows with the square of a small difference. Raises ValueError for a NaN.
    """
    if not np.isfinite(rows["error"]).all():
        raise ValueError("an error of the honest proof is no finite number: no limit can be set by it")
    found = rows.groupby(["part", "distance"])["error"].quantile(quantile)
    margins = {name: margin**2 if name == "cos" else margin for name in DISTANCES}
    return {
        part: {name: float(found[part, name]) * margins[name] for name in DISTANCES} for part in rows["part"].unique()
    }


def within_limits(rows: pd.DataFrame, limits: Table, parts: Sequence[str] = PARTS) -> list[Reason]:
    """Algorithm 2, line 30, for these parts; with the momentum, an interval must start with what the last one left."""
    rows = rows[rows["part"].isin(parts)]
    return error_reasons(compared(rows, looked_up(limits, rows)), "limits")


def mostly_within(rows: pd.DataFrame, limits: Table, forgiven: float) -> list[Reason]:
    """A second, tight δ: all but a share `forgiven` of the intervals must be within these limits.

    Honest errors on other kernels are a few millionths, but for one interval in a hundred, which it may forgive.
    """
    within = compared(rows, looked_up(limits, rows)).groupby("start")["passed"].all()
    missed, allowed = int((~within).sum()), math.floor(forgiven * len(within))
    if missed <= allowed:
        return []
    return [Reason("tight", f"{missed} of {len(within)} intervals are above the tight δ, at most {allowed} may be")]


def speeds(magnitudes: pd.DataFrame, task: Task) -> pd.Series:
    """How far each interval moved the weights (l2) for each unit of learning rate that it had, by its start.

    magnitudes: start, end, magnitude, as `check_checkpoints` returns them
    """
    rates = [sum(map(task.learning_rate_at, range(row.start, row.end))) for row in magnitudes.itertuples()]
    return pd.Series(magnitudes["magnitude"].to_numpy() / rates, index=magnitudes["start"].to_numpy())


def too_fast(magnitudes: pd.DataFrame, task: Task, limit: float) -> list[Reason]:
    """No interval may move much farther than its learning rate has ever moved an honest training; needs no replay."""
    found = speeds(magnitudes, task)
    detail, above = "the interval moves {:.3g} for each unit of learning rate, at most {:.3g} may be", ~(found <= limit)
    return [Reason("speed", detail.format(speed, limit), int(start)) for start, speed in found[above].items()]


def adaptive_threshold(rows: pd.DataFrame) -> list[Reason]:
    """Fang et al. 2023: the error of the weights stays within min(‖g‖, ‖g'‖) of recorded and replayed update."""
    rows = _lengths(rows)
    return error_reasons(compared(rows, rows[["moved", "replay_moved"]].min(axis=1)), "adaptive", "min(g, g')")


def relative_error(rows: pd.DataFrame, limit: float) -> list[Reason]:
    """The error of the weights must stay within a share of the distance that the interval moved them, as recorded."""
    rows = _lengths(rows)
    return error_reasons(compared(rows, limit * rows["moved"]), "relative", f"{limit:.3g} of the distance moved")


def relative_limit(rows: pd.DataFrame, margin: float) -> float:
    """`margin` times the largest share of an honest proof."""
    rows = _lengths(rows)
    return margin * float((rows["error"] / rows["moved"]).max())


def _lengths(rows: pd.DataFrame) -> pd.DataFrame:
    """Errors of the weights in l1, l2 and l∞: the cosine distance of two updates is no length."""
    return rows[(rows["part"] == "weights") & (rows["distance"] != "cos")]


def straightness(proof: Proof) -> float:
    """d(W_0, W_T) over the length of the way by all checkpoints, in l2: 1 for a straight path, NaN for no way."""
    weights = [proof.checkpoint(step).weights for step in proof.checkpoint_steps]
    length = sum(distances(left, right)["l2"] for left, right in pairwise(weights))
    return distances(weights[0], weights[-1])["l2"] / length if length else math.nan


def straight_path(proof: Proof, limit: float) -> list[Reason]:
    """A training wanders; a path that is nearly straight was drawn. limit: the largest straightness allowed."""
    found = straightness(proof)
    if found <= limit:
        return []
    return [Reason("straight", f"the checkpoints' way is {found:.0%} straight, at most {limit:.0%} is allowed")]


def random_starts(proof: Proof, count: int, seed: int) -> list[int]:
    """The first steps of `count` different intervals, each choice as likely; ValueError if there are fewer.

    seed: the verifier's own, drawn after the proof was handed in
    """
    starts = proof.checkpoint_steps[:-1]
    if not 1 <= count <= len(starts):
        raise ValueError(f"{count} intervals cannot be drawn from the {len(starts)} of this proof")
    generator = np.random.default_rng(derive_seed(seed, "random intervals"))
    return sorted(int(start) for start in generator.choice(starts, size=count, replace=False))


def detection_probability(intervals: int, made_up: int, looked_at: int) -> float:
    """That one of the `made_up` intervals among all is among `looked_at` random ones: 1 - C(n-f, m) / C(n, m)."""
    return 1 - math.comb(intervals - made_up, looked_at) / math.comb(intervals, looked_at)
