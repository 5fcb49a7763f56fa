"""Figures of the spoofing window: which T' pass the verifier and still cost less than the proof."""

import math
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from polkit.book.figures.drawing import (
    BLACK,
    BLUE,
    DASHES,
    GREEN,
    ORANGE,
    PURPLE,
    Figure,
    drawable,
    level,
    logarithmic,
    mark,
    spoken,
    styled,
)
from polkit.experiments.window import Attempt, window_edges
from polkit.verifier import Calibration, worst_ratios


def window_figure(
    table: pd.DataFrame,
    calibration: Calibration,
    *,
    attempts: Sequence[Attempt] = (),
    threshold_scale: float = 1.0,
    top_q: int | str = "all",
    chosen: int | None = None,
    guess: float | None = None,
    attack: str = "",
) -> Figure:
    """Error (above) and cost (below) over T'. The feasible range is shaded and named.

    table: from `window` at the same threshold_scale · attempts: spoofs that were made, drawn where a verifier with
    Q found them (whatever the attack, only those of the calibration's k) · chosen: T' to mark · guess: the reader's.
    """
    kept = [made for made in attempts if made.interval == calibration.task.checkpoint_interval]
    rows = []
    for made in kept:
        verdict = made.verdict.under(calibration.scaled(threshold_scale)).at(top_q)
        ratio = worst_ratios(verdict, calibration)["ratio"].fillna(math.inf).max() / threshold_scale
        rows.append((made.attack, made.spoof_steps, ratio, made.cost, verdict.accepted))
    judged = pd.DataFrame(rows, columns=["attack", "spoof_steps", "ratio", "cost", "accepted"])
    return judged_window_figure(table, judged, chosen=chosen, guess=guess, attack=attack)


def judged_window_figure(
    table: pd.DataFrame,
    judged: pd.DataFrame,
    *,
    chosen: int | None = None,
    guess: float | None = None,
    attack: str = "",
) -> Figure:
    """`window_figure` of spoofs that have been judged: a row each, with attack, spoof_steps, ratio (the largest error
    over δ), cost (share of the proof's) and accepted."""
    plot = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08)
    steps = table["spoof_steps"].to_numpy()
    lines = (
        ("error_over_threshold", "error, closed form", BLUE, "solid"),
        ("cost", f"cost, {attack or 'counted'}", GREEN, "dash"),
    )
    for row, (column, name, colour, dash) in enumerate(lines, 1):
        line = {"color": colour, "dash": dash}
        plot.add_scatter(x=steps, y=table[column].to_numpy(), mode="lines", name=name, line=line, row=row, col=1)
    for passed, colour, symbol in ((True, BLUE, "circle"), (False, ORANGE, "x")):
        found = judged[judged["accepted"].astype(bool) == passed]
        name = "measured: " + ("accepted" if passed else "rejected")
        for row, values in ((1, drawable(found["ratio"])), (2, found["cost"].to_list())):
            plot.add_trace(
                go.Scatter(
                    x=found["spoof_steps"].to_list(),
                    y=values,
                    mode="markers",
                    name=name,
                    showlegend=row == 1,
                    text=found["attack"].to_list(),
                    hovertemplate="%{text}, T' = %{x}: %{y:.3g}",
                    marker={"color": colour, "symbol": symbol, "size": 10, "line": {"width": 1}},
                ),
                row=row,
                col=1,
            )
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
    plot.update_xaxes(type="log", dtick="D2")
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


