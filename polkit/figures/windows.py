"""Figures of the spoofing window: which T' pass the verifier and still cost less than the proof."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from polkit.calibration import Calibration
from polkit.figures.drawing import (
    BLUE,
    GREEN,
    ORANGE,
    SHAPES,
    Figure,
    drawable,
    level,
    logarithmic,
    mark,
    spoken,
    styled,
)
from polkit.verifier import worst_ratios
from polkit.window import Attempt, window_edges


def window_figure(table: pd.DataFrame, calibration: Calibration, *, attempts: Sequence[Attempt] = (),
                  threshold_scale: float = 1.0, top_q: int | str = "all", chosen: int | None = None,
                  guess: float | None = None, attack: str = "") -> Figure:  # fmt: skip
    """Error (above) and cost (below) over T'. The feasible range is shaded and named.

    table: from `window` at the same threshold_scale · attempts: spoofs that were made, drawn where a verifier with
    Q found them (whatever the attack, only those of the calibration's k) · chosen: T' to mark · guess: the reader's.
    """
    plot = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08)
    steps = table["spoof_steps"].to_numpy()
    lines = (("error_over_threshold", "error, closed form", BLUE, "solid"),
             ("cost", f"cost, {attack or 'counted'}", GREEN, "dash"))  # fmt: skip
    for row, (column, name, colour, dash) in enumerate(lines, 1):
        line = {"color": colour, "dash": dash}
        plot.add_scatter(x=steps, y=table[column].to_numpy(), mode="lines", name=name, line=line, row=row, col=1)
    kept = [made for made in attempts if made.interval == calibration.task.checkpoint_interval]
    judged = []
    for made in kept:
        verdict = made.verdict.under(calibration.scaled(threshold_scale)).at(top_q)
        ratio = worst_ratios(verdict, calibration)["ratio"].fillna(math.inf).max() / threshold_scale
        judged.append((made, drawable([ratio])[0], verdict.accepted))
    for passed, colour, symbol in ((True, BLUE, "circle"), (False, ORANGE, "x")):
        found = [(made, ratio) for made, ratio, accepted in judged if accepted == passed]
        name = "measured: " + ("accepted" if passed else "rejected")
        for row, values in ((1, [ratio for _, ratio in found]), (2, [made.cost for made, _ in found])):
            plot.add_trace(go.Scatter(
                x=[made.spoof_steps for made, _ in found], y=values, mode="markers", name=name, showlegend=row == 1,
                text=[made.attack for made, _ in found], hovertemplate="%{text}, T' = %{x}: %{y:.3g}",
                marker={"color": colour, "symbol": symbol, "size": 10, "line": {"width": 1}},
            ), row=row, col=1)  # fmt: skip
    for row, text in ((1, "δ"), (2, "the honest proof")):
        level(plot, 1, text, row=row)
    edges = window_edges(table)
    left, right = edges or (steps[0], steps[0])
    plot.add_vrect(x0=left, x1=right, fillcolor=GREEN, opacity=0.12 if edges else 0, line_width=0, row="all", col=1)
    if chosen is not None:
        mark(plot, chosen, f"T' = {chosen}")
    if guess is not None:
        mark(plot, guess, "your prediction", guess=True)
    styled(plot, "The spoofing window", "", "", height=520)
    plot.update_xaxes(title_text="T', steps of the spoof", row=2, col=1)
    plot.update_xaxes(type="log")
    logarithmic(plot)
    plot.update_yaxes(title_text="error / δ", row=1, col=1)
    plot.update_yaxes(title_text="cost / the proof's", row=2, col=1)
    return Figure(plot, window_in_words(table, edges))


def window_in_words(table: pd.DataFrame, edges: tuple[int, int] | None) -> str:
    fine = table[table["error_over_threshold"] <= 1]
    cheap = table[table["cost"] < 1]
    lower = f"fine enough for δ from T' = {fine['spoof_steps'].min()}" if len(fine) else "never fine enough for δ here"
    upper = f"cheaper than the proof up to T' = {cheap['spoof_steps'].max()}" if len(cheap) else "never cheaper here"
    if edges is None:
        return f"the window is shut: the path is {lower}, and {upper}."
    return f"spoofing passes and pays for T' from {edges[0]} to {edges[1]}: the path is {lower}, and {upper}."


def map_figure(scales: np.ndarray, widths: dict[str, np.ndarray], *, chosen: float | None = None) -> Figure:
    """How wide the window is, T'_max / T'_min, against δ, for each attack; below 1 it is shut.

    scales: multiples of the calibrated δ · widths: attack -> one ratio per scale.
    """
    plot = go.Figure()
    said = []
    for (attack, ratio), colour, symbol in zip(widths.items(), (BLUE, ORANGE, GREEN), SHAPES, strict=False):
        plot.add_scatter(x=scales, y=ratio, mode="lines+markers", name=attack,
                         line={"color": colour}, marker={"symbol": symbol, "size": 7})  # fmt: skip
        shut = scales[~(ratio > 1)]  # NaN: no T' is fine enough
        said.append(f"{attack} is shut out below δ × {spoken(float(shut.max()))}" if len(shut)
                    else f"{attack} pays at every δ shown")  # fmt: skip
    level(plot, 1, "shut below this line")
    if chosen is not None:
        mark(plot, chosen, f"δ × {chosen:.2g}")
    styled(plot, "How wide the window is", "δ, multiples of the calibrated one", "longest / shortest T' that pays")
    plot.update_xaxes(type="log")
    logarithmic(plot)
    return Figure(plot, "; ".join(said) + ".")
