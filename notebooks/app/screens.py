"""The two panels that the lecture alone has: the window over published runs, and a verifier of several folders."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from scipy.interpolate import make_interp_spline

from polkit.book.figures.drawing import Figure, spoken
from polkit.book.figures.verification import verdict_figure
from polkit.book.figures.windows import judged_window_figure
from polkit.book.panels.parts import Panel
from polkit.book.panels.sliders import chooser, delta_slider, steps_slider, top_q_slider
from polkit.book.panels.verdicts import Judged, most_intervals
from polkit.experiments.window import over_threshold, spoof_lengths, spoof_rows
from polkit.training import DISTANCES, PARTS

SHOWN = ("interpolation only", "Attack II", "Attack III")
COMPARED = {"weights": ("weights",), "and buffers": PARTS}
REPLAYED = {"Q = 1": "one", "⌊S/k⌋": "most", "all": "all"}


def enlarged(plot: go.Figure) -> go.Figure:
    """The same figure for the back row of a hall, as wide as there is room: on a screen of 1080 lines it leaves 300."""
    for trace in plot.select_traces({"type": "scatter"}):
        trace.update(line_width=4, marker_size=1.6 * (trace.marker.size or 6))
    old = plot.layout.margin
    margin = {"l": 110, "r": 1.2 * old.r, "t": max(1.2 * old.t, 40), "b": 1.5 * old.b}
    plot.update_layout(height=780, autosize=True, font_size=19, title_font_size=23, legend_y=-0.14, margin=margin)
    if plot.layout.showlegend is None:
        plot.layout.showlegend = True  # where the only trace with points may be joined by others
    return plot


def window_panel(runs: pd.DataFrame, paths: pd.DataFrame, *, interval: int) -> Panel:
    """Error and cost over T', the feasible range shaded, for the attack, δ, Q and parts that are chosen.

    The line is the closed form, mean over the trainings; the marks are the spoofs, each before the δ of its own
    training. What an attack costs is the mean of its runs.

    runs, paths: the published ones of `digits`, of one k = interval
    """
    spoofs, made = spoof_rows(runs), spoof_rows(runs, parts=PARTS)
    even = (made["spoof_steps"] / made["cost"]).groupby(made["attack"]).mean()
    repeats, steps = made["seed"].nunique(), int(spoofs["steps"].iloc[0])
    lengths = spoof_lengths(interval, steps, 120)
    sliders = {
        "threshold_scale": delta_slider(),
        "spoof_steps": steps_slider(14 * interval, interval, 60 * interval, interval),
        "attack": chooser("attack", sorted(set(made["attack"]), key=SHOWN.index)),
        "replayed": chooser("replayed", REPLAYED, "all"),
        "compared": chooser("compared", COMPARED, "and buffers"),
    }

    def draw(_: None, *, threshold_scale: float, spoof_steps: int, attack: str, replayed: str, compared: str) -> Figure:
        regime = {"replayed": REPLAYED[replayed], "parts": COMPARED[compared], "threshold_scale": threshold_scale}
        judged = spoof_rows(runs, **regime).query("attack == @attack")
        at = np.union1d(lengths, [spoof_steps])
        table = closed_window(spoofs, paths, at, break_even=even[attack], threshold_scale=threshold_scale)
        figure = judged_window_figure(table, judged, chosen=spoof_steps, attack=attack)
        here = table.set_index("spoof_steps").loc[spoof_steps]
        counts = judged.groupby("spoof_steps")["accepted"].sum()
        found = ", ".join(f"{count} at T' = {length}" for length, count in counts.items())
        return replace(
            figure,
            summary=f"{attack}, δ × {threshold_scale:.2f}: {figure.summary} At T' = {spoof_steps} the path errs "
            f"{spoken(here['error_over_threshold'])} δ and costs {spoken(here['cost'])} of the proof. "
            f"Made and accepted, of {repeats} trainings: {found}.",
        )

    return Panel("published-window", sliders, draw, enlarged=enlarged)


def closed_window(
    spoofs: pd.DataFrame, paths: pd.DataFrame, lengths: np.ndarray, *, break_even: float, threshold_scale: float = 1.0
) -> pd.DataFrame:
    """The table of `window` for T' of any length, as the mean over the published trainings.

    Every distance counts as a power of T', which cos is only nearly. break_even: the T' that costs as much as the proof
    """
    needed = []
    for _, rows in over_threshold(spoofs, paths).groupby("seed"):
        known = np.log(rows.sort_values("spoof_steps")[["spoof_steps", *DISTANCES]].to_numpy())
        needed.append(np.exp(make_interp_spline(known[:, 0], known[:, 1:], k=1)(np.log(lengths))).max(axis=1))
    ratios, cost = np.mean(needed, axis=0) / threshold_scale, np.asarray(lengths) / break_even
    table = pd.DataFrame({"spoof_steps": lengths, "error_over_threshold": ratios, "cost": cost})
    return table.assign(feasible=(ratios <= 1) & (cost < 1))


def explorer_panel(folders: Mapping[str, Judged]) -> Panel:
    """δ and Q over the verdict on one of several folders, each with every interval replayed."""
    most = max(most_intervals(one.verdict) for one in folders.values())
    sliders = {
        "folder": chooser("folder", folders),
        "threshold_scale": delta_slider(),
        "top_q": top_q_slider(most, most),
    }

    def draw(known: Mapping[str, Judged], *, folder: str, threshold_scale: float, top_q: int) -> Figure:
        one = known[folder]
        figure = verdict_figure(one.verdict, one.calibration, threshold_scale=threshold_scale, top_q=top_q)
        where = f"{folder}, {one.spoof.steps} steps, δ × {threshold_scale:.2f}, Q = {top_q}"
        return replace(figure, summary=f"{where}: {figure.summary}")

    return Panel("explorer", sliders, draw, data=dict(folders), enlarged=enlarged)


def add_folder(explorer: Panel, name: str, judged: Judged) -> None:
    """Adds another folder to the panel; the one that was chosen stays chosen."""
    buttons, explorer.data[name] = explorer.sliders["folder"], judged
    chosen = buttons.value
    buttons.options = list(explorer.data)  # which chooses the first one
    buttons.value = chosen