def map_figure(
    table: pd.DataFrame, break_even: dict[str, float], *, spoof_steps: float, threshold_scale: float
) -> Figure:
    """The plane of T' and δ: above the line a path of T' is fine enough, left of an attack's line it is cheaper than
    the proof; where both hold, spoofing passes and pays.

    table: from `window` with the δ of the k shown (columns spoof_steps, error_over_threshold) · break_even: attack ->
    the T' that costs what the proof costs · spoof_steps, threshold_scale: the chosen point.
    """
    plot = go.Figure()
    lengths, least = table["spoof_steps"].to_numpy(), table["error_over_threshold"].to_numpy()
    plot.add_scatter(
        x=lengths, y=least, mode="lines", name="least δ that accepts the path", line={"color": BLUE, "width": 2}
    )
    bottom, top = min(least.min(), threshold_scale) / 2, max(least.max(), threshold_scale) * 2
    for (attack, length), colour, dash in zip(break_even.items(), (ORANGE, GREEN, PURPLE), DASHES[1:], strict=False):
        plot.add_scatter(
            x=[length, length],
            y=[bottom, top],
            mode="lines",
            name=f"{attack} costs the proof",
            line={"color": colour, "dash": dash, "width": 2},
        )
    plot.add_scatter(
        x=[spoof_steps],
        y=[threshold_scale],
        mode="markers",
        name="the chosen point",
        marker={"color": BLACK, "symbol": "star", "size": 14},
    )
    styled(plot, "Where spoofing passes and pays", "T', steps of the spoof", "δ (× the calibrated one)", height=480)
    logarithmic(plot, "x")
    logarithmic(plot)
    return Figure(plot, map_in_words(table, break_even, spoof_steps, threshold_scale))


def map_in_words(table: pd.DataFrame, break_even: dict[str, float], spoof_steps: float, threshold_scale: float) -> str:
    """What holds at the chosen point, which is a row of the table, and by which margin."""
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
    said += [f"at this δ a path passes {shortest}", f"some such length pays for {', '.join(open_to) or 'nobody'}"]
    return f"{'; '.join(said)}."


def grid_figure(grid: pd.DataFrame, boundary: pd.Series, break_even: pd.DataFrame) -> Figure:
    """The closed form against spoofs that were made: T' across, δ up, one plot per attack.

    grid: from `window_grid` · boundary: T' -> the least multiple of δ at which the closed form accepts, mean over the
    trainings · break_even: from `break_even`, a vertical line per meter.
    """
    attacks = list(dict.fromkeys(grid["attack"]))
    plot = make_subplots(rows=1, cols=len(attacks), shared_yaxes=True, subplot_titles=attacks, horizontal_spacing=0.03)
    said = []
    for column, attack in enumerate(attacks, 1):
        cells, first = grid[grid["attack"] == attack], column == 1
        every, none = cells["measured"] == cells["repeats"], cells["measured"] == 0
        for name, chosen, colour, symbol in (
            ("accepted in every training", every, BLUE, "circle"),
            ("in some", ~every & ~none, PURPLE, "diamond-open"),
            ("in none", none, ORANGE, "x"),
        ):
            plot.add_scatter(
                x=cells.loc[chosen, "spoof_steps"],
                y=cells.loc[chosen, "scale"],
                mode="markers",
                name=name,
                legendgroup=name,
                showlegend=first,
                row=1,
                col=column,
                marker={"color": colour, "symbol": symbol, "size": 8},
            )
        plot.add_scatter(
            x=boundary.index,
            y=boundary.to_numpy(),
            mode="lines",
            name="closed form",
            showlegend=first,
            line={"color": BLACK, "width": 2},
            row=1,
            col=column,
        )
        lengths = break_even.loc[attack]
        bottom, top = cells["scale"].min(), cells["scale"].max()
        for (meter, length), dash in zip(lengths.items(), DASHES[1:], strict=False):
            plot.add_scatter(
                x=[length, length],
                y=[bottom, top],
                mode="lines",
                name=f"costs the proof: {meter}",
                showlegend=first,
                line={"color": GREEN, "dash": dash},
                row=1,
                col=column,
            )
        passing = cells.loc[every, "scale"]
        least = f"from δ × {spoken(passing.min())}" if len(passing) else "at no δ shown"
        costs = ", ".join(f"{meter} {length:,.0f}" for meter, length in lengths.items())
        said.append(f"{attack}: accepted in every training {least}; it costs the proof at T' = {costs}")
    styled(plot, "Closed form and measurement", "T', steps of the spoof", "", height=480)
    plot.update_yaxes(title_text="δ (× the calibrated one)", row=1, col=1)
    logarithmic(plot, "x")
    logarithmic(plot)
    drawn = [*grid["spoof_steps"], *break_even.to_numpy().flat]
    plot.update_xaxes(range=[math.log10(min(drawn) / 1.3), math.log10(max(drawn) * 1.3)], dtick=1)
    alike, cells = int(grid["agree"].sum()), int(grid["repeats"].sum())
    return Figure(plot, f"closed form and measurement agree in {alike} of {cells} cells; {'; '.join(said)}.")
