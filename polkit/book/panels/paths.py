"""Panels of the straight path from W_0 to W_T: a sorted start, the models on the way, momentum that covers it."""

from dataclasses import replace

import ipywidgets as w
import pandas as pd

from polkit.book.figures.drawing import Figure
from polkit.book.figures.paths import QUANTITIES, momentum_figure, path_figure, sorting_figure
from polkit.book.panels.parts import Panel
from polkit.book.panels.sliders import chooser, control, delta_slider, interval_slider
from polkit.experiments.places import spread_starts
from polkit.training import Checkpoint, initial_checkpoint
from polkit.verifier import Calibration, Verdict, worst_ratios

SPREADS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.4, 1.6, 1.8, 2.0)


def sorting_panel(calibration: Calibration, final: Checkpoint, *, seed: int) -> Panel:
    """The largest tensor of a W_0, as drawn or sorted, of several spreads; Run draws another. seed: of the first."""
    tensor = max(final.weights, key=lambda name: final.weights[name].numel())
    what, shown = "spread of the distribution: × the right one", [(f"{spread:g}", spread) for spread in SPREADS]
    sliders = {
        "order": chooser("order", ("as drawn", "sorted")),
        "spread": control(w.SelectionSlider, "spread", "spread (×)", what, value=1.0, options=shown),
    }

    def compute(before: tuple, *_, **__) -> tuple:
        own = before[-1] + 1
        drawn = initial_checkpoint(calibration.task, own).weights[tensor]
        return drawn, spread_starts(calibration, final, SPREADS, own), own

    def draw(start: tuple, **chosen) -> Figure:
        drawn, starts, own = start
        figure = sorting_figure(drawn, final.weights[tensor], starts, **chosen)
        return figure if own == seed else replace(figure, summary=f"draw {own - seed + 1}: {figure.summary}")

    return Panel("sorting", sliders, draw, data=compute((seed - 1,)), compute=compute)


def path_panel(models: pd.DataFrame, plain: Verdict, treated: Verdict, calibration: Calibration) -> Panel:
    """The models on the path, and where it needs perturbed batches; plain, treated: without them, and with."""
    parts = calibration.regime.parts
    found = [worst_ratios(verdict, calibration, parts).reset_index(drop=True) for verdict in (plain, treated)]
    errors = found[0][["start", "end"]] / found[0]["end"].max()
    errors["interpolation only"], errors["Attack II"] = (rows["ratio"] for rows in found)
    sliders = {"threshold_scale": delta_slider(), "quantity": chooser("quantity", QUANTITIES)}
    return Panel("path", sliders, lambda _, **chosen: path_figure(models, errors, **chosen))


def momentum_panel(momentum: float, interval: int) -> Panel:
    """How borrowed momentum covers an interval, over k and μ; momentum, interval: those at first."""
    scale = {"min": 0.5, "max": 0.99, "step": 0.01, "value": momentum}
    sliders = {
        "interval": interval_slider(interval, (1, 2, 5, 10, 20, 50, 100)),
        "momentum": control(w.FloatSlider, "momentum", "μ", "factor of the optimiser's momentum", **scale),
    }
    return Panel("momentum", sliders, lambda _, **chosen: momentum_figure(**chosen))
