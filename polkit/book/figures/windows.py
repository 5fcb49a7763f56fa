"""Figures of the spoofing window: which T' pass the verifier and still cost less than the proof."""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from polkit.book.figures.drawing import Figure, drawable, level, line, logarithmic, mark, points, spoken, star, styled
from polkit.book.figures.look import BLACK, BLUE, DASHES, GREEN, OF_ATTACK, ORANGE, PURPLE, SHAPES
from polkit.experiments.window import Attempt, window_edges
from polkit.verifier import Calibration, worst_ratios


def window_figure(
    table: pd.DataFrame,
    calibration: Calibration,
    *,
    attempts: Sequence[Attempt] = (),
    threshold_scale: float = 1.0,
    top_q: int | str = "all",
    **marks,
) -> Figure:
    """`judged_window_figure` of spoofs with the calibration's k, as a verifier with Q = top_q finds them.

    table: from `window` at the same threshold_scale
    marks: attack, chosen, guess
    """
    rows = []
    for made in attempts:
        if made.interval == calibration.task.checkpoint_interval:
            verdict = made.verdict.under(calibration.scaled(threshold_scale)).at(top_q)
            over = worst_ratios(verdict, calibration, calibration.regime.parts)["ratio"].fillna(math.inf).max()
            rows.append((made.attack, made.spoof_steps, over / threshold_scale, made.cost, verdict.accepted))
    judged = pd.DataFrame(rows, columns=["attack", "spoof_steps", "ratio", "cost", "accepted"])
    figure = judged_window_figure(table, judged, threshold_scale=threshold_scale, **marks)
    figure.plot.layout.title.text += f" at Q = {top_q}"
    return figure


def judged_window_figure(
    table: pd.DataFrame,
    judged: pd.DataFrame,
    *,
    attack: str,
    threshold_scale: float = 1.0,
    chosen: int | None = None,
    guess: float | None = None,
) -> Figure:
    """Error (above) and cost (below) over T'. The feasible range is shaded and named.

    table: from `window`, with the cost of this attack
    judged: a row per spoof: attack, spoof_steps, ratio (largest error over δ), cost (share of the proof's), accepted
    chosen: T' to mark
    guess: the reader's T'
    """
    plot, steps = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08), table["spoof_steps"]
    above, below = {"row": 1, "col": 1}, {"row": 2, "col": 1}
    line(plot, "error, closed form", steps, table["error_over_threshold"], BLACK, **above)
    line(plot, f"cost, {attack}", steps, table["cost"], BLACK, "dash", **below)
    names, shapes = dict.fromkeys([*OF_ATTACK, *judged["attack"]]), ("circle", "diamond", "square", *SHAPES[4:])
    for (name, shape), passed in itertools.product(zip(names, shapes, strict=False), (True, False)):
        word, symbol = ("accepted", shape) if passed else ("rejected", f"{shape}-x-open")
        found = judged[(judged["attack"] == name) & (judged["accepted"] == passed)]
        for values, place in ((drawable(found["ratio"]), above), (found["cost"], below)):
            more = {"hovertemplate": "T' = %{x}: %{y:.3g}", "marker_line_width": 1, "showlegend": place is above}
            looks = {"colour": OF_ATTACK.get(name, BLUE), "symbol": symbol, "size": 10}
            points(plot, f"{name}, {word}", found["spoof_steps"], values, **looks, **more, **place)
    level(plot, 1, "δ" if threshold_scale == 1 else f"δ × {threshold_scale:.2g}")
    level(plot, 1, "the honest proof", axis="2", side="left")
    edges = window_edges(table)
    left, right = edges or (steps.iloc[0], steps.iloc[0])
    plot.add_vrect(x0=left, x1=right, fillcolor=GREEN, opacity=0.12 if edges else 0, line_width=0, row="all", col=1)
    if chosen is not None:
        mark(plot, chosen, f"T' = {chosen}")
    if guess is not None:
        mark(plot, guess, "your prediction", guess=True)
    styled(plot, "The spoofing window", "", "", height=520)
    plot.update_xaxes(type="log", dtick="D2", tickformat="~g")
    plot.update_xaxes(title_text="T', steps of the spoof", **below)
    logarithmic(plot)
    plot.update_yaxes(title_text="error / δ", **above)
    plot.update_yaxes(title_text="cost / the proof's", **below)
    fine, cheap = steps[table["error_over_threshold"] <= 1], steps[table["cost"] < 1]
    lower = f"fine enough for δ from T' = {fine.min()}" if len(fine) else "never fine enough for δ here"
    upper = f"cheaper than the proof up to T' = {cheap.max()}" if len(cheap) else "never cheaper here"
    which = f"spoofing passes and pays for T' from {left} to {right}" if edges else "the window is shut"
    said = f"by the closed form {which}: the path is {lower}, and {upper}."
    for row in judged[(judged["attack"] == attack) & (judged["spoof_steps"] == chosen)].tail(1).itertuples():
        word, error = "accepted" if row.accepted else "rejected", spoken(row.ratio)
        said += f" The spoof of T' = {chosen} is {word}: its error is {error} δ, its cost {spoken(row.cost)}."
    return Figure(plot, said)


