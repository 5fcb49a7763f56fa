"""Thresholds by stage of training (Section V)."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from polkit.training import Task
from polkit.verifier import Calibration, Reason, Verdict, error_reasons, worst_ratios
from polkit.verifier.replay import compared, looked_up


def stage_edges(task: Task) -> tuple[float, ...]:
    """Where each stage begins, as a share of the training: at 0, and wherever the learning rate drops."""
    return (0.0, *sorted({drop / task.epochs for drop in task.milestones if 0 < drop < task.epochs}))


def stage_scales(
    verdict: Verdict, calibration: Calibration, edges: Sequence[float], margin: float = 2.0, steps: int = 0
) -> tuple[float, ...]:
    """For each stage, `margin` times the largest error of the weights of an honest proof, as a multiple of δ.

    At most 1, and at least 1e-4: no multiple of an error of exactly 0 forgives anything. A stage in which nothing was
    replayed has the multiple of the stage before it. steps: T of that proof; 0: where the last replayed interval ends
    """
    worst = worst_ratios(verdict, calibration, ("weights",))
    shares = worst["start"] / (steps or worst["end"].max())
    scales: list[float] = []
    for begin, end in pairwise([*edges, 1.1]):
        inside = worst.loc[(shares >= begin) & (shares < end), "ratio"]
        before = scales[-1] if scales else 1.0
        scales.append(float(min(1.0, max(1e-4, margin * inside.max(skipna=False)))) if len(inside) else before)
    return tuple(scales)


def stage_threshold(edges: Sequence[float], scales: Sequence[float], share: float) -> float:
    """The multiple of δ that applies at a share 0 … 1 of a proof's steps."""
    return [scale for edge, scale in zip(edges, scales, strict=True) if edge <= share][-1]


def within_stages(
    rows: pd.DataFrame, steps: int, calibration: Calibration, edges: Sequence[float], scales: Sequence[float]
) -> list[Reason]:
    """Every replayed interval of a proof with so many steps must stay within its own stage's δ (weights)."""
    rows = rows[rows["part"] == "weights"]
    factors = np.array([stage_threshold(edges, scales, start / steps) for start in rows["start"]])
    return error_reasons(compared(rows, looked_up(calibration.thresholds, rows) * factors), "stages", "its stage's δ")


def rejected_at(
    verdict: Verdict, calibration: Calibration, edges: Sequence[float], scales: Sequence[float]
) -> list[float]:
    """The shares 0 … 1 of the last replayed step at which a proof's intervals exceed their stage's δ (weights)."""
    steps = verdict.intervals["end"].max()  # NaN, and no reason, where none was replayed
    found = within_stages(verdict.intervals, steps, calibration, edges, scales)
    return sorted({float(reason.step / steps) for reason in found})


def cost_of_stages(edges: Sequence[float], scales: Sequence[float]) -> float:
    """By what factor a straight path must grow to pass stage thresholds, if its spacing follows them.

    With n intervals, a share f_s of them in stage s, an adversary covers at most n Σ f_s δ_s; with one δ it is n δ.
    """
    return 1 / sum((end - begin) * scale for (begin, end), scale in zip(pairwise([*edges, 1.0]), scales, strict=True))
