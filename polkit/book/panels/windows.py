"""Panels about where spoofing pays: the window over T', the plane of T' and δ, and published runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from polkit.book.figures.drawing import Figure
from polkit.book.figures.results import examples_figure
from polkit.book.figures.windows import map_figure, window_figure
from polkit.book.panels import sliders as controls
from polkit.book.panels.parts import Panel, Prediction, too_long
from polkit.experiments.noise import calibration_for_interval
from polkit.experiments.window import Attempt, attempt, path_errors, spoof_lengths, spoof_rows, updates_per_step, window
from polkit.proof import Proof
from polkit.training import DISTANCES, NAMED_TASKS, PARTS, Checkpoint, Progress
from polkit.verifier import REGIMES, Calibration, verify


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
    attempts: Sequence[Attempt],
    *,
    growth: pd.DataFrame,
    intervals: Sequence[int],
    prediction: Prediction,
) -> Panel:
    """Error and cost over T', the feasible range shaded: δ, Q and the attack answer at once; T' and k when Run is
    pressed, which forges and judges one more spoof.

    forgers: attack -> function, called as in `attack_panel`
    costs: attack -> c, updates per step of the spoof
    growth: of the honest error with k (`error_growth`), by which δ is scaled for another k of the intervals
    """
    task = calibration.task
    k, largest_q = task.checkpoint_interval, max(1, task.steps_per_epoch // task.checkpoint_interval)
    sliders = {
        "threshold_scale": controls.delta_slider(),
        "interval": controls.interval_slider(k, intervals),
        "spoof_steps": controls.steps_slider(14 * k, k, 40 * k, k),
        "top_q": controls.top_q_slider(largest_q, largest_q),
        "attack": controls.chooser("attack", forgers),
    }
    first = Tried(tuple(attempts), path_errors(task, final, spoof_lengths(k, task.steps)), calibration)

    def cannot_run(*, attack: str, spoof_steps: int, interval: int, **_) -> str:
        return too_long(proof.cost().wall_seconds / proof.steps * costs[attack], spoof_steps, interval)

    def compute(tried: Tried, progress: Progress, *, attack: str, spoof_steps: int, interval: int, **_) -> Tried:
        known = calibration if interval == k else calibration_for_interval(calibration, growth, interval)
        whole = max(1, round(spoof_steps / interval)) * interval
        spoof = forgers[attack](final, known.task, spoof_steps=whole, calibration=known, progress=progress)
        made = attempt(attack, spoof, verify(spoof, known, top_q="all", progress=progress), proof)
        errors = path_errors(known.task, final, spoof_lengths(interval, task.steps))
        return Tried((*tried.attempts, made), errors, known)

    def draw(
        tried: Tried, *, guess: float | None, threshold_scale: float, top_q: int, attack: str, spoof_steps: int, **_
    ) -> Figure:
        known, scale = tried.calibration, {"threshold_scale": threshold_scale}
        table = window(tried.errors, known, proof_steps=task.steps, cost_per_step=costs[attack], **scale)
        marks = {"attack": attack, "chosen": spoof_steps, "guess": guess}
        figure = window_figure(table, known, attempts=tried.attempts, top_q=top_q, **scale, **marks)
        where = f"{attack}, T' = {spoof_steps}, k = {known.task.checkpoint_interval}, δ × {threshold_scale:.2f}"
        return replace(figure, summary=f"{where}, Q = {top_q}: {figure.summary}")

    run = {"compute": compute, "cannot_run": cannot_run, "on_run": ("interval",)}
    return Panel("window", sliders, draw, data=first, prediction=prediction, **run)


def map_panel(final: Checkpoint, calibration: Calibration, growth: pd.DataFrame) -> Panel:
    """Whether a spoof passes and pays, over δ, k, the length T of the honest proof and T', all at once. Closed form.

    growth: of the honest error with k, of one source (`error_growth`), by which δ is scaled for the k it has
    """
    task, k = calibration.task, calibration.task.checkpoint_interval
    known = {each: calibration_for_interval(calibration, growth, each) for each in growth["steps"].unique().tolist()}
    known[k] = calibration
    costs = {each: updates_per_step(task.replace(checkpoint_interval=each)) for each in known}  # c, by k, too
    # A path of T' = n k is as fine for every k: its spacing follows from the number n of its intervals.
    errors = path_errors(task, final, spoof_lengths(1, 100 * task.steps // k, 150) * k)
    sliders = {
        "threshold_scale": controls.delta_slider(),
        "interval": controls.interval_slider(k, known),
        "spoof_steps": controls.length_slider(14 * k, spoof_lengths(k, 100 * task.steps, 200)),
        "length_scale": controls.number_slider(1.0, -1, 2, "T (×)", "length"),
    }

    def draw(_: None, *, threshold_scale: float, interval: int, length_scale: float, spoof_steps: int) -> Figure:
        length, chosen = round(task.steps * length_scale), max(1, round(spoof_steps / interval))
        paths = with_row(errors, chosen * k)
        paths = paths.assign(spoof_steps=paths["spoof_steps"] // k * interval)
        table = window(paths, known[interval], proof_steps=length, cost_per_step=1.0)
        even = {attack: length / cost for attack, cost in costs[interval].items()}
        figure = map_figure(table, even, spoof_steps=chosen * interval, threshold_scale=threshold_scale)
        where = f"δ × {threshold_scale:.2f}, k = {interval}, T = {length} and T' = {chosen * interval}"
        return replace(figure, summary=f"at {where}, {figure.summary}")

    return Panel("map", sliders, draw)


def with_row(errors: pd.DataFrame, spoof_steps: int) -> pd.DataFrame:
    """`path_errors` with one length more, interpolated: between neighbours each distance is nearly a power of it."""
    if spoof_steps in set(errors["spoof_steps"]):
        return errors
    steps = np.log(errors["spoof_steps"])
    row = {name: np.exp(np.interp(np.log(spoof_steps), steps, np.log(errors[name]))) for name in DISTANCES}
    return pd.concat([errors, pd.DataFrame([{"spoof_steps": spoof_steps} | row])]).sort_values("spoof_steps")


REPLAYED = {"1": "one", "⌊S/k⌋": "most", "all": "all"}
COMPARED = {"weights": ("weights",), "weights and buffers": PARTS}


def results_panel(runs: Mapping[str, pd.DataFrame], task: str = "digits") -> Panel:
    """Published spoofs as another verifier would judge them: which runs, δ, Q and what is compared.

    runs: a name for the reader -> runs of one regime, such as "digits/runs"
    """
    sliders = {
        "threshold_scale": controls.delta_slider(),
        "replayed": controls.chooser("replayed", REPLAYED, "all", label="Q per epoch"),
        "chosen": controls.chooser("chosen", runs, label="runs"),
        "parts": controls.chooser("parts", COMPARED, label="compared"),
    }

    def draw(_: None, *, chosen: str, threshold_scale: float, replayed: str, parts: str) -> Figure:
        asked = {"replayed": REPLAYED[replayed], "parts": COMPARED[parts], "threshold_scale": threshold_scale}
        figure = examples_figure(spoof_rows(runs[chosen], task=task, **asked))
        figure.plot.update_layout(title_text="Published spoofs before another verifier")
        made = runs[chosen].query("task == @task")
        rules, rate = REGIMES[made["regime"].iloc[0]], made["spoof_learning_rate"].max()
        proofs, spoofs = (made.loc[made["experiment"] == kind, "interval"].min() for kind in ("honest", "spoof"))
        claimed = f"η/{NAMED_TASKS[task].learning_rate / rate:.0f}" if rate else "η"
        said = f"augmentation {rules.augmentation}, proofs of k = {proofs:.0f}, spoofs that claim {claimed} and "
        said += f"k = {spoofs:.0f}, replayed in {rules.precision or 'the precision of the proof'}"
        where = f"{chosen} ({said}), δ × {threshold_scale:.2f}, Q = {replayed}, {parts} compared"
        return replace(figure, summary=f"{where}: {figure.summary}")

    return Panel("results", sliders, draw)