def map_figure(
    table: pd.DataFrame, break_even: Mapping[str, float], *, spoof_steps: float, threshold_scale: float
) -> Figure:
    """The plane of T' and δ: above the line a path of T' is fine enough, left of an attack's line it is cheaper than
    the proof; where both hold, spoofing passes and pays.

    table: from `window` with the δ of the k shown
    break_even: attack -> the T' that costs what the proof costs
    spoof_steps, threshold_scale: the chosen point; its T' is in the table
    """
    plot, least = go.Figure(), table["error_over_threshold"]
    line(plot, "least δ that accepts the path", table["spoof_steps"], least, BLACK)
    ends = [min(least.min(), threshold_scale) / 2, max(least.max(), threshold_scale) * 2]
    for (attack, length), dash in zip(break_even.items(), DASHES[1:], strict=False):
        line(plot, f"{attack} costs as much as the proof", [length, length], ends, OF_ATTACK.get(attack, PURPLE), dash)
    star(plot, spoof_steps, threshold_scale, "the chosen point", BLACK)
    styled(plot, "Where spoofing passes and pays", "T', steps of the spoof", "δ (× the calibrated one)", height=480)
    logarithmic(logarithmic(plot, "x"))
    row = table[table["spoof_steps"] == spoof_steps].iloc[0]
    ratio = row["error_over_threshold"] / threshold_scale
    fine = f"passes, {spoken(1 / ratio)} times finer than δ needs" if ratio <= 1 else f"fails, {spoken(ratio)} δ long"
    said = [f"the path {fine} ({row['binding']} decides)"]
    for attack, length in break_even.items():
        share = spoof_steps / length
        said.append(f"{attack} {'pays' if share < 1 else 'does not pay'}, at {spoken(share)} of the proof")
    fits = table.loc[table["error_over_threshold"] <= threshold_scale, "spoof_steps"]
    open_to = [attack for attack, length in break_even.items() if len(fits) and fits.min() < length]
    shortest = f"from T' = {fits.min()}" if len(fits) else "at no length shown"
    said += [f"at this δ a path passes {shortest}", f"the window is open for {', '.join(open_to) or 'nobody'}"]
    return Figure(plot, f"{'; '.join(said)}.")


def grid_figure(grid: pd.DataFrame, boundary: pd.Series, break_even: pd.DataFrame) -> Figure:
    """The closed form against spoofs that were made: T' across, δ up, one plot per attack.

    grid: from `window_grid`
    boundary: T' -> the least multiple of δ at which the closed form accepts, mean over the trainings
    break_even: from `break_even`, a vertical line per way to count
    """
    attacks, said = list(grid["attack"].unique()), []
    plot = make_subplots(rows=1, cols=len(attacks), shared_yaxes=True, subplot_titles=attacks, horizontal_spacing=0.03)
    for column, attack in enumerate(attacks, 1):
        cells, place = grid[grid["attack"] == attack], {"row": 1, "col": column, "showlegend": column == 1}
        every, none = cells["measured"] == cells["repeats"], cells["measured"] == 0
        for name, mask, colour, symbol in (
            ("accepted in every training", every, BLUE, "circle"),
            ("accepted in some", ~every & ~none, PURPLE, "diamond-open"),
            ("accepted in none", none, ORANGE, "x"),
        ):
            found = cells[mask]
            points(plot, name, found["spoof_steps"], found["scale"], colour, symbol, legendgroup=name, **place)
        line(plot, "closed form", boundary.index, boundary, BLACK, line_width=2, **place)
        lengths, ends = break_even.loc[attack], [cells["scale"].min(), cells["scale"].max()]
        for (meter, length), dash in zip(lengths.items(), DASHES[1:], strict=False):
            line(plot, f"break-even, {meter}", [length, length], ends, GREEN, dash, **place)
        passing = cells.loc[every, "scale"]
        least = f"from δ × {spoken(passing.min())}" if len(passing) else "at no δ shown"
        costs = ", ".join(f"{length:,.0f} {meter}" for meter, length in lengths.items())
        said.append(f"{attack}: some length passes in every training {least}; it costs as much at T' = {costs}")
    styled(plot, "Closed form and measurement", "T', steps of the spoof", "", height=480)
    plot.update_yaxes(title_text="δ (× the calibrated one)", row=1, col=1)
    logarithmic(logarithmic(plot, "x"))
    drawn = [*grid["spoof_steps"], *break_even.to_numpy().flat]
    plot.update_xaxes(range=np.log10([min(drawn) / 1.3, max(drawn) * 1.3]), tickvals=[30, 100, 300, 1000, 3000])
    alike, cells = int(grid["agree"].sum()), int(grid["repeats"].sum())
    return Figure(plot, f"closed form and measurement agree in {alike} of {cells} cells; {'; '.join(said)}.")
