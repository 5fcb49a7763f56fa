"""Figures of the straight path from W_0 to W_T: a sorted start, the models on the way, momentum that covers it."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from torch import Tensor

from polkit.book.figures.drawing import Figure, drawable, level, line, logarithmic, points, spoken, styled
from polkit.book.figures.look import BLACK, BLUE, GREEN, GREY, ORANGE

TOP, BELOW = {"row": 1, "col": 1}, {"row": 2, "col": 1}
QUANTITIES = {"accuracy": "accuracy", "loss": "loss", "‖∇‖²": "gradient_squared"}  # columns of `models_on_the_path`


def sorting_figure(drawn: Tensor, final: Tensor, starts: pd.DataFrame, *, order: str, spread: float) -> Figure:
    """Above, the values of one tensor of W_0 and of W_T; below, how far W_0 is from W_T, and what the test says.

    drawn, final: the tensor in W_0, at the right spread, and in W_T
    starts: from `spread_starts`, of which order and spread choose one
    """
    plot = make_subplots(rows=2, cols=1, vertical_spacing=0.2)
    edges = np.linspace(-1, 1, 61) * starts["spread"].max() * float(drawn.abs().max())
    for name, values, colour, dash in (
        ("W<sub>0</sub>", spread * drawn, BLUE, "solid"),
        ("a true draw", drawn, BLACK, "dot"),
        ("W<sub>T</sub>", final, ORANGE, "dash"),
    ):
        counts, _ = np.histogram(values.numpy(), edges)
        line(plot, name, edges, [*counts / values.numel(), 0], colour, dash, line_shape="hv", **TOP)
    for (name, rows), colour, dash in zip(starts.groupby("order"), (GREY, GREEN), ("dashdot", "solid"), strict=True):
        symbols = np.where(rows["rejected"], "x", "circle").tolist()
        line(plot, name, rows["spread"], rows["distance"], colour, dash, symbols[0], marker_symbol=symbols, **BELOW)
    now = starts[(starts["order"] == order) & (starts["spread"] == spread)].iloc[0]
    points(plot, "shown", [spread], [now["distance"]], BLACK, "circle-open", 18, marker_line_width=3, **BELOW)
    styled(plot, "A first checkpoint, by its order and its spread", "value of a weight", "share", height=520)
    plot.update_xaxes(title_text="spread / the right one (✕: rejected)", **BELOW)
    plot.update_yaxes(title_text="distance / d<sub>ref</sub>", rangemode="tozero", **BELOW)
    said = f"rejects {now['rejected']} of its tensors" if now["rejected"] else "passes it"
    where = f"{order}, with {spread:g} times the right spread"
    return Figure(plot, f"{where}, W_0 is {now['distance']:.2f} d_ref (l2) from W_T; the initialisation test {said}.")


def path_figure(models: pd.DataFrame, errors: pd.DataFrame, *, quantity: str, threshold_scale: float) -> Figure:
    """Above, a quantity of the models on the path; below, the intervals' errors: shaded where the batches as they are
    err by more than δ, with a ✓ where perturbed ones do not.

    models: from `models_on_the_path`; quantity: one of QUANTITIES
    errors: each interval's start and end on the path, and its error / δ in "interpolation only" and in "Attack II"
    """
    plot, values = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06), models[QUANTITIES[quantity]]
    line(plot, "models on the path", models["place"], values, BLACK, "dot", "square", **TOP)
    for name, *look in (("interpolation only", GREEN, "dash", "x"), ("Attack II", BLUE, "solid", "circle")):
        line(plot, name, errors[["start", "end"]].mean(axis=1), drawable(errors[name]), *look, **BELOW)
    needed = errors[~(errors["interpolation only"] <= threshold_scale)]  # NaN is above
    works = needed["Attack II"] <= threshold_scale
    place = {"type": "rect", "xref": "x2", "yref": "y2 domain", "y0": 0, "y1": 1, "opacity": 0.25, "line": {"width": 0}}
    looks = ((ORANGE, "✕"), (GREEN, "✓"))
    shades = [
        place | {"x0": start, "x1": end, "fillcolor": colour, "label": {"text": text, "textposition": "bottom center"}}
        for start, end, (colour, text) in zip(
            needed["start"], needed["end"], (looks[fits] for fits in works), strict=True
        )
    ]
    plot.update_layout(shapes=shades)  # at once: one by one, each takes some milliseconds
    level(plot, threshold_scale, "δ", axis="2")
    styled(plot, "Along the path from W<sub>0</sub> to W<sub>T</sub>", "", quantity, height=520)
    plot.update_xaxes(title_text="share of the path", **BELOW)
    plot.update_yaxes(title_text="error / δ", **BELOW)
    logarithmic(plot)
    if quantity == "accuracy":
        plot.update_yaxes(type="linear", dtick=0.2, tickformat=None, tickvals=None, **TOP)
    said = f"{len(needed)} of {len(errors)} intervals need perturbed batches"
    said += f", which suffice in {works.sum()} of them" if len(needed) else ""
    ends = f"{quantity} goes from {spoken(values.iloc[0])} at W_0 to {spoken(values.iloc[-1])} at W_T"
    return Figure(plot, f"with δ × {threshold_scale:.2f}, {said}; {ends}.")


def momentum_figure(*, momentum: float, interval: int) -> Figure:
    """Which share of the way a borrowed momentum has carried the weights after each update, without any gradient."""
    plot, updates = go.Figure(), np.arange(interval + 1)
    gone = np.append(0, np.cumsum(momentum ** updates[1:]))
    line(plot, "borrowed momentum", updates, gone / gone[-1], BLUE, symbol="circle")
    line(plot, "an even pace", updates, updates / interval, BLACK, "dash")
    styled(plot, "How borrowed momentum covers an interval", "updates made", "share of the way, 0 to 1")
    half, first = int((gone < gone[-1] / 2).sum()), f"{gone[1] / gone[-1]:.0%}"
    said = f"the first of {interval} updates goes {first} of the way, and after {half} at least half is done"
    return Figure(plot, f"v is {spoken(1 / gone[-1])} times (W_t − W_t+k) / η; {said}.")
