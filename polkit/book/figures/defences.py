"""Figures of defences: the matrix of spoofs, thresholds by stage of training (Section V), the price of a SNARK."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
import pandas as pd
import plotly.express as px
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from polkit.book.figures.drawing import Figure, drawable, line, logarithmic, mark, points, spoken, styled
from polkit.book.figures.look import BLACK, BLUE, GREEN, LOOK, ORANGE, PURPLE
from polkit.book.figures.verification import FLOOR
from polkit.defences import cost_of_stages, rejected_at
from polkit.defences.snark import WAYS, seconds_per_operation
from polkit.training.task import CIFAR10
from polkit.verifier import Calibration, Verdict, worst_ratios

MARKERS = ((BLUE, "circle-open"), (ORANGE, "x"), (GREEN, "square-open"), (PURPLE, "triangle-up-open"))
Verdicts = Mapping[str, Verdict]  # by the folder's name
AXES = ("share of the steps, 0 to 1", "error / δ as calibrated")


def matrix_figure(counts: pd.DataFrame, repeats: int) -> Figure:
    """A square per folder (rows) and verifier (columns), darker the more often it was accepted, with the number in it.

    The honest training is blue, and so is its repetition; spoofs are orange.

    counts: in how many of the `repeats` each folder was accepted.
    """
    look = {"color_continuous_scale": ["#56B4E9", "#F2F2F2", ORANGE], "template": LOOK, "aspect": "auto"}
    sign = np.where(counts.index.isin(["honest proof", "retraining"]), -1, 1)[:, None]
    plot = px.imshow(sign * counts / repeats, zmin=-1, zmax=1, labels={"x": "", "y": ""}, **look)
    hover = f"%{{y}}, %{{x}}: accepted in %{{text}} of {repeats}<extra></extra>"
    text = counts.astype(str).replace("0", "–")
    plot.update_traces(text=text, texttemplate="%{text}", xgap=2, ygap=2, hovertemplate=hover, textfont_color=BLACK)
    key = f"blue: honest, orange: a spoof; the number: trainings of {repeats} in which it was accepted (–: none)"
    place = {"x": 0, "xref": "paper", "xanchor": "left", "y": 0, "yref": "paper", "yanchor": "top", "yshift": -6}
    plot.add_annotation(text=key, showarrow=False, **place)
    size = {"height": 190 + 28 * len(counts), "margin": {"l": 260, "r": 70, "t": 150, "b": 40}}
    plot.update_layout(template=LOOK, font_size=12, coloraxis_showscale=False, **size)
    plot.update_xaxes(side="top", tickangle=-50, showgrid=False)
    plot.update_yaxes(autorange="reversed", showgrid=False)
    spoofs = counts[sign.ravel() > 0].astype(bool)
    first, shut = counts.columns[0], [name for name in counts.columns if not spoofs[name].any()]
    last = f"none passes “{'” or “'.join(shut)}”" if shut else "none of the others stops all of them"
    said = f"Of {len(spoofs)} spoofs, {int(spoofs[first].sum())} pass the verifier “{first}”"
    return Figure(plot, f"{said} in one of {repeats} trainings or more; {last}.")


def standing_figure(counts: pd.Series, repeats: int, shares: pd.Series) -> Figure:
    """A bar per folder, the honest proof first: in how many of the `repeats` it is accepted.

    shares: folder -> operations as a share of the proof's, of the spoofs.
    """
    honest, spoofs = counts.iloc[0], counts.iloc[1:]
    names = [f"{name} ({shares[name]:.2g})" if name in shares.index else name for name in counts.index]
    text = [str(count) if count else "rejected" for count in counts]
    hover = f"%{{y}}: accepted in %{{x}} of {repeats}<extra></extra>"
    plot = go.Figure(go.Bar(x=counts.to_list(), y=names, orientation="h", text=text, hovertemplate=hover))
    plot.update_traces(marker_color=[BLUE, *[ORANGE] * len(spoofs)], textposition="outside", cliponaxis=False)
    across = "accepted in so many trainings<br>(in brackets: operations / the proof's)"
    styled(plot, "Who passes every check that is switched on", across, "", height=200 + 24 * len(counts))
    plot.update_layout(margin={"l": 110, "t": 50, "b": 80, "r": 60}, showlegend=False)
    plot.update_xaxes(range=[0, repeats], dtick=1)
    plot.update_yaxes(autorange="reversed", title_text=None, automargin="left")  # the longest name is 40 letters long
    left = spoofs[spoofs > 0]
    said = f"the honest proof is accepted in {honest} of {repeats} trainings"
    if left.empty:
        return Figure(plot, f"{said}; none of the {len(spoofs)} spoofs is accepted in any.")
    cheapest = shares[left.index].idxmin()
    said += f"; {len(left)} of {len(spoofs)} spoofs are accepted in one or more, the cheapest of them {cheapest}"
    return Figure(plot, f"{said}, for {spoken(shares[cheapest])} of the proof's operations.")


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
    spoof_steps: int,
    even: float,
    costs: Mapping[str, float],
) -> Figure:
    """`stages_figure` above; below, in closed form, how long intervals of a path within them are.

    shortest: T' of the shortest evenly divided path within the one δ
    spoof_steps, even: of another evenly divided path, T' and how long its intervals are as a multiple of δ
    costs: attack -> c, updates per step of the spoof
    """
    plot, task = make_subplots(rows=2, cols=1, vertical_spacing=0.2), calibration.task
    said = _draw_errors(plot, verdicts, calibration, edges, scales)
    interval, factor = task.checkpoint_interval, cost_of_stages(edges, scales)
    length, below = -(-shortest * factor // interval) * interval, {"row": 2, "col": 1}
    x, y = _staircase(edges, np.array(scales) * factor * shortest / length)
    line(plot, "path at the stages' pace", x * length, y, GREEN, symbol="square-open", marker_size=7, **below)
    for end, place in ((spoof_steps, below), (1, {"row": 1, "col": 1, "showlegend": False})):
        line(plot, "evenly divided path", [0, end], [even, even], ORANGE, "dash", line_width=2, **place)
    styled(plot, "A threshold for each stage, and a path that keeps to it", *AXES, height=600)
    plot.update_xaxes(title_text="steps of the spoof", **below)
    plot.update_yaxes(title_text="interval / δ", **below)
    logarithmic(plot)
    shares = ", ".join(f"{spoken(cost * length / task.steps)} as {attack}" for attack, cost in costs.items())
    said += f"; a path that keeps to them needs T' = {length:.0f} in place of {shortest} (× {factor:.2f})"
    said += f", its last intervals {spoken(y[-1])} δ long, at a cost of {shares}, as shares of the proof's updates; "
    kept = f"{sum(even <= scale for scale in scales)} of {len(scales)} stages"
    said += f"evenly divided, T' = {spoof_steps} makes intervals of {spoken(even)} δ, enough for {kept}."
    return Figure(plot, said)


def _draw_errors(
    plot: go.Figure, verdicts: Verdicts, calibration: Calibration, edges: Sequence[float], scales: Sequence[float]
) -> str:
    caught = []
    for (name, verdict), (colour, symbol) in zip(verdicts.items(), cycle(MARKERS), strict=False):
        worst = worst_ratios(verdict, calibration, parts=("weights",))
        if worst.empty:
            caught.append(f"{name}: not replayed, since {verdict.reasons[0].detail}")
            continue
        points(plot, name, worst["start"] / max(worst["end"]), drawable(worst["ratio"], FLOOR), colour, symbol, 7)
        above = len(rejected_at(verdict, calibration, edges, scales))
        caught.append(f"{name}: {above} of {len(worst)} intervals above their stage's δ")
    line(plot, "δ of the stage", *_staircase(edges, scales), BLACK, line_width=2)
    allowed = ", ".join(f"{spoken(scale)} δ from {edge:.0%}" for edge, scale in zip(edges, scales, strict=True))
    return f"with {allowed} of the steps on: {'; '.join(caught)}"


def _staircase(edges: Sequence[float], heights: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """The corners: each height from its edge to the next one, the last to 1."""
    return np.repeat([*edges, 1.0], 2)[1:-1], np.repeat(heights, 2)


def proving_figure(steps: pd.DataFrame, operations: int) -> Figure:
    """Seconds over operations of one step: proved, both ways, and native; dotted lines go on with the measured slope.

    steps: the published "snark/steps"
    operations: of one step of the training that the lines end at
    """
    plot, years = go.Figure(), []
    for freivalds, colour, symbol in ((False, ORANGE, "circle"), (True, BLUE, "diamond")):
        mine = steps[steps["freivalds"] == freivalds].sort_values("operations")
        points(plot, WAYS[freivalds], mine["operations"], mine["prove_seconds"], colour, f"{symbol}-open", 9)
        largest, slope = mine.iloc[-1], seconds_per_operation(mine)
        onwards = np.geomspace(largest["operations"], operations, 40)
        seconds = largest["prove_seconds"] + slope * (onwards - largest["operations"])
        line(plot, None, onwards, seconds, colour, "dot", showlegend=False, hoverinfo="skip")
        years.append(slope * operations * CIFAR10.steps / (365.25 * 86400))
    native = steps.groupby("operations")["native_seconds"].median()
    line(plot, "the step itself, in torch", native.index, native, GREEN, symbol="square", marker_size=6)
    styled(plot, "One step, computed and proved", "operations of the step", "seconds")
    logarithmic(logarithmic(plot), "x").update_yaxes(dtick=2)
    mark(plot, operations, "ResNet-20, batch 128")
    place = {"x": np.log10(operations), "y": np.log10(seconds[-1]) - 1, "xanchor": "right", "yanchor": "top"}
    plot.add_annotation(text="extrapolated", showarrow=False, **place)
    times = (steps["prove_seconds"] / steps["native_seconds"]).median()
    longer, *after = (spoken(float(f"{value:.2g}")) for value in (times, *years))
    proved = f"{longer} times as long as computing it, for up to {int(steps['operations'].max()):,} operations"
    said = f"Proving a step took about {proved}; carried on to {CIFAR10.steps:,} steps of {spoken(operations / 1e9)} "
    said += f"billion operations, that is {after[0]} years, or {after[1]} with products checked at random points."
    return Figure(plot, said)
