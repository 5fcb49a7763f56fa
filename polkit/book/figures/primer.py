"""Figures of the first two chapters: a loss surface one can see whole, noise against k, the size of a proof."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from polkit.book.figures.drawing import (
    BLUE,
    COLOURS,
    DASHES,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SHAPES,
    Figure,
    drawable,
    level,
    logarithmic,
    mark,
    spoken,
    styled,
)


def surface_figure(
    grid: tuple[np.ndarray, np.ndarray, np.ndarray],
    path: np.ndarray,
    replayed: np.ndarray,
    forged: np.ndarray,
    *,
    interval: int,
    threshold: float,
    forged_errors: np.ndarray,
) -> Figure:
    """grid: w_1 (m,), w_2 (n,), loss (n, m) · path: (T + 1, 2), the training · replayed: (T/k, 2), where each replay
    from W_t ends · forged: (intervals + 1, 2), the adversary's checkpoints · threshold: δ in l2, drawn as a ring
    around every forged checkpoint · forged_errors: (intervals,), their errors. The second weight, along which the
    valley runs, is drawn across."""
    first, second, height = grid
    recorded = path[::interval]
    missed = forged_errors > threshold
    plot = go.Figure()
    plot.add_contour(
        x=second,
        y=first,
        z=height.T,
        showscale=False,
        ncontours=25,
        hoverinfo="skip",
        colorscale=[[0, "#F4F4F4"], [1, "#C9C9C9"]],
        line={"width": 0.5, "color": GREY},
    )
    plot.add_scatter(x=path[:, 1], y=path[:, 0], mode="lines", line={"color": BLUE, "width": 1.5}, name="training")
    plot.add_scatter(
        x=recorded[:, 1],
        y=recorded[:, 0],
        mode="markers",
        name="checkpoints W<sub>t</sub>",
        marker={"color": BLUE, "size": 8},
    )
    plot.add_scatter(
        x=replayed[:, 1],
        y=replayed[:, 0],
        mode="markers",
        name="replays W'<sub>t+k</sub>",
        marker={"size": 9, "symbol": "cross-thin", "line": {"width": 2, "color": GREEN}},
    )
    plot.add_scatter(
        x=forged[:, 1],
        y=forged[:, 0],
        mode="lines+markers",
        name="forged straight path",
        line={"color": ORANGE, "width": 1.5, "dash": "dash"},
        marker={"color": ORANGE, "size": 8, "symbol": "diamond"},
    )
    turn = np.linspace(0, 2 * np.pi, 40)
    rings = [
        np.append(centre + threshold * np.stack([np.cos(turn), np.sin(turn)], 1), [[np.nan, np.nan]], axis=0)
        for centre in forged
    ]
    rings = np.concatenate(rings)
    plot.add_scatter(
        x=rings[:, 1],
        y=rings[:, 0],
        mode="lines",
        hoverinfo="skip",
        line={"color": ORANGE, "width": 1, "dash": "dot"},
        name="δ around each forged checkpoint",
    )
    plot.update_layout(yaxis={"scaleanchor": "x", "constrain": "domain"}, xaxis={"constrain": "domain"})
    honest = np.linalg.norm(replayed - recorded[1:], axis=1)
    above = int((honest > threshold).sum())
    found = "all within" if not above else f"{above} of {len(honest)} above"
    word = "every forged step stays within δ" if not missed.any() else f"{int(missed.sum())} of {len(missed)} exceed δ"
    summary = (
        f"training bends its way down from its own start; its replays end up to {spoken(float(honest.max()))} from the "
        f"recorded checkpoints, {found} δ = {spoken(threshold)}; the forged path is a straight line of "
        f"{len(forged) - 1} steps to the same end, and {word}."
    )
    styled(plot, "A model with two weights: one proof, its replay, one forgery", "weight 2", "weight 1", height=460)
    return Figure(plot, summary)


def growth_figure(
    growth: pd.DataFrame,
    *,
    distance: str = "l2",
    reference: float | None = None,
    chosen: int | None = None,
    guess: float | None = None,
    guess_at: int | None = None,
) -> Figure:
    """How far replays drift with the number of steps, for each source of noise; the largest over all starts.

    growth: from `error_growth` · reference: d_ref, divides every error if given · chosen: a k to mark ·
    guess: the reader's own, at `guess_at` steps (default: the most).
    """
    rows = growth[(growth["part"] == "weights") & (growth["distance"] == distance)]
    largest = rows.groupby(["source", "steps"], sort=False)["error"].agg(
        lambda errors: float(np.max(errors.to_numpy()))
    )
    table = largest.unstack(sort=False) / (reference or 1.0)
    plot = go.Figure()
    for number, (source, errors) in enumerate(table.iterrows()):
        plot.add_scatter(
            x=list(errors.index),
            y=drawable(errors),
            name=str(source),
            mode="lines+markers",
            line={"color": COLOURS[number % 6], "dash": DASHES[number % 6]},
            marker={"symbol": SHAPES[number % 6], "size": 8},
            customdata=list(errors),
            hovertemplate="k = %{x}: %{customdata:.3g}",
        )
    marked = chosen if chosen in table.columns else table.columns[-1]
    if chosen is not None:
        mark(plot, chosen, f"k = {chosen}")
    if guess is not None:
        plot.add_scatter(
            x=[guess_at or table.columns[-1]],
            y=drawable([guess]),
            mode="markers",
            name="your prediction",
            marker={"symbol": "star", "size": 15, "color": PURPLE},
        )
    parts = ", ".join(
        f"{source} {'exactly 0' if table[marked][source] == 0 else spoken(table[marked][source])}"
        for source in table.index
    )
    unit = "share of d_ref" if reference else "as it is"
    styled(plot, f"Reproduction error ({distance}) after k replayed steps", "k, steps", f"error, {unit}")
    plot.update_xaxes(type="log", tickvals=list(table.columns))
    logarithmic(plot)
    return Figure(plot, f"after {marked} steps the largest errors in {distance} ({unit}) are: {parts}.")


def size_figure(
    sizes: pd.DataFrame, *, chosen: int | None = None, guess: float | None = None, measured: Sequence[Mapping] = ()
) -> Figure:
    """sizes: columns checkpoint_interval (k), stored_bytes · measured: dicts with the same two keys, from proofs
    that were really recorded · guess: the reader's, in MB at `chosen`."""
    plot = go.Figure()
    megabytes = sizes["stored_bytes"] / 1e6
    plot.add_scatter(
        x=list(sizes["checkpoint_interval"]),
        y=list(megabytes),
        mode="lines+markers",
        name="(T/k + 1) · one checkpoint",
        line={"color": BLUE},
        marker={"size": 7},
    )
    plot.add_scatter(
        x=[row["checkpoint_interval"] for row in measured],
        y=[row["stored_bytes"] / 1e6 for row in measured],
        mode="markers",
        name="recorded here",
        marker={"symbol": "x", "size": 12, "color": ORANGE},
    )
    if chosen is not None:
        mark(plot, chosen, f"k = {chosen}")
    if guess is not None:
        level(plot, guess, "your prediction", guess=True)
    styled(plot, "What a proof weighs", "k, steps between checkpoints", "size, MB")
    plot.update_xaxes(type="log", tickvals=list(sizes["checkpoint_interval"]))
    logarithmic(plot)
    ends = sizes.iloc[[0, -1]]
    weights = zip(ends["stored_bytes"] / 1e6, ends["checkpoint_interval"], strict=True)
    shown = " and ".join(f"{megabytes:.3g} MB at k = {interval}" for megabytes, interval in weights)
    return Figure(plot, f"the size falls as 1/k: {shown}.")
