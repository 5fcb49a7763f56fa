"""Panels of the first chapters and of the corollary: a surface one sees whole, noise and size against k, draws."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from polkit.book.figures.attacks import corollary_figure
from polkit.book.figures.drawing import Figure, spoken
from polkit.book.figures.primer import growth_figure, size_figure, surface_figure
from polkit.book.figures.verification import draws_figure
from polkit.book.panels.parts import Panel, Prediction
from polkit.book.panels.sliders import choice_slider, count_slider, delta_slider, interval_slider, steps_slider
from polkit.training import Progress


def surface_panel(
    grid: tuple[np.ndarray, np.ndarray, np.ndarray],
    training: Callable[[int], tuple],
    forgery: Callable[[int], tuple],
    *,
    intervals: Sequence[int],
    interval: int,
    steps: int,
    prediction: Prediction,
) -> Panel:
    """The two-weight model: k decides what is recorded and how large δ is, T' how finely the forged path is cut.

    grid: as in `surface_figure`
    training: k -> (path, replayed ends, δ)
    forgery: number of pieces -> (checkpoints, errors)
    interval, steps: k, one of the intervals, and the number of pieces at first
    """
    sliders = {
        "threshold_scale": delta_slider(),
        "interval": interval_slider(interval, intervals),
        "pieces": steps_slider(steps, 1, 60, 1, "T'/k (pieces)"),
    }

    def draw(_: None, *, guess: float | None, threshold_scale: float, interval: int, pieces: int) -> Figure:
        (path, replayed, threshold), (forged, errors) = training(interval), forgery(pieces)
        delta = threshold * threshold_scale
        figure = surface_figure(grid, path, replayed, forged, interval=interval, threshold=delta, forged_errors=errors)
        guessed = "" if guess is None else f" You predicted that {guess:.0f} pieces would be needed."
        return replace(figure, summary=f"k = {interval}, δ = {spoken(delta)}: {figure.summary}{guessed}")

    return Panel("surface", sliders, draw, prediction=prediction)


def growth_panel(
    growth: pd.DataFrame, reference: float, *, interval: int, prediction: Prediction | None = None
) -> Panel:
    """Reproduction error against k for every source of noise; k moves the line at which the errors are read.

    growth: from `error_growth`
    reference: d_ref
    """

    def draw(rows: pd.DataFrame, *, interval: int, guess: float | None = None) -> Figure:
        return growth_figure(rows, reference=reference, chosen=interval, guess=guess)

    sliders = {"interval": interval_slider(interval, growth["steps"].unique())}
    return Panel("growth", sliders, draw, data=growth, prediction=prediction)


def size_panel(sizes: pd.DataFrame, record: Callable[..., dict], *, interval: int, prediction: Prediction) -> Panel:
    """Size of a proof against k; Run records a real one.

    sizes: columns checkpoint_interval, stored_bytes
    record: called as record(k, progress); returns both for the proof that it has made
    """

    def compute(measured: list[dict], progress: Progress, *, interval: int) -> list[dict]:
        return [*measured, record(interval, progress)]

    def draw(measured: list[dict], *, guess: float | None, interval: int) -> Figure:
        figure = size_figure(sizes, chosen=interval, measured=measured, guess=guess)
        if not measured:
            return figure
        size, k = measured[-1]["stored_bytes"] / 1e6, measured[-1]["checkpoint_interval"]
        return replace(figure, summary=f"{figure.summary} Recorded here: {size:.3g} MB at k = {k}.")

    sliders = {"interval": interval_slider(interval, sizes["checkpoint_interval"])}
    return Panel("size", sliders, draw, data=[], compute=compute, on_run=("interval",), prediction=prediction)


def corollary_panel(
    table: pd.DataFrame, measure: Callable[[int], pd.DataFrame], *, threshold: float, most: int, prediction: Prediction
) -> Panel:
    """Corollary 1: δ at once; Run measures the gap and both bounds at another k.

    table: from `corollary_table`
    measure: k -> rows of such a table
    threshold: δ in l2
    most: the largest k
    """

    def compute(shown: pd.DataFrame, progress: Progress, *, interval: int, **_) -> pd.DataFrame:
        progress(0, 1)
        rows = pd.concat([shown, measure(interval)])
        progress(1, 1)
        return rows.drop_duplicates("k", keep="last").sort_values("k")

    def draw(shown: pd.DataFrame, *, guess: float | None, threshold_scale: float, interval: int) -> Figure:
        return corollary_figure(shown, threshold=threshold * threshold_scale, chosen=interval, guess=guess)

    sliders = {"threshold_scale": delta_slider(), "interval": interval_slider(max(2, most // 2), range(2, most + 1))}
    return Panel("corollary", sliders, draw, data=table, compute=compute, on_run=("interval",), prediction=prediction)


def draws_panel(intervals: int, *, made_up: int, drawn: int, prediction: Prediction) -> Panel:
    """How likely a random draw finds a made-up interval: n, f and m at once.

    intervals, made_up, drawn: n, f and m at first; f and m are at most n
    """

    def draw(_: None, *, guess: float | None, intervals: int, made_up: int, drawn: int) -> Figure:
        return draws_figure(intervals, made_up=min(made_up, intervals), drawn=min(drawn, intervals), guess=guess)

    few, many = intervals // 2, 2 * intervals
    sliders = {
        "intervals": choice_slider(intervals, (few, many), "intervals (n)", "intervals", "intervals of the proof"),
        "made_up": count_slider(made_up, many, "made up (f)", "made-up"),
        "drawn": count_slider(drawn, many, "drawn (m)", "drawn"),
    }
    return Panel("draws", sliders, draw, prediction=prediction)
