"""Figures that look closely: the replay of one interval, update by update, and the attack on one batch."""

import math

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from torch import Tensor

from polkit.book.figures.drawing import Figure, drawable, level, line, logarithmic, points, spoken, styled
from polkit.book.figures.look import BLACK, BLUE, GREEN, GREY, ORANGE

HIDDEN = {"opacity": 0, "hoverinfo": "skip", "showlegend": False}  # holds the axes where they are as points are added


def interval_figure(rows: pd.DataFrame, *, threshold: float, update: int) -> Figure:
    """An interval in a plane in which distances to its recorded end are the true ones, in l2, after so many updates.

    rows: of one interval, from `replayed_steps`
    threshold: δ, as a share of d_ref
    """
    shown, plot, around = rows.iloc[: update + 1], go.Figure(), np.linspace(0, math.pi, 61)
    now, moved, error = shown.iloc[-1], shown["moved"].iloc[-1], shown["error"].iloc[-1]
    line(plot, "δ", moved + threshold * np.cos(around), threshold * np.sin(around), BLACK, "dot")
    line(plot, "recorded", [0, moved], [0, 0], BLACK, "dash", "square")
    line(plot, "replay", shown["along"], shown["beside"], BLUE, symbol="circle-open", marker_size=7)
    within = bool(error <= threshold)
    for name, here, colour, symbol in (("within δ", within, GREEN, "diamond"), ("above δ", not within, ORANGE, "x")):
        points(plot, name, [now["along"]] * here, [now["beside"]] * here, colour, symbol, 11)
    points(plot, "to come", rows["along"], rows["beside"], GREY, "line-ns-open", **HIDDEN)
    styled(plot, "One interval, update by update", "along the move / d<sub>ref</sub>", "", height=440)
    plot.update_yaxes(title_text="away from the move / d<sub>ref</sub>")
    plot.update_layout(yaxis={"scaleanchor": "x", "constrain": "domain"}, xaxis={"constrain": "domain"})
    ratio = f" ({spoken(error / threshold)} δ)" if threshold else ""
    where = f"steps {now['start']:.0f} to {now['end']:.0f}, after {len(shown) - 1} of {len(rows) - 1} updates"
    summary = (
        f"{where}: the replay is {spoken(error)} d_ref{ratio} from the recorded end, {'within' if within else 'above'} "
        f"δ; the recorded move is {spoken(moved)} d_ref long."
    )
    return Figure(plot, summary)


def batch_figure(images: Tensor, trace: pd.DataFrame, *, iterations: int, share: float) -> Figure:
    """A batch under Attack II after so many evaluations.

    images, trace: from `attacked_batch`
    share: γ, as a multiple of δ/k
    """
    plot, last, now = make_subplots(rows=2, cols=2, horizontal_spacing=0.25), len(trace) - 1, iterations
    over, gradient = trace["over_limit"] / share, trace["gradient_squared"]
    for number, (title, values) in enumerate({"loss": trace["loss"], "‖∇‖²": gradient, "update": over}.items(), 2):
        known, axes = drawable(values), {"xaxis": f"x{number}", "yaxis": f"y{number}"}
        line(plot, title, trace.index[: now + 1], known[: now + 1], BLUE, symbol="circle-open", **axes)
        points(plot, "shown", [now], [known[now]], BLACK, "circle-open", 15, marker_line_width=3, **axes)
        points(plot, "to come", trace.index, known, GREY, "line-ns-open", **HIDDEN, **axes)
    level(plot, 1, "γ", axis="4")
    before, after = (images[at].float().mean(1).numpy() for at in (0, now))
    rows = {"X": before, "X + R": after, "4 R": (127 + 4 * (after - before)).clip(0, 255)}
    strips = [np.hstack(np.pad(row, ((0, 0), (0, 1), (0, 1)), constant_values=255)) for row in rows.values()]
    shown, look = np.vstack(strips).round().astype(int), {"colorscale": "gray", "showscale": False, "hoverinfo": "skip"}
    logarithmic(styled(plot, "A batch under attack", "evaluations", "update / γ", height=520))
    plot.add_heatmap(z=shown, zmin=0, zmax=255, **look)
    labels = {"tickvals": [len(shown) * (2 * row + 1) / 6 - 1 for row in range(3)], "ticktext": list(rows)}
    plot.update_layout(
        showlegend=False,
        xaxis={"title_text": "three of a batch", "showticklabels": False, "ticks": "", "constrain": "domain"},
        yaxis={"title_text": "images", "autorange": "reversed", "scaleanchor": "x", "constrain": "domain"} | labels,
        yaxis2={"title_text": "loss", "type": "linear", "dtick": None, "tickformat": None, "tickvals": None},
        yaxis3_title_text="‖∇‖²",
    )
    drop = gradient[0] / gradient[now]
    fallen = f"{spoken(max(drop, 1 / drop))} times {'smaller' if drop > 1 else 'larger'}" if now else "as it was"
    summary = (
        f"after {now} of {last} evaluations ‖∇‖² is {fallen}, the pixels have changed by "
        f"{spoken(trace['grey_levels'][now])} grey levels on average, and the update moves the weights "
        f"{spoken(over[now])} γ: it {'fits' if over[now] <= 1 else 'does not fit'}."
    )
    return Figure(plot, summary)
