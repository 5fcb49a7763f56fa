"""Figures of thresholds by stage of training, and of the path of an adversary who knows them (Section V)."""

from collections.abc import Sequence
from itertools import pairwise

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from polkit.book.figures.drawing import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    Figure,
    drawable,
    logarithmic,
    spoken,
    styled,
)
from polkit.book.figures.verification import FLOOR
from polkit.defences import cost_of_stages, rejected_at
from polkit.verifier import Calibration, Verdict, worst_ratios

MARKERS = ((BLUE, "circle-open"), (ORANGE, "x"), (GREEN, "square-open"), (PURPLE, "triangle-up-open"))


def stages_figure(
    verdicts: dict[str, Verdict], calibration: Calibration, *, edges: Sequence[float], scales: Sequence[float]
) -> Figure:
    """Each folder's errors over its own course, under a δ that falls from stage to stage.

    edges: where each stage begins, as a share of the steps · scales: its multiple of the calibrated δ · verdicts:
    name -> verdict.
    """
    plot = go.Figure()
    said = _draw_errors(plot, verdicts, calibration, edges, scales)
    styled(plot, "A threshold for each stage of training", "share of the steps, 0 to 1", "error / δ as calibrated")
    logarithmic(plot)
    return Figure(plot, said)


def editor_figure(
    verdicts: dict[str, Verdict],
    calibration: Calibration,
    *,
    edges: Sequence[float],
    scales: Sequence[float],
    shortest: int,
    costs: dict[str, float],
    proof_steps: int,
) -> Figure:
    """`stages_figure` on the left; on the right how long each interval of a path may be that keeps to these stages.

    shortest: T' of the shortest evenly divided path within the one δ · costs: attack -> c, updates per step of the
    spoof · proof_steps: T. Closed form: batches that move nothing.
    """
    plot = make_subplots(rows=1, cols=2, horizontal_spacing=0.12)
    said = _draw_errors(plot, verdicts, calibration, edges, scales)
    interval, factor = calibration.task.checkpoint_interval, cost_of_stages(edges, scales)
    length = -(-shortest * factor // interval) * interval
    line = {"color": BLACK, "dash": "dash", "width": 2}
    plot.add_scatter(x=[0, shortest], y=[1, 1], mode="lines", name="evenly divided path", line=line, row=1, col=2)
    x, y = _staircase(edges, [scale * factor * shortest / length for scale in scales])
    plot.add_scatter(
        x=[share * length for share in x],
        y=y,
        mode="lines+markers",
        name="path at the stages' pace",
        line={"color": ORANGE},
        marker={"symbol": "diamond", "size": 7},
        row=1,
        col=2,
    )
    styled(
        plot,
        "A threshold for each stage, and a path that keeps to it",
        "share of the steps, 0 to 1",
        "error / δ as calibrated",
        height=440,
    )
    plot.update_xaxes(title_text="steps of the spoof", row=1, col=2)
    plot.update_yaxes(title_text="length of an interval / δ", row=1, col=2)
    logarithmic(plot)
    shares = ", ".join(f"{spoken(cost * length / proof_steps)} as {attack}" for attack, cost in costs.items())
    chain = (
        f"a path that keeps to them needs T' = {length:.0f} in place of {shortest} (× {factor:.2f}), its last "
        f"intervals {spoken(y[-1])} δ long, at a cost of {shares}, as shares of the proof's updates."
    )
    return Figure(plot, f"{said.removesuffix('.')}; {chain}")


def _draw_errors(
    plot: go.Figure,
    verdicts: dict[str, Verdict],
    calibration: Calibration,
    edges: Sequence[float],
    scales: Sequence[float],
) -> str:
    caught = []
    for (name, verdict), (colour, symbol) in zip(verdicts.items(), MARKERS, strict=False):
        worst = worst_ratios(verdict, calibration, parts=("weights",))
        if worst.empty:
            caught.append(f"{name}: not replayed, since {verdict.reasons[0].detail}")
            continue
        end = max(worst["end"])
        plot.add_scatter(
            x=worst["start"] / end,
            y=drawable(worst["ratio"], FLOOR),
            mode="markers",
            name=name,
            marker={"color": colour, "symbol": symbol, "size": 7},
        )
        above = rejected_at(verdict, calibration, edges, scales)
        caught.append(f"{name}: {len(above)} of {len(worst)} intervals above their stage's δ")
    x, y = _staircase(edges, scales)
    plot.add_scatter(x=x, y=y, mode="lines", name="δ of the stage", line={"color": BLACK, "width": 2})
    allowed = ", ".join(f"{spoken(scale)} δ from {edge:.0%}" for edge, scale in zip(edges, scales, strict=True))
    return f"with {allowed} of the steps on: {'; '.join(caught)}."


def _staircase(edges: Sequence[float], heights: Sequence[float]) -> tuple[list[float], list[float]]:
    steps = [(edge, height) for pair, height in zip(pairwise([*edges, 1.0]), heights, strict=True) for edge in pair]
    return [x for x, _ in steps], [y for _, y in steps]
