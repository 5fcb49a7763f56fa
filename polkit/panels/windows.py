"""Panels about where spoofing pays: the window over T', and how wide it is for every δ."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import ipywidgets as w
import numpy as np
import pandas as pd

from polkit.calibration import Calibration
from polkit.figures.drawing import Figure
from polkit.figures.windows import map_figure, window_figure
from polkit.noise import calibration_for_interval
from polkit.panels.parts import (
    LABEL,
    WIDE,
    Panel,
    Prediction,
    delta_slider,
    interval_slider,
    number_slider,
    panel,
    steps_slider,
    too_long,
    top_q_slider,
)  # fmt: skip
from polkit.progress import Progress
from polkit.proof import Proof
from polkit.training import Checkpoint
from polkit.verifier import verify
from polkit.window import Attempt, attempt, path_errors, spoof_lengths, window, window_edges


@dataclass(frozen=True)
class Tried:
    """What the window panel knows: every spoof that was made, and the closed form's errors for the k shown."""

    attempts: tuple[Attempt, ...]
    errors: pd.DataFrame
    calibration: Calibration


def window_panel(forgers: Mapping[str, Callable[..., Proof]], costs: Mapping[str, float], proof: Proof,
                 final: Checkpoint, calibration: Calibration, attempts: list[Attempt], *, growth: pd.DataFrame,
                 intervals: list[int], prediction: Prediction | None = None) -> Panel:  # fmt: skip
    """Error and cost over T', the feasible range shaded: δ, Q and the attack answer at once; T' and k when Run is
    pressed, which forges and judges one more spoof and appends it to `attempts`.

    forgers: attack -> function, called as in `attack_panel` · costs: attack -> c, updates per step of the spoof ·
    growth: of the honest error with k (`error_growth`), by which δ is scaled for another k.
    """
    task = calibration.task
    k, steps = task.checkpoint_interval, task.steps
    largest_q = max(1, task.steps_per_epoch // k)
    chooser = w.ToggleButtons(options=list(forgers), description="attack", style=LABEL, layout=WIDE)
    chooser.add_class("polkit-attack")
    sliders = {
        "threshold_scale": delta_slider(), "top_q": top_q_slider(largest_q, largest_q),
        "attack": chooser, "spoof_steps": steps_slider(14 * k, k, 40 * k, k),
        "interval": interval_slider(k, sorted({k, *intervals})),
    }  # fmt: skip
    first = Tried(tuple(attempts), path_errors(task, final, spoof_lengths(k, steps)), calibration)

    def cannot_run(*, attack: str, spoof_steps: int, **_) -> str:
        return too_long(proof.cost().wall_seconds / proof.steps * costs[attack], spoof_steps, k)

    def compute(progress: Progress, *, attack: str, spoof_steps: int, interval: int, **_) -> Tried:
        known = calibration if interval == k else calibration_for_interval(calibration, growth, interval)
        whole = max(1, round(spoof_steps / interval)) * interval
        spoof = forgers[attack](final, known.task, spoof_steps=whole, calibration=known, progress=progress)
        made = attempt(attack, spoof, verify(spoof, known, top_q="all", progress=progress), proof)
        errors = path_errors(known.task, final, spoof_lengths(interval, steps))
        shown = Tried((*attempts, made), errors, known)
        attempts.append(made)
        return shown

    def draw(tried: Tried, *, guess: float | None, threshold_scale: float, top_q: int, attack: str, spoof_steps: int,
             **_) -> Figure:  # fmt: skip
        table = window(tried.errors, tried.calibration, proof_steps=steps, cost_per_step=costs[attack],
                       threshold_scale=threshold_scale)  # fmt: skip
        figure = window_figure(table, tried.calibration, attempts=tried.attempts, threshold_scale=threshold_scale,
                               top_q=top_q, chosen=spoof_steps, guess=guess, attack=attack)  # fmt: skip
        k_shown = tried.calibration.task.checkpoint_interval
        return replace(figure, summary=f"{attack}, k = {k_shown}, δ × {threshold_scale:.2f}: {figure.summary}")

    return panel("window", sliders, draw, data=first, compute=compute, on_run=("interval",), cannot_run=cannot_run,
                 prediction=prediction)  # fmt: skip


def map_panel(final: Checkpoint, calibration: Calibration, costs: Mapping[str, float]) -> Panel:
    """How wide the window is over δ, for a length T of the honest proof that the reader chooses. Closed form."""
    task = calibration.task
    lengths = spoof_lengths(task.checkpoint_interval, 100 * task.steps, 150)
    errors = path_errors(task, final, lengths)
    scales = np.geomspace(0.01, 10, 31)
    ratio = window(errors, calibration, proof_steps=task.steps, cost_per_step=1.0)["error_over_threshold"].to_numpy()
    fine = [lengths[ratio <= scale] for scale in scales]
    shortest = np.array([found.min() if len(found) else np.nan for found in fine])
    sliders = {
        "threshold_scale": delta_slider(),
        "length_scale": number_slider(1.0, -1, 2, "T (×)", "polkit-length"),
    }

    def draw(_: None, *, guess: float | None, threshold_scale: float, length_scale: float) -> Figure:
        length = round(task.steps * length_scale)
        widths = {attack: length / cost / shortest for attack, cost in costs.items()}
        figure = map_figure(scales, widths, chosen=threshold_scale)
        said = []
        for attack, cost in costs.items():
            table = window(errors, calibration, proof_steps=length, cost_per_step=cost,
                           threshold_scale=threshold_scale)  # fmt: skip
            edges = window_edges(table)
            said.append(f"{attack}: " + (f"T' from {edges[0]} to {edges[1]}" if edges else "shut"))
        summary = f"at δ × {threshold_scale:.2f} and T = {length}, {'; '.join(said)}. Over all δ: {figure.summary}"
        return replace(figure, summary=summary)

    return panel("map", sliders, draw)
