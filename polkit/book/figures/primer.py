"""Figures of the first two chapters: a loss surface one can see whole, noise against k, the size of a proof."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from polkit.book.figures.drawing import Figure, drawable, level, line, logarithmic, mark, points, spoken, star, styled
from polkit.book.figures.look import BLACK, BLUE, COLOURS, DASHES, GREEN, GREY, ORANGE, SHAPES
from polkit.experiments import miniature


def concept_figure(seen: miniature.Compared) -> Figure:
    """The idea of the attacks, as in the paper's Figure 1, with a real training of two weights and a forgery of it.

    On the right is one interval of each path, around the end that its replay must reach.
    """
    path, forged, threshold, replays = seen.path, seen.forged, seen.threshold, seen.replays
    errors = [np.linalg.norm(replay[-1]) for replay in replays.values()]
    words = ["inside: accepted" if error <= threshold else "outside: rejected" for error in errors]
    centres = [np.array([-2.6 * threshold * row, 0]) for row in range(3)]  # one below the other
    honest, *others = [replay + centre for replay, centre in zip(replays.values(), centres, strict=True)]

    titles = ("What happens", "What the verifier sees")
    plot = make_subplots(1, 2, subplot_titles=titles, column_widths=[0.53, 0.47], horizontal_spacing=0.08)
    left, right = {"row": 1, "col": 1}, {"row": 1, "col": 2}
    line(plot, "training", *path.T[::-1], BLUE, line_width=1.5, **left)
    points(plot, "checkpoints W<sub>t</sub>", *path[:: seen.interval].T[::-1], BLUE, "circle", **left)
    line(plot, "forged checkpoints", *forged.T[::-1], ORANGE, "dash", "diamond", line_width=1.5, **left)
    turn = np.append(np.linspace(0, 2 * np.pi, 60), np.nan)  # NaN lifts the pen from one ring to the next
    ring = threshold * np.stack([np.cos(turn), np.sin(turn)], 1)
    rings, grey = np.concatenate([ring + centre for centre in centres]), "rgba(0, 0, 0, 0.05)"
    look = {"line_width": 1.5, "fill": "toself", "fillcolor": grey, "hoverinfo": "skip"}
    line(plot, "δ around the recorded end", *rings.T[::-1], BLACK, **look, **right)
    line(plot, "k replayed updates", *honest.T[::-1], GREEN, "dot", **right)
    ends = np.array([honest[-1], *(replay[-1] for replay in others)])
    points(plot, "where a replay ends", *ends.T[::-1], GREEN, "cross-thin-open", 14, marker_line_width=2, **right)
    shown = {"showlegend": False, **right}
    points(plot, "W<sub>t</sub>", *np.array([honest[0], centres[0]]).T[::-1], BLUE, "circle", **shown)
    recorded = np.array([*(replay[0] for replay in others), *centres[1:]])
    points(plot, "forged W<sub>t</sub>", *recorded.T[::-1], ORANGE, "diamond", **shown)
    notes = [(path[0], "W<sub>0</sub>", -16, 0, left), (path[-1], "W<sub>T</sub>", 0, 16, left)]
    notes += [(forged[0], "forged W<sub>0</sub>", 48, -2, left), (honest[0], "W<sub>t</sub>", 0, 16, right)]
    notes += [(centres[0], "W<sub>t+k</sub>", 0, 16, right)]
    for (up, across), text, x, y, panel in notes:
        plot.add_annotation(x=across, y=up, text=text, xshift=x, yshift=y, showarrow=False, **panel)
    for name, word, (up, _) in zip(replays, words, centres, strict=True):
        place = {"x": 1.2 * threshold, "y": up, "xanchor": "left", "align": "left"} | right
        plot.add_annotation(text=f"{name}<br><b>{word}</b>", showarrow=False, **place)
    styled(plot, "A proof, a forgery, and what the verifier compares", "second weight", "first weight", height=420)
    plot.update_xaxes(showticklabels=False, ticks="", showgrid=False)
    plot.update_yaxes(showticklabels=False, ticks="", showgrid=False)
    begun = min(replay[0][1] for replay in replays.values())
    plot.update_xaxes(range=[begun - 0.5 * threshold, 5 * threshold], **right)
    plot.update_yaxes(scaleanchor="x2", **right)
    ends = zip(replays, errors, words, strict=True)
    said = "; ".join(f"{name.replace(',', ' in')}, {spoken(error)} off, {word}" for name, error, word in ends)
    paths = f"a training wanders to W_T, and a forgery goes straight there from its own W_0 in {len(forged) - 1} pieces"
    return Figure(plot, f"{paths}; where a replay ends, beside the recorded end: {said} (δ = {spoken(threshold)}).")


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
    """A training of two weights, its replay and a forgery; weight 2, along which the valley runs, is drawn across.

    grid: w_1 (m,), w_2 (n,) and the loss (n, m)
    path: the training (T + 1, 2)
    replayed: where the replay from each checkpoint ends (T/k, 2)
    forged: the adversary's checkpoints (pieces + 1, 2)
    threshold: δ in l2, drawn as a ring around every forged checkpoint
    forged_errors: reproduction errors of the forged path (pieces,)
    """
    first, second, height = grid
    recorded, missed, plot = path[::interval], int((forged_errors > threshold).sum()), go.Figure()
    shades = {"colorscale": [[0, "#F4F4F4"], [1, "#C9C9C9"]], "line": {"width": 0.5, "color": GREY}}
    plot.add_contour(x=second, y=first, z=height.T, showscale=False, ncontours=25, hoverinfo="skip", **shades)
    line(plot, "training", *path.T[::-1], BLUE, line_width=1.5)
    points(plot, "checkpoints W<sub>t</sub>", *recorded.T[::-1], BLUE, "circle")
    crosses = {"symbol": "cross-thin-open", "size": 9, "marker_line_width": 2}
    points(plot, "replays W'<sub>t+k</sub>", *replayed.T[::-1], GREEN, **crosses)
    line(plot, "forged straight path", *forged.T[::-1], ORANGE, "dash", "diamond", line_width=1.5)
    ring = {"type": "circle", "line": {"color": ORANGE, "dash": "dot", "width": 1}}
    corners = np.stack([forged - threshold, forged + threshold]).swapaxes(0, 1).tolist()
    rings = [ring | {"x0": low[1], "x1": high[1], "y0": low[0], "y1": high[0]} for low, high in corners]
    rings[0] |= {"name": "δ around each forged checkpoint", "showlegend": True}
    plot.update_layout(shapes=rings)
    plot.update_layout(yaxis={"scaleanchor": "x", "constrain": "domain"}, xaxis={"constrain": "domain"})
    title = "A model with two weights: one proof, its replay, one forgery"
    styled(plot, title, "second weight", "first weight", height=460)
    honest = np.linalg.norm(replayed - recorded[1:], axis=1)
    above = int((honest > threshold).sum())
    found = f"{above} of {len(honest)} above" if above else "all within"
    word = f"{missed} of {len(forged_errors)} exceed{'s' * (missed == 1)} δ" if missed else "every piece stays within δ"
    summary = (
        f"training bends its way down from its own start; its replays end up to {spoken(honest.max())} from the "
        f"recorded checkpoints, {found} δ = {spoken(threshold)}; the forged path is a straight line of "
        f"{len(forged_errors)} piece{'s' * (len(forged_errors) > 1)} to the same end, and {word}."
    )
    return Figure(plot, summary)


def growth_figure(
    growth: pd.DataFrame, *, reference: float, chosen: int | None = None, guess: float | None = None
) -> Figure:
    """How far replays drift in l2 with the number of steps, for each source of noise; the largest over all starts.

    growth: from `error_growth`
    reference: d_ref, which divides every error
    chosen: a k to mark
    guess: the reader's own, at the most steps
    """
    rows = growth[(growth["part"] == "weights") & (growth["distance"] == "l2")]
    largest = rows.groupby(["source", "steps"], sort=False)["error"].agg(lambda errors: errors.max(skipna=False))
    table, plot = largest.unstack(sort=False) / reference, go.Figure()
    looks = cycle(zip(COLOURS, DASHES, SHAPES, strict=False))
    for (source, errors), (colour, dash, symbol) in zip(table.iterrows(), looks, strict=False):
        hover = {"customdata": errors, "hovertemplate": "k = %{x}: %{customdata:.3g}"}
        line(plot, source, table.columns, drawable(errors), colour, dash, symbol, **hover)
    marked = chosen if chosen in table.columns else table.columns[-1]
    if chosen is not None:
        mark(plot, chosen, f"k = {chosen}")
    if guess is not None:
        star(plot, table.columns[-1], guess)
    if (table == 0).all(axis=1).any():
        place = {"x": 1, "xref": "paper", "xanchor": "right", "y": np.log10(drawable([0.0])[0]), "yshift": 9}
        plot.add_annotation(text="exactly 0, drawn at the bottom", showarrow=False, **place)
    styled(plot, "Reproduction error (l2) after k replayed steps", "k, steps", "error, share of d<sub>ref</sub>")
    plot.update_xaxes(type="log", tickvals=list(table.columns))
    logarithmic(plot)
    told = [f"{source} {spoken(error) if error else 'exactly 0'}" for source, error in table[marked].items()]
    return Figure(plot, f"the largest errors in l2 (share of d_ref) at k = {marked} are: {', '.join(told)}.")


def size_figure(
    sizes: pd.DataFrame, *, chosen: int | None = None, guess: float | None = None, measured: Sequence[Mapping] = ()
) -> Figure:
    """What a proof weighs against k.

    sizes: columns checkpoint_interval (k), stored_bytes
    chosen: a k to mark
    guess: the reader's, in MB at `chosen`
    measured: mappings with the same two keys, from proofs that were really recorded
    """
    recorded = pd.DataFrame(measured, columns=sizes.columns)
    intervals, megabytes, plot = sizes["checkpoint_interval"], sizes["stored_bytes"] / 1e6, go.Figure()
    line(plot, "(T/k + 1) · one checkpoint", intervals, megabytes, BLUE, symbol="circle", marker_size=7)
    points(plot, "recorded here", recorded["checkpoint_interval"], recorded["stored_bytes"] / 1e6, ORANGE, "x", 12)
    if chosen is not None:
        mark(plot, chosen, f"k = {chosen}")
    if guess is not None:
        level(plot, guess, "your prediction", guess=True)
    styled(plot, "What a proof weighs", "k, steps between checkpoints", "size, MB").update_layout(showlegend=True)
    plot.update_xaxes(type="log", tickvals=list(intervals))
    logarithmic(plot)
    ends = [f"{megabytes.iloc[end]:.3g} MB at k = {intervals.iloc[end]}" for end in (0, -1)]
    return Figure(plot, f"the size falls as T/k + 1: {' and '.join(ends)}.")
