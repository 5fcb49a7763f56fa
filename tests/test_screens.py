"""The panels that the lecture alone has."""

import numpy as np
import pytest
from screens import add_folder, closed_window, enlarged, explorer_panel, window_panel

from polkit.book import figures, panels
from polkit.book.figures.drawing import spoken
from polkit.experiments.published import published
from polkit.experiments.window import boundary, spoof_lengths, spoof_rows
from polkit.training import PARTS
from tests.drawn import check, made_verdict


def test_the_explorer_shows_the_chosen_folder_and_keeps_the_choice_when_another_joins(small_proof, small_calibration):
    ten = made_verdict(small_calibration, {start: 0.03 * start for start in range(40)}, per_epoch=10)
    three = made_verdict(small_calibration, {0: 0.3, 1: 1.4, 2: 0.2}, per_epoch=3)
    folders = {
        name: panels.Judged(small_proof, verdict, small_calibration) for name, verdict in (("one", ten), ("two", three))
    }
    shown = explorer_panel({"one": folders["one"]})
    assert (shown.sliders["top_q"].value, shown.sliders["top_q"].max) == (10, 10)

    def expect(name, scale, q):
        figure = figures.verdict_figure(folders[name].verdict, small_calibration, threshold_scale=scale, top_q=q)
        enlarged(figure.plot)
        check(shown, figure, f"{name}, 16 steps, δ × {scale:.2f}, Q = {q}: ")

    expect("one", 1.0, 10)
    add_folder(shown, "two", folders["two"])
    expect("one", 1.0, 10)
    shown.sliders["folder"].value = "two"
    shown.sliders["threshold_scale"].value, shown.sliders["top_q"].value = 0.5, 1
    expect("two", 0.5, 1)
    add_folder(shown, "three", folders["one"])
    assert shown.sliders["folder"].options == ("one", "two", "three")
    expect("two", 0.5, 1)


def test_the_published_window_follows_delta_t_attack_q_and_parts():
    runs, paths = published("digits/runs"), published("digits/paths")
    shown = window_panel(runs, paths, interval=10)

    def expect(attack, *, scale=1.0, steps=140, replayed="all", compared=PARTS):
        judged = spoof_rows(runs, replayed=replayed, parts=compared, threshold_scale=scale)
        judged = judged[judged["attack"] == attack]
        even = (judged["spoof_steps"] / judged["cost"]).groupby(judged["attack"]).mean()[attack]
        lengths = np.union1d(spoof_lengths(10, 4400, 120), [steps])
        table = closed_window(spoof_rows(runs), paths, lengths, break_even=even, threshold_scale=scale)
        figure = figures.judged_window_figure(table, judged, chosen=steps, attack=attack)
        enlarged(figure.plot)
        here = table.set_index("spoof_steps").loc[steps]
        error, cost = spoken(here["error_over_threshold"]), spoken(here["cost"])
        counts = ", ".join(f"{n} at T' = {t}" for t, n in judged.groupby("spoof_steps")["accepted"].sum().items())
        check(
            shown,
            figure,
            f"{attack}, δ × {scale:.2f}: ",
            f" At T' = {steps} the path errs {error} δ and costs {cost} of the proof. "
            f"Made and accepted, of 3 trainings: {counts}.",
        )

    expect("interpolation only")
    shown.sliders["attack"].value, shown.sliders["compared"].value = "Attack II", "weights"
    expect("Attack II", compared=("weights",))
    shown.sliders["replayed"].value, shown.sliders["threshold_scale"].value = "Q = 1", 0.5
    shown.sliders["spoof_steps"].value = 150
    expect("Attack II", scale=0.5, steps=150, replayed="one", compared=("weights",))
    shown.reset()
    expect("interpolation only")


def test_the_closed_window_goes_through_the_published_lengths_and_on_as_one_over_t():
    spoofs, paths = spoof_rows(published("digits/runs")), published("digits/paths")
    least = boundary(spoofs, paths)
    table = closed_window(spoofs, paths, np.array([40, 70, 290, 2900]), break_even=580.0, threshold_scale=0.5)
    ratios = table["error_over_threshold"].tolist()
    assert ratios[:3] == pytest.approx([least[40] / 0.5, least[70] / 0.5, least[290] / 0.5])
    assert ratios[3] == pytest.approx(ratios[2] / 10, rel=1e-4), "l∞ decides, and the pieces are ten times shorter"
    assert table["cost"].tolist() == pytest.approx([40 / 580, 70 / 580, 0.5, 5.0])
    assert table["feasible"].tolist() == [False, False, True, False]
