"""The spoofing window over spoofs that were made and judged before: published runs, so every answer is at once."""

from collections.abc import Collection
from dataclasses import replace

import ipywidgets as w
import numpy as np
import pandas as pd

from polkit.book.figures.drawing import Figure, spoken
from polkit.book.figures.windows import judged_window_figure
from polkit.book.panels.parts import LABEL, WIDE, Panel, delta_slider, panel, steps_slider
from polkit.experiments.window import closed_window, spoof_lengths, spoof_rows
from polkit.training import PARTS

SHOWN = ("interpolation only", "Attack II", "Attack III")
COMPARED = {"weights": ("weights",), "and buffers": PARTS}
REPLAYED = {"Q = 1": "one", "⌊S/k⌋": "most", "all": "all"}


def published_window_panel(runs: pd.DataFrame, paths: pd.DataFrame, *, interval: int, large: bool = False) -> Panel:
    """Error and cost over T', the feasible range shaded, for the attack, δ, Q and parts that are chosen.

    runs, paths: the published ones, of one k = interval · the line is the closed form, mean over the trainings; the
    marks are the spoofs, each before the δ of its own training. What an attack costs is the mean of its runs.
    large: for a hall.
    """
    spoofs = spoof_rows(runs)
    even = (spoofs["spoof_steps"] / spoofs["cost"]).groupby(spoofs["attack"]).mean()
    repeats, steps = spoofs["seed"].nunique(), int(spoofs["steps"].iloc[0])
    lengths = spoof_lengths(interval, steps, 120)
    sliders = {
        "threshold_scale": delta_slider(),
        "spoof_steps": steps_slider(14 * interval, interval, 60 * interval, interval),
        "attack": _chooser("attack", sorted(set(spoofs["attack"]), key=SHOWN.index)),
        "replayed": _chooser("replayed", REPLAYED, "all"),
        "compared": _chooser("compared", COMPARED, "and buffers"),
    }

    def draw(
        _: None,
        *,
        guess: float | None,
        threshold_scale: float,
        spoof_steps: int,
        attack: str,
        replayed: str,
        compared: str,
    ) -> Figure:
        judged = spoof_rows(
            runs, replayed=REPLAYED[replayed], parts=COMPARED[compared], threshold_scale=threshold_scale
        )
        judged = judged[judged["attack"] == attack]
        table = closed_window(
            spoofs, paths, np.union1d(lengths, [spoof_steps]), break_even=even[attack], threshold_scale=threshold_scale
        )
        figure = judged_window_figure(table, judged, chosen=spoof_steps, attack=attack)
        here = table.set_index("spoof_steps").loc[spoof_steps]
        error, cost = spoken(here["error_over_threshold"]), spoken(here["cost"])
        counts = judged.groupby("spoof_steps")["accepted"].sum()
        found = ", ".join(f"{count} at T' = {length}" for length, count in counts.items())
        return replace(
            figure,
            summary=f"{attack}, δ × {threshold_scale:.2f}: {figure.summary} At T' = {spoof_steps} "
            f"the path errs {error} δ and costs {cost} of the proof. "
            f"Made and accepted, of {repeats} trainings: {found}.",
        )

    return panel("published-window", sliders, draw, large=large)


def _chooser(name: str, options: Collection[str], value: str | None = None) -> w.ToggleButtons:
    chooser = w.ToggleButtons(options=list(options), description=name, style=LABEL, layout=WIDE)
    chooser.add_class(f"polkit-{name}")
    chooser.value = value or chooser.value
    return chooser
