"""Panels about where spoofing pays: the window over T', and the plane of T' and δ."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import ipywidgets as w
import numpy as np
import pandas as pd

from polkit.book.figures.drawing import Figure
from polkit.book.figures.windows import map_figure, window_figure
from polkit.book.panels.parts import (
    LABEL,
    WIDE,
    Panel,
    Prediction,
    delta_slider,
    interval_slider,
    length_slider,
    number_slider,
    panel,
    steps_slider,
    too_long,
    top_q_slider,
)
from polkit.experiments.noise import calibration_for_interval
from polkit.experiments.window import Attempt, attempt, path_errors, spoof_lengths, window
from polkit.proof import Proof
from polkit.training import DISTANCES, Checkpoint, Progress
from polkit.verifier import Calibration, verify


@dataclass(frozen=True)
class Tried:
    """What the window panel knows: every spoof that was made, and the closed form's errors for the k shown."""

    attempts: tuple[Attempt, ...]
    errors: pd.DataFrame
    calibration: Calibration


def window_panel(
    forgers: Mapping[str, Callable[..., Proof]],
    costs: Mapping[str, float],
    proof: Proof,
    final: Checkpoint,
    calibration: Calibration,
    attempts: list[Attempt],
    *,
    growth: pd.DataFrame,
    intervals: list[int],
    prediction: Prediction | None = None,
) -> Panel:
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
        "threshold_scale": delta_slider(),
        "top_q": top_q_slider(largest_q, largest_q),
        "attack": chooser,
        "spoof_steps": steps_slider(14 * k, k, 40 * k, k),
        "interval": interval_slider(k, sorted({k, *intervals})),
    }
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

    def draw(
        tried: Tried, *, guess: float | None, threshold_scale: float, top_q: int, attack: str, spoof_steps: int, **_
    ) -> Figure:
        table = window(
            tried.errors,
            tried.calibration,
            proof_steps=steps,
            cost_per_step=costs[attack],
            threshold_scale=threshold_scale,
        )
        figure = window_figure(
            table,
            tried.calibration,
            attempts=tried.attempts,
            threshold_scale=threshold_scale,
            top_q=top_q,
            chosen=spoof_steps,
            guess=guess,
            attack=attack,
        )
        k_shown = tried.calibration.task.checkpoint_interval
        return replace(figure, summary=f"{attack}, k = {k_shown}, δ × {threshold_scale:.2f}: {figure.summary}")

    return panel(
        "window",
        sliders,
        draw,
        data=first,
        compute=compute,
        on_run=("interval",),
        cannot_run=cannot_run,
        prediction=prediction,
    )


def map_panel(
    final: Checkpoint, calibration: Calibration, costs: Mapping[str, float], *, growth: pd.DataFrame | None = None
) -> Panel:
    """Whether a spoof passes and pays, over δ, k, the length T of the honest proof and T', all at once. Closed form.

    costs: attack -> c, updates per step of the spoof · growth: of the honest error with k, of one source
    (`error_growth`): δ for another k is scaled by it, so that only the k that were measured can be chosen.
    """
    task = calibration.task
    k = task.checkpoint_interval
    measured = [] if growth is None else sorted(set(growth["steps"]))
    known = {each: calibration_for_interval(calibration, growth, each) for each in measured} | {k: calibration}
    # A path of T' = n k is as fine for every k: its spacing follows from the number n of its intervals.
    pieces = spoof_lengths(1, 100 * task.steps // k, 150)
    errors = path_errors(task, final, pieces * k)
    sliders = {
        "threshold_scale": delta_slider(),
        "interval": interval_slider(k, sorted(known)),
        "length_scale": number_slider(1.0, -1, 2, "T (×)", "polkit-length"),
        "spoof_steps": length_slider(14 * k, spoof_lengths(k, 100 * task.steps, 200)),
    }

    def draw(
        _: None, *, guess: float | None, threshold_scale: float, interval: int, length_scale: float, spoof_steps: int
    ) -> Figure:
        length, chosen = round(task.steps * length_scale), max(1, round(spoof_steps / interval))
        paths = with_row(errors, chosen * k)
        table = window(
            paths.assign(spoof_steps=paths["spoof_steps"] // k * interval),
            known[interval],
            proof_steps=length,
            cost_per_step=1.0,
        )
        figure = map_figure(
            table,
            {attack: length / cost for attack, cost in costs.items()},
            spoof_steps=chosen * interval,
            threshold_scale=threshold_scale,
        )
        where = f"δ × {threshold_scale:.2f}, k = {interval}, T = {length} and T' = {chosen * interval}"
        return replace(figure, summary=f"at {where}, {figure.summary}")

    return panel("map", sliders, draw)


def with_row(errors: pd.DataFrame, spoof_steps: int) -> pd.DataFrame:
    """The table of `path_errors` with one length more, read off between its neighbours: every distance is a power of
    the length there, nearly."""
    if spoof_steps in set(errors["spoof_steps"]):
        return errors
    steps = np.log(errors["spoof_steps"])
    row = {name: np.exp(np.interp(np.log(spoof_steps), steps, np.log(errors[name]))) for name in DISTANCES}
    return pd.concat([errors, pd.DataFrame([{"spoof_steps": spoof_steps} | row])]).sort_values("spoof_steps")
