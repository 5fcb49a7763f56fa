"""Panels of the first chapters and of the corollary: a surface one sees whole, noise and size against k."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from polkit.book.figures.attacks import corollary_figure
from polkit.book.figures.drawing import Figure, spoken
from polkit.book.figures.primer import growth_figure, size_figure, surface_figure
from polkit.book.panels.parts import Panel, Prediction, delta_slider, interval_slider, panel, steps_slider
from polkit.training import Progress, reported


def surface_panel(
    grid: tuple[np.ndarray, np.ndarray, np.ndarray],
    training: Callable[[int], tuple],
    forgery: Callable[[int], tuple],
    *,
    intervals: Sequence[int],
    interval: int,
    steps: int,
    prediction: Prediction | None = None,
) -> Panel:
    """The two-weight model: k decides what is recorded and how large δ is, T' how finely the forged path is cut.

    training(k) -> (path, replayed ends, δ) · forgery(intervals) -> (checkpoints, errors).
    """
    sliders = {
        "threshold_scale": delta_slider(),
        "interval": interval_slider(interval, list(intervals)),
        "pieces": steps_slider(steps, 1, 60, 1),
    }
    sliders["pieces"].description = "T'/k (pieces)"

    def draw(_: None, *, guess: float | None, threshold_scale: float, interval: int, pieces: int) -> Figure:
        path, replayed, threshold = training(interval)
        forged, errors = forgery(pieces)
        figure = surface_figure(
            grid, path, replayed, forged, interval=interval, threshold=threshold * threshold_scale, forged_errors=errors
        )
        said = f"k = {interval}, δ = {spoken(threshold * threshold_scale)}: {figure.summary}"
        if guess is not None:
            said += f" You predicted that {guess:.0f} pieces would be needed."
        return replace(figure, summary=said)

    return panel("surface", sliders, draw, prediction=prediction)


def growth_panel(
    growth: pd.DataFrame,
    reference: float,
    *,
    interval: int,
    prediction: Prediction | None = None,
    predicted_at: int | None = None,
) -> Panel:
    """Reproduction error against k for every source of noise; k moves the line at which the errors are read.

    predicted_at: the number of steps that the prediction is about (default: the most)."""
    sliders = {"interval": interval_slider(interval, sorted(growth["steps"].unique().tolist()))}

    def draw(rows: pd.DataFrame, *, guess: float | None, interval: int) -> Figure:
        return growth_figure(rows, reference=reference, chosen=interval, guess=guess, guess_at=predicted_at)

    return panel("growth", sliders, draw, data=growth, prediction=prediction)


def size_panel(
    sizes: pd.DataFrame, record: Callable[..., dict], *, interval: int, prediction: Prediction | None = None
) -> Panel:
    """Size of a proof against k; Run records a real one. record(k, progress) -> dict of checkpoint_interval
    and stored_bytes."""
    sliders = {"interval": interval_slider(interval, sizes["checkpoint_interval"].tolist())}

    def compute(progress: Progress, *, interval: int) -> list[dict]:
        made.append(record(interval, progress))
        return list(made)

    def draw(measured: list[dict], *, guess: float | None, interval: int) -> Figure:
        figure = size_figure(sizes, chosen=interval, measured=measured, guess=guess)
        last = (
            ""
            if not measured
            else (
                f" Recorded here: {spoken(measured[-1]['stored_bytes'] / 1e6)} MB at k = "
                f"{measured[-1]['checkpoint_interval']}."
            )
        )
        return replace(figure, summary=figure.summary + last)

    made: list[dict] = []
    return panel("size", sliders, draw, data=[], compute=compute, on_run=("interval",), prediction=prediction)


def corollary_panel(
    table: pd.DataFrame,
    measure: Callable[[int], pd.DataFrame],
    *,
    threshold: float,
    most: int,
    prediction: Prediction | None = None,
) -> Panel:
    """Corollary 1: δ at once; Run measures the gap and both bounds at another k. measure(k) -> rows of
    `corollary_table`."""
    sliders = {
        "threshold_scale": delta_slider(),
        "interval": interval_slider(max(2, most // 2), list(range(2, most + 1))),
    }
    rows = [table]

    def compute(progress: Progress, *, interval: int, **_) -> pd.DataFrame:
        for k in reported([interval], total=1, title="measuring", progress=progress):
            rows.append(measure(k))
        return pd.concat(rows).drop_duplicates("k", keep="last").sort_values("k")

    def draw(shown: pd.DataFrame, *, guess: float | None, threshold_scale: float, **_) -> Figure:
        return corollary_figure(shown, threshold=threshold * threshold_scale, guess=guess)

    return panel("corollary", sliders, draw, data=table, compute=compute, on_run=("interval",), prediction=prediction)
