"""Figures of a forgery: its images, its optimisation, its cost, the bound of Corollary 1."""

from collections.abc import Mapping
from dataclasses import asdict
from itertools import cycle

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from torch import Tensor

from polkit.book.figures.drawing import Figure, drawable, level, line, logarithmic, mark, points, spoken, star, styled
from polkit.book.figures.look import BLUE, COLOURS, DASHES, GREEN, GREY, LOOK, OF_ATTACK, ORANGE, SHAPES
from polkit.book.report import METERS
from polkit.training import Cost

WORDS = METERS | {"gradient_evaluations": "gradients, as the paper counts"}


def images_figure(originals: Tensor, forged: Tensor) -> Figure:
    """Figure 12: original images, the same after the attack, and the difference magnified around grey.

    originals, forged: uint8 (n, channels, height, width).
    """
    before, after = originals.numpy().astype(int), forged.numpy().astype(int)
    change = after - before
    largest = int(np.abs(change).max())
    magnify = 127 / largest if largest else 1.0
    word = "×" if magnify >= 1 else "shrunk to"
    rows = {"original": before, "perturbed": after, f"difference {word} {magnify:.3g}": 127 + change * magnify}
    plot = make_subplots(rows=3, cols=1, vertical_spacing=0.06, subplot_titles=list(rows))
    for number, pictures in enumerate(rows.values(), 1):
        plot.add_trace(go.Image(z=_strip(pictures), hoverinfo="skip"), row=number, col=1)
    plot.update_xaxes(visible=False)
    plot.update_yaxes(visible=False)
    title = {"title_text": "A batch before and after the attack", "title_y": 0.97}
    plot.update_layout(template=LOOK, height=440, margin={"l": 10, "r": 10, "t": 70, "b": 10}, **title)
    summary = (
        f"{len(before)} images before and after; the largest change of a pixel is {largest} of 255 grey levels, "
        f"the mean {spoken(np.abs(change).mean())}; {(change != 0).mean():.0%} of the pixels changed."
    )
    return Figure(plot, summary)


