"""Panels about a verdict: δ and Q answer at once, T' and k when Run is pressed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from polkit.book.figures.defences import editor_figure
from polkit.book.figures.drawing import Figure, spoken
from polkit.book.figures.verification import verdict_figure
from polkit.book.panels import sliders as controls
from polkit.book.panels.parts import Panel, Prediction, too_long
from polkit.experiments.noise import calibration_for_interval, verdict_at_interval
from polkit.proof import Proof
from polkit.training import Checkpoint, Progress
from polkit.verifier import Calibration, Verdict, verify


@dataclass(frozen=True)
class Judged:
    """A spoof with its verdict (every interval replayed) under the calibration of its k."""

    spoof: Proof
    verdict: Verdict
    calibration: Calibration


def most_intervals(verdict: Verdict) -> int:
    """⌊S/k⌋ or one more: the largest Q that makes a difference; 1 where nothing was replayed."""
    return max(verdict.intervals.drop_duplicates("start").groupby("epoch").size().tolist(), default=1)


def verdict_panel(
    verdict: Verdict,
    proof: Proof,
    calibration: Calibration,
    *,
    intervals: Sequence[int],
    prediction: Prediction | None = None,
) -> Panel:
    """δ and Q over one verdict in which every interval was replayed; Run replays some with another, larger k.

    intervals: the k to choose from; multiples of the proof's are shown
    """
    k = proof.checkpoint_interval
    sliders = {
        "threshold_scale": controls.delta_slider(),
        "interval": controls.interval_slider(k, [each for each in intervals if each > k and each % k == 0]),
        "top_q": controls.top_q_slider(1, most_intervals(verdict)),
    }

    def compute(_: Verdict, progress: Progress, *, interval: int, **others) -> Verdict:
        if interval == k:
            return verdict
        return verdict_at_interval(verdict, proof, calibration, interval, progress=progress)

    def draw(one: Verdict, *, interval: int, threshold_scale: float, top_q: int, guess: float | None = None) -> Figure:
        figure = verdict_figure(one, calibration, threshold_scale=threshold_scale, top_q=top_q, guess=guess)
        return replace(figure, summary=f"k = {interval}, δ × {threshold_scale:.2f}, Q = {top_q}: {figure.summary}")

    return Panel("verdict", sliders, draw, data=verdict, compute=compute, on_run=("interval",), prediction=prediction)


def attack_panel(
    name: str,
    forge: Callable[..., Proof],
    final: Checkpoint,
    judged: Judged,
    proof: Proof,
    *,
    most_steps: int,
    intervals: Sequence[int] = (),
    growth: pd.DataFrame | None = None,
    prediction: Prediction | None = None,
) -> Panel:
    """δ and Q over the verdict on a spoof; Run forges and judges another one of T' steps with checkpoint interval k.

    forge: an attack, called as forge(final, task, spoof_steps=…, calibration=…, progress=…)
    judged: the spoof that is shown first
    intervals: the k to choose from; without them k stays as it is
    growth: of the honest error with k (`error_growth`), by which δ is scaled
    """
    task, k = judged.calibration.task, judged.calibration.task.checkpoint_interval
    q = max(most_intervals(judged.verdict), task.steps_per_epoch // k)
    sliders = {
        "threshold_scale": controls.delta_slider(),
        **({"interval": controls.interval_slider(k, intervals)} if intervals else {}),
        "spoof_steps": controls.steps_slider(judged.spoof.steps, k, most_steps, k),
        "top_q": controls.top_q_slider(q, q),
    }

    def cannot_run(*, spoof_steps: int, interval: int = k, **_) -> str:
        return too_long(judged.spoof.cost().wall_seconds / judged.spoof.steps, spoof_steps, interval)

    def compute(_: Judged, progress: Progress, *, spoof_steps: int, interval: int = k, **others) -> Judged:
        known = judged.calibration if interval == k else calibration_for_interval(judged.calibration, growth, interval)
        whole = max(1, round(spoof_steps / interval)) * interval
        spoof = forge(final, known.task, spoof_steps=whole, calibration=known, progress=progress)
        return Judged(spoof, verify(spoof, known, top_q="all", progress=progress), known)

    def draw(shown: Judged, *, threshold_scale: float, top_q: int, guess: float | None = None, **_) -> Figure:
        chosen = {"threshold_scale": threshold_scale, "top_q": top_q, "guess": guess}
        figure = verdict_figure(shown.verdict, shown.calibration, **chosen)
        share = spoken(shown.spoof.cost().relative_to(proof.cost())["floating_point_operations"])
        where = f"T' = {shown.spoof.steps}, k = {shown.spoof.checkpoint_interval}, at {share} of the proof's operations"
        missed = shown.spoof.missed().partition(";")[0]
        return replace(figure, summary=f"{where}: {figure.summary}" + (f" Missed: {missed}." if missed else ""))

    run = {"compute": compute, "cannot_run": cannot_run, "on_run": tuple(sliders)[1:-1]}
    return Panel(name, sliders, draw, data=judged, prediction=prediction, **run)


def stages_panel(
    verdicts: dict[str, Verdict],
    calibration: Calibration,
    edges: tuple[float, ...],
    scales: tuple[float, ...],
    *,
    shortest: int,
    lengths: pd.Series,
    costs: dict[str, float],
    prediction: Prediction,
) -> Panel:
    """An editor of thresholds by stage; verdicts, and length and cost of the path that keeps to them, at once. T' is
    that of an evenly divided path, to compare.

    edges: where each stage begins, as a share of the steps
    scales: the multiples to start with
    shortest: T' of the shortest evenly divided path within the one δ
    lengths: T', shortest among them -> largest error / δ of an evenly divided path
    costs: attack -> c
    """
    sliders = {
        f"stage_{number}": controls.number_slider(scale, -4, 1, f"δ, stage {number} (×)", f"stage-{number}")
        for number, scale in enumerate(scales, 1)
    }
    sliders["spoof_steps"] = controls.length_slider(shortest, lengths.index)

    def draw(found: dict[str, Verdict], *, guess: float | None, spoof_steps: int, **chosen: float) -> Figure:
        path = {"scales": list(chosen.values()), "shortest": shortest, "costs": costs}
        path |= {"spoof_steps": spoof_steps, "even": lengths[spoof_steps]}
        figure = editor_figure(found, calibration, edges=edges, **path)
        said = "" if guess is None else f"; you predicted × {guess:g}"
        return replace(figure, summary=f"{figure.summary.removesuffix('.')}{said}.")

    return Panel("stages", sliders, draw, data=verdicts, prediction=prediction)
