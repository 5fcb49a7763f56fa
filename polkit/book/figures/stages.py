"""Figures of thresholds by stage of training, and of the path of an adversary who knows them (Section V)."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from polkit.book.figures.drawing import Figure, drawable, line, logarithmic, points, spoken, styled
from polkit.book.figures.look import BLACK, BLUE, GREEN, ORANGE, PURPLE
from polkit.book.figures.verification import FLOOR
from polkit.defences import cost_of_stages, rejected_at
from polkit.verifier import Calibration, Verdict, worst_ratios

MARKERS = ((BLUE, "circle-open"), (ORANGE, "x"), (GREEN, "square-open"), (PURPLE, "triangle-up-open"))
Verdicts = Mapping[str, Verdict]  # by the folder's name
AXES = ("share of the steps, 0 to 1", "error / δ as calibrated")


def stages_figure(
    verdicts: Verdicts, calibration: Calibration, *, edges: Sequence[float], scales: Sequence[float]
) -> Figure:
    """Each folder's errors over its own course, under a δ that falls from stage to stage.

    edges: where each stage begins, as a share of the steps
    scales: its multiple of the calibrated δ
    """
    plot = go.Figure()
    said = _draw_errors(plot, verdicts, calibration, edges, scales)
    logarithmic(styled(plot, "A threshold for each stage of training", *AXES))
    return Figure(plot, f"{said}.")


def editor_figure(
    verdicts: Verdicts,
    calibration: Calibration,
    *,
    edges: Sequence[float],
    scales: Sequence[float],
    shortest: int,
    costs: Mapping[str, float],
) -> Figure:
    """`stages_figure` on the left; on the right how long each interval of a path may be that keeps to these stages.

    This is the closed form, of batches that move nothing.

    shortest: T' of the shortest evenly divided path within the one δ
    costs: attack -> c, updates per step of the spoof
    """
    plot, task = make_subplots(rows=1, cols=2, horizontal_spacing=0.12), calibration.task
    said = _draw_errors(plot, verdicts, calibration, edges, scales)
    interval, factor = task.checkpoint_interval, cost_of_stages(edges, scales)
    length, right = -(-shortest * factor // interval) * interval, {"row": 1, "col": 2}
    line(plot, "evenly divided path", [0, shortest], [1, 1], BLACK, "dash", line_width=2, **right)
    x, y = _staircase(edges, np.array(scales) * factor * shortest / length)
    line(plot, "path at the stages' pace", x * length, y, ORANGE, symbol="diamond", marker_size=7, **right)
    styled(plot, "A threshold for each stage, and a path that keeps to it", *AXES, height=440)
    plot.update_xaxes(title_text="steps of the spoof", **right)
    plot.update_yaxes(title_text="length of an interval / δ", **right)
    logarithmic(plot)
    shares = ", ".join(f"{spoken(cost * length / task.steps)} as {attack}" for attack, cost in costs.items())
    return Figure(
        plot,
        f"{said}; a path that keeps to them needs T' = {length:.0f} in place of {shortest} (× {factor:.2f}), its last "
        f"intervals {spoken(y[-1])} δ long, at a cost of {shares}, as shares of the proof's updates.",
    )


def _draw_errors(
    plot: go.Figure, verdicts: Verdicts, calibration: Calibration, edges: Sequence[float], scales: Sequence[float]
) -> str:
    caught = []
    for (name, verdict), (colour, symbol) in zip(verdicts.items(), MARKERS, strict=False):
        worst = worst_ratios(verdict, calibration, parts=("weights",))
        if worst.empty:
            caught.append(f"{name}: not replayed, since {verdict.reasons[0].detail}")
            continue
        share = worst["start"] / max(worst["end"])
        points(plot, name, share, drawable(worst["ratio"], FLOOR), colour, symbol, 7)
        above = len(rejected_at(verdict, calibration, edges, scales))
        caught.append(f"{name}: {above} of {len(worst)} intervals above their stage's δ")
    line(plot, "δ of the stage", *_staircase(edges, scales), BLACK, line_width=2)
    allowed = ", ".join(f"{spoken(scale)} δ from {edge:.0%}" for edge, scale in zip(edges, scales, strict=True))
    return f"with {allowed} of the steps on: {'; '.join(caught)}"


def _staircase(edges: Sequence[float], heights: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """The corners: each height from its edge to the next one, the last to 1."""
    return np.repeat([*edges, 1.0], 2)[1:-1], np.repeat(heights, 2)