def _strip(pictures: np.ndarray) -> np.ndarray:
    """Pictures side by side, a white gap after each, as RGB."""
    shown = np.clip(pictures, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
    shown = np.broadcast_to(shown, (*shown.shape[:3], 3))
    return np.concatenate(np.pad(shown, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=255), axis=1)


def trace_figure(trace: pd.DataFrame, what: str = "batch") -> Figure:
    """Table II as a picture: loss and squared gradient norm of every treated batch, before and after.

    what: that a row of the trace is about, batch or interval
    """
    treated = trace[trace.get("iterations", trace["evaluations"]) > 0]
    several = {"batch": "batches"}.get(what, f"{what}s")
    plot = make_subplots(rows=1, cols=2, subplot_titles=("loss", "squared norm of the gradient"))
    for column, quantity in enumerate(("loss", "gradient_squared"), 1):  # no columns where nothing was treated
        for when, colour, symbol in (("before", BLUE, "circle-open"), ("after", ORANGE, "x")):
            values, place = drawable(treated.get(f"{quantity}_{when}", treated["step"])), {"row": 1, "col": column}
            points(plot, when, treated["step"], values, colour, symbol, showlegend=column == 1, **place)
    styled(plot, f"What the optimisation does to each {what} it treats", "step of the spoof", "loss")
    plot.update_yaxes(title_text="‖∇‖²", col=2)
    logarithmic(plot)
    if treated.empty:
        return Figure(plot, f"no {what} needed treatment: every update moved less than γ as it was.")
    mean = {name: spoken(value) for name, value in treated.mean(numeric_only=True).items()}
    summary = (
        f"over {len(treated)} treated {several} the mean loss goes from {mean['loss_before']} to {mean['loss_after']}, "
        f"the mean squared gradient norm from {mean['gradient_squared_before']} to {mean['gradient_squared_after']}."
    )
    return Figure(plot, summary)


def places_figure(places: pd.DataFrame, noise_weight: float) -> Figure:
    """Table II by place on the path, at one noise weight, and how the drop falls as the images keep more of themselves.

    places: from `by_place`; noise_weight: of the left plot
    """
    weights = places.index.get_level_values("noise_weight")
    titles = (f"noise weight {each}" for each in (f"{noise_weight:g}", f"{weights.min():g} to {weights.max():g}"))
    plot = make_subplots(rows=1, cols=2, subplot_titles=list(titles), horizontal_spacing=0.13)
    fixed = places.xs(noise_weight, level="noise_weight")
    for (kept, rows), colour, dash in zip(fixed.groupby(level=0), (BLUE, ORANGE), ("solid", "dash"), strict=False):
        at = rows.index.get_level_values("place")
        for when, symbol in (("before", "circle-open"), ("after", "x")):
            name = f"{when}, trained normalisation kept in W<sub>0</sub>" if kept else when
            line(plot, name, at, rows[f"gradient_squared_{when}"], colour, dash, symbol, row=1, col=1)
    plain, said = places.xs(False, level="keeps_normalisation"), []
    for (place, rows), *look in zip(plain.groupby(level="place"), COLOURS[2:], DASHES, SHAPES[2:], strict=False):
        changed = rows.dropna(subset="psnr")
        line(plot, f"at {place:g} of the path", changed["psnr"], changed["drop"], *look, row=1, col=2)
        own = rows.loc[(place, noise_weight)]
        said.append(f"{spoken(own['drop'])}-fold at {place:g} of the path ({spoken(own['psnr'])} dB)")
    title = "What the optimisation does to a batch, by its place on the path"
    styled(plot, title, "share of the path", "squared norm of the gradient", height=430)
    plot.update_xaxes(title_text="PSNR of the images, dB", col=2)
    plot.update_yaxes(title_text="squared norm, times smaller", col=2)
    summary = f"at noise weight {noise_weight:g} the mean squared gradient falls {', '.join(said)}."
    return Figure(logarithmic(plot), summary)


def cost_figure(costs: Mapping[str, Cost], proof: Cost) -> Figure:
    """The four meters of each spoof, as a share of the honest proof's."""
    plot, said = go.Figure(), []
    for (name, cost), colour, symbol in zip(costs.items(), cycle(COLOURS), cycle(SHAPES), strict=False):
        shares = cost.relative_to(proof)
        look = {"mode": "markers+text", "texttemplate": "%{y:.3g}", "textposition": "middle right", "cliponaxis": False}
        look |= {"marker_color": OF_ATTACK.get(name, colour), "marker_symbol": symbol, "marker_size": 11}
        plot.add_scatter(x=list(WORDS.values()), y=[shares[meter] for meter in WORDS], name=name, **look)
        told = [f"{spoken(shares[meter])} of the {meter.replace('_', ' ')}" for meter in asdict(cost)]
        said.append(f"{name} {', '.join(told)}")
    plot.update_layout(scattermode="group")
    level(plot, 1, "")
    styled(plot, "What forging costs, in four meters", "meter", "share of the honest proof's")
    logarithmic(plot)
    return Figure(plot, "; ".join(said) + ".")


def corollary_figure(
    table: pd.DataFrame, *, threshold: float, chosen: int | None = None, guess: float | None = None
) -> Figure:
    """Corollary 1: the measured gap and both bounds as k grows.

    table: from `corollary_table`
    threshold: δ in l2
    chosen: a k to mark and to speak of, if it was measured; otherwise the largest is spoken of
    guess: the reader's gap at the largest k
    """
    plot = go.Figure()
    for name, column, colour, dash, symbol in (
        ("measured gap", "measured_gap", BLUE, "solid", "circle"),
        ("bound, corrected", "bound", GREEN, "dash", "x"),
        ("bound, as printed", "bound_as_printed", ORANGE, "dot", "square"),
    ):
        shown = table[table[column] > 0]
        line(plot, name, shown["k"], shown[column], colour, dash, symbol, marker_size=9)
    level(plot, threshold, "δ (l2)")
    if guess is not None:
        star(plot, table["k"].max(), guess)
    styled(plot, "Corollary 1 against the measured gap", "k, batches optimised together", "gap in l2")
    plot.update_xaxes(type="log", tickvals=list(table["k"]))
    logarithmic(plot)
    above = table[table["measured_gap"] > table["bound_as_printed"]]["k"].tolist()
    here = table.iloc[-1]
    if chosen in table["k"].tolist():
        here = table.set_index("k", drop=False).loc[chosen]
        mark(plot, chosen, f"k = {chosen}")
    summary = (
        f"at k = {here['k']:.0f} the measured gap is {spoken(here['measured_gap'])}, the corrected bound "
        f"{spoken(here['bound'])}, the printed one {spoken(here['bound_as_printed'])}; the gap exceeds the printed "
        f"bound at k = {', '.join(map(str, above)) or 'none of these'}; "
        f"the gap is {'within' if here['measured_gap'] <= threshold else 'above'} δ, which is {spoken(threshold)}."
    )
    return Figure(plot, summary)


def order_figure(first: Tensor, fresh: Tensor, final: Tensor, tensor: str) -> Figure:
    """One tensor's elements of W_T against the sorted W_0 and against a fresh draw, both from the same ζ."""
    target, plot, correlation = final.flatten().numpy(), go.Figure(), {}
    chosen = np.linspace(0, len(target) - 1, min(len(target), 400)).astype(int)
    for name, start, colour, symbol in (("fresh", fresh, GREY, "x"), ("sorted", first, BLUE, "circle-open")):
        values = start.flatten().numpy()
        points(plot, f"{name} draw", target[chosen], values[chosen], colour, symbol, 6)
        correlation[name] = float(np.corrcoef(target, values)[0, 1])
    styled(plot, f"{tensor}: one draw in two orders", "value in W<sub>T</sub>", "value in W<sub>0</sub>")
    said = f"is {correlation['sorted']:.2f} for the sorted draw and {correlation['fresh']:.2f} for a fresh one"
    return Figure(plot, f"the correlation with W_T {said}, although both hold values from the same distribution.")
