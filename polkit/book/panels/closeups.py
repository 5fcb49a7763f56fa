"""Panels that look closely: the replay of one interval, update by update, and the attack on one batch."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import ipywidgets as w

from polkit.book.figures.closeups import batch_figure, interval_figure
from polkit.book.figures.drawing import Figure
from polkit.book.panels.parts import Panel
from polkit.book.panels.sliders import choice_slider, chooser, control, delta_slider
from polkit.experiments.closeups import attacked_batch, replayed_steps
from polkit.experiments.places import NOISE_WEIGHTS, PLACES
from polkit.proof import Proof
from polkit.training import Checkpoint, Progress
from polkit.verifier import Calibration


def interval_panel(proofs: Mapping[str, Proof], calibration: Calibration, starts: Sequence[int]) -> Panel:
    """The replay of an interval after each update, with δ around the recorded end; Run replays with other draws.

    starts: first steps of the intervals
    """
    threshold, starts = calibration.normalised(calibration.thresholds["weights"])["l2"], sorted(starts)

    def compute(before: tuple, *_, **__) -> tuple:
        seed = before[-1] + 1
        return replayed_steps(proofs, calibration, starts, seed), seed

    def draw(replayed: tuple, *, threshold_scale: float, start: int, update: int, proof: str) -> Figure:
        table, seed = replayed
        rows = table[(table["proof"] == proof) & (table["start"] == start)]
        figure = interval_figure(rows, threshold=threshold * threshold_scale, update=update)
        again = f"replay {seed + 1}, " if seed else ""
        return replace(figure, summary=f"{again}{proof}, δ × {threshold_scale:.2f}, {figure.summary}")

    first = compute((-1,))
    most = int(first[0]["update"].max())
    sliders = {
        "threshold_scale": delta_slider(),
        "start": choice_slider(starts[0], starts, "from step", "start", "first step of the interval"),
        "update": control(w.IntSlider, "update", "update", "how many are shown", value=most, min=0, max=most),
        "proof": chooser("proof", list(proofs)),
    }
    return Panel("interval", sliders, draw, data=first, compute=compute)


def batch_panel(final: Checkpoint, calibration: Calibration, **common) -> Panel:
    """Attack II on one batch: N and γ at once; Run meets it elsewhere or with another noise weight.

    common: `seed` and `conditions`, as for `attack_2`
    """

    def compute(_, progress: Progress, *, noise_weight: float, place: float, **others) -> tuple:
        return attacked_batch(final, calibration, place, noise_weight, progress=progress, **common)

    def draw(attacked: tuple, *, iterations: int, share: float, noise_weight: float, place: float) -> Figure:
        figure = batch_figure(*attacked, iterations=iterations, share=share)
        return replace(figure, summary=f"at {place:g} of the path, noise weight {noise_weight:g}: {figure.summary}")

    first = compute(None, False, noise_weight=1e-3, place=0.0)
    most = len(first[1]) - 1
    sliders = {
        "iterations": control(w.IntSlider, "n", "N", "evaluations of the objective", value=most, min=0, max=most),
        "noise_weight": choice_slider(1e-3, NOISE_WEIGHTS, "noise weight", "noise", "what noise costs beside ‖∇‖²"),
        "place": choice_slider(0.0, PLACES, "place", "place", "share of the straight path from W_0 to W_T"),
        "share": choice_slider(0.7, (0.1, 0.3, 0.7, 1.0), "γ (δ/k)", "gamma", "how far an update may move"),
    }
    return Panel("batch", sliders, draw, data=first, compute=compute, on_run=("noise_weight", "place"))
