"""Every panel: what it shows after a slider has moved is what the figure function gives, and nothing goes unsaid."""

import html
import json
import math
import re
import threading
import time
from statistics import median

import ipywidgets as w
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import torch
from jupyter_client.jsonutil import json_default

import polkit as pk
from polkit.book import figures, panels
from polkit.book.figures.drawing import spoken
from polkit.book.panels import parts
from polkit.book.panels.parts import delta_slider, panel, steps_slider
from polkit.book.panels.windows import with_row
from polkit.experiments.noise import calibration_for_interval, error_growth, verdict_at_interval
from polkit.experiments.published import published, read_paths
from polkit.experiments.window import Attempt, attempt, closed_window, path_errors, spoof_lengths, spoof_rows, window
from polkit.training.cost import Cost
from polkit.training.jobs import reported
from polkit.training.step import PARTS
from polkit.verifier.verdict import Verdict, error_reasons, judge


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """`path_errors` of 93 lengths takes 6.6 s with two threads and 0.3 s with one while another process has a core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def walk(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from walk(child)


def part(shown, name):
    """The one widget of a panel that has the class polkit-NAME."""
    (found,) = [widget for widget in walk(shown.box) if f"polkit-{name}" in getattr(widget, "_dom_classes", ())]
    return found


def button(shown, label):
    (found,) = [widget for widget in walk(shown.box) if isinstance(widget, w.Button) and widget.description == label]
    return found


def plot_of(shown):
    (found,) = [widget for widget in walk(shown.box) if isinstance(widget, go.FigureWidget)]
    return found


def words(shown, name="says"):
    return html.unescape(re.sub("<[^>]*>", "", part(shown, name).value))


def plain(value):
    """Any value of a plot as lists, dicts, numbers and text, so that two can be compared; NaN equals NaN."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items() if key != "uid"}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float | np.floating) and math.isnan(value):
        return "NaN"
    return value.item() if isinstance(value, np.generic) else value


def traces(plot):
    return [plain(trace._props) for trace in plot.data]


def marks(plot):
    return plain([shape._props for shape in plot.layout.shapes]), plain(
        [note._props for note in plot.layout.annotations]
    )


def check(shown, figure, prefix="", suffix=""):
    """The panel shows this figure, and says its words."""
    plot = plot_of(shown)
    assert traces(plot) == traces(figure.plot)
    assert marks(plot) == marks(figure.plot)
    assert words(shown) == prefix + figure.summary + suffix
    assert words(shown, "error") == ""


def busy(shown):
    return "polkit-busy" in shown.box._dom_classes


def wait(shown, seconds=20):
    limit = time.monotonic() + seconds
    while busy(shown):
        assert time.monotonic() < limit, "the panel is still busy"
        time.sleep(0.005)


def run(shown):
    button(shown, "Run").click()
    wait(shown)


def made_verdict(calibration, *, starts, interval, per_epoch, seed=0):
    """Errors from 0 to 1.2 δ in every interval, part and distance."""
    generator = np.random.default_rng(seed)
    rows = [
        {
            "start": start,
            "end": start + interval,
            "epoch": number // per_epoch,
            "magnitude": generator.random(),
            "part": name,
            "distance": distance,
            "error": 1.2 * generator.random() ** 4 * calibration.thresholds[name][distance],
        }
        for number, start in enumerate(starts)
        for name in PARTS
        for distance in pk.DISTANCES
    ]
    frame = pd.DataFrame(rows)
    frame["magnitude"] = frame.groupby("start")["magnitude"].transform("first")
    intervals = judge(frame, calibration)
    reasons = tuple(error_reasons(intervals))
    return Verdict(not reasons, True, reasons, intervals, pd.DataFrame(), Cost(16.0, 16))


@pytest.fixture(scope="module")
def everything(small_proof, small_calibration):
    return pk.verify(small_proof, small_calibration, top_q="all")


@pytest.fixture(scope="module")
def growth(small_proof, small_calibration):
    return error_growth(small_proof, {"redrawn": small_calibration.conditions}, steps=[4, 8])


@pytest.fixture(scope="module")
def judged(small_proof, small_task, small_calibration, tmp_path_factory):
    spoof = pk.interpolation_only(
        small_proof.final_weights(),
        small_task,
        spoof_steps=8,
        calibration=small_calibration,
        out=tmp_path_factory.mktemp("panels") / "spoof",
        progress=False,
    )
    return panels.Judged(spoof, pk.verify(spoof, small_calibration, top_q="all"), small_calibration)


@pytest.fixture
def made(small_calibration):
    """Forty intervals of one step, ten in each epoch."""
    return made_verdict(small_calibration, starts=range(40), interval=1, per_epoch=10)


@pytest.fixture
def shown_verdict(made, small_proof, small_calibration):
    return panels.verdict_panel(made, small_proof, small_calibration, intervals=[4, 6, 8, 16])


def verdict_words(scale, q, k=4):
    return f"k = {k}, δ × {scale:.2f}, Q = {q}: "


@pytest.mark.parametrize(("scale", "q"), [(1.0, 1), (0.2, 1), (0.05, 10), (8.0, 10), (0.5, 3)])
def test_a_verdict_panel_shows_the_verdict_of_its_sliders(made, shown_verdict, small_calibration, scale, q):
    part(shown_verdict, "delta").value = scale
    part(shown_verdict, "q").value = q
    expected = figures.verdict_figure(made, small_calibration, threshold_scale=scale, top_q=q)
    check(shown_verdict, expected, verdict_words(scale, q))
    judged_plainly = made.under(small_calibration.scaled(scale)).at(q).accepted
    assert ("accepted" if judged_plainly else "rejected") in words(shown_verdict)


def test_the_largest_q_is_that_of_the_fullest_epoch_and_k_goes_to_multiples(shown_verdict):
    assert (part(shown_verdict, "q").min, part(shown_verdict, "q").max) == (1, 10)
    assert [k for _, k in part(shown_verdict, "k").options] == [4, 8, 16]


def test_another_k_waits_for_run_and_is_then_what_a_replay_gives(everything, small_proof, small_calibration):
    shown = panels.verdict_panel(everything, small_proof, small_calibration, intervals=[4, 8])
    part(shown, "k").value = 8
    check(shown, figures.verdict_figure(everything, small_calibration, top_q=1), verdict_words(1, 1))
    run(shown)
    wider = verdict_at_interval(everything, small_proof, small_calibration, 8)
    check(shown, figures.verdict_figure(wider, small_calibration, top_q=1), verdict_words(1, 1, k=8))
    part(shown, "delta").value = 0.1
    expected = figures.verdict_figure(wider, small_calibration, threshold_scale=0.1, top_q=1)
    check(shown, expected, verdict_words(0.1, 1, k=8))
    part(shown, "k").value = 4
    check(shown, expected, verdict_words(0.1, 1, k=8))
    run(shown)
    expected = figures.verdict_figure(everything, small_calibration, threshold_scale=0.1, top_q=1)
    check(shown, expected, verdict_words(0.1, 1))


def test_a_kept_step_is_drawn_at_once(made, small_proof, small_calibration):
    guess = panels.Prediction("Where?", least=0, most=40, unit="step", whole=True)
    shown = panels.verdict_panel(made, small_proof, small_calibration, intervals=[4], prediction=guess)
    check(shown, figures.verdict_figure(made, small_calibration, top_q=1), verdict_words(1, 1))
    keep(guess, 13)
    check(shown, figures.verdict_figure(made, small_calibration, top_q=1, guess=13), verdict_words(1, 1))
    part(shown, "delta").value = 0.5
    expected = figures.verdict_figure(made, small_calibration, threshold_scale=0.5, top_q=1, guess=13)
    check(shown, expected, verdict_words(0.5, 1))


def keep(prediction, value):
    (slider,) = [widget for widget in walk(prediction.panel.box) if isinstance(widget, w.IntSlider | w.FloatSlider)]
    button(prediction.panel, "Keep").click()
    slider.value = value  # as when a browser's click overtakes the slider's last value
    limit = time.monotonic() + 20
    said = [each for each in walk(prediction.panel.box) if isinstance(each, w.HTML)]
    while not any(f"kept: {value:g}" in each.value for each in said):
        assert time.monotonic() < limit, f"{value} was not kept"
        time.sleep(0.005)


def attack_words(spoof, proof):
    share = spoof.cost().floating_point_operations / proof.cost().floating_point_operations
    return f"T' = {spoof.steps}, k = {spoof.checkpoint_interval}, at {share:.2g} of the proof's operations: "


def test_an_attack_panel_forges_and_judges_when_run(judged, small_proof, small_calibration, growth):
    final, asked = small_proof.final_weights(), []

    def forge(*arguments, **settings):
        asked.append((settings["spoof_steps"], settings["calibration"].task.checkpoint_interval))
        return pk.interpolation_only(*arguments, **settings)

    shown = panels.attack_panel("ii", forge, final, judged, small_proof, most_steps=24, intervals=[4, 8], growth=growth)
    first = figures.verdict_figure(judged.verdict, small_calibration, top_q=1)
    check(shown, first, attack_words(judged.spoof, small_proof))
    before = words(shown)
    part(shown, "steps").value = 20
    part(shown, "k").value = 8
    assert traces(plot_of(shown)) == traces(first.plot)
    assert words(shown) == before
    assert asked == []
    part(shown, "delta").value = 0.5
    lower = figures.verdict_figure(judged.verdict, small_calibration, threshold_scale=0.5, top_q=1)
    check(shown, lower, attack_words(judged.spoof, small_proof))
    run(shown)
    assert asked == [(16, 8)]
    known = calibration_for_interval(small_calibration, growth, 8)
    spoof = pk.interpolation_only(final, known.task, spoof_steps=16, calibration=known, progress=False)
    verdict = pk.verify(spoof, known, top_q="all")
    assert verdict.intervals["start"].nunique() == 2
    expected = figures.verdict_figure(verdict, known, threshold_scale=0.5, top_q=1)
    check(shown, expected, attack_words(spoof, small_proof))


def test_without_other_k_an_attack_panel_has_no_k(judged, small_proof):
    shown = panels.attack_panel("ii", pk.attack_2, small_proof.final_weights(), judged, small_proof, most_steps=24)
    assert not [widget for widget in walk(shown.box) if "polkit-k" in getattr(widget, "_dom_classes", ())]
    steps = part(shown, "steps")
    assert (steps.value, steps.min, steps.max, steps.step) == (8, 4, 24, 4)


def test_a_spoof_that_would_take_too_long_cannot_be_run(judged, small_proof, monkeypatch):
    each = judged.spoof.cost().wall_seconds / 8
    monkeypatch.setattr(parts, "PATIENCE_SECONDS", 10.6 * each)
    shown = panels.attack_panel("ii", pk.attack_2, small_proof.final_weights(), judged, small_proof, most_steps=24)
    assert not button(shown, "Run").disabled
    assert words(shown, "note") == ""
    part(shown, "steps").value = 12
    assert button(shown, "Run").disabled
    said = words(shown, "note")
    assert said.startswith("T' = 12 would take about ")
    assert int(re.search(r"choose (\d+) or less", said)[1]) <= 10.6, "the length it names would be refused too"
    part(shown, "steps").value = 8
    assert not button(shown, "Run").disabled
    assert words(shown, "note") == ""


def test_the_explorer_shows_the_chosen_folder_and_keeps_the_choice_when_another_joins(
    made, judged, small_proof, small_calibration
):
    shown, add = panels.explorer_panel({"honest proof": panels.Judged(small_proof, made, small_calibration)})
    assert (part(shown, "q").value, part(shown, "q").max) == (10, 10)

    def expect(name, one, scale, q):
        figure = figures.verdict_figure(one, small_calibration, threshold_scale=scale, top_q=q)
        check(shown, figure, f"{name}, {16 if one is made else 8} steps, δ × {scale:.2f}, Q = {q}: ")

    expect("honest proof", made, 1.0, 10)
    add("interpolation only", judged)
    expect("honest proof", made, 1.0, 10)
    part(shown, "folder").value = "interpolation only"
    part(shown, "delta").value, part(shown, "q").value = 0.5, 1
    expect("interpolation only", judged.verdict, 0.5, 1)
    add("another", judged)
    assert part(shown, "folder").options == ("honest proof", "interpolation only", "another")
    expect("interpolation only", judged.verdict, 0.5, 1)


def test_the_published_window_follows_delta_t_attack_q_and_parts():
    runs, paths = pd.read_csv(published() / "runs.csv"), read_paths(published())
    spoofs = spoof_rows(runs)
    shown = panels.published_window_panel(runs, paths, interval=10)

    def expect(attack, *, scale=1.0, steps=140, replayed="all", compared=PARTS):
        judged = spoof_rows(runs, replayed=replayed, parts=compared, threshold_scale=scale)
        judged = judged[judged["attack"] == attack]
        even = (judged["spoof_steps"] / judged["cost"]).mean()
        lengths = np.union1d(spoof_lengths(10, 4400, 120), [steps])
        table = closed_window(spoofs, paths, lengths, break_even=even, threshold_scale=scale)
        figure = figures.judged_window_figure(table, judged, chosen=steps, attack=attack)
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
    part(shown, "attack").value = "Attack II"
    part(shown, "compared").value = "weights"
    expect("Attack II", compared=("weights",))
    part(shown, "replayed").value, part(shown, "delta").value = "Q = 1", 0.5
    part(shown, "steps").value = 150
    expect("Attack II", scale=0.5, steps=150, replayed="one", compared=("weights",))
    button(shown, "Reset").click()
    expect("interpolation only")


def test_the_stages_panel_moves_each_stage(made, small_calibration):
    verdict = {
        "proof": made,
        "spoof": made_verdict(small_calibration, starts=range(9), interval=1, per_epoch=3, seed=1),
    }
    edges, scales = (0.0, 0.5), (1.0, 0.1)
    path = {"shortest": 8, "costs": {"interpolation only": 1.0}}
    guess = panels.Prediction("How much?", least=1, most=100, unit="times", whole=True)
    shown = panels.stages_panel(verdict, small_calibration, edges, scales, **path, prediction=guess)

    def expected(*scales):
        return figures.editor_figure(verdict, small_calibration, edges=edges, scales=scales, proof_steps=16, **path)

    check(shown, expected(1.0, 0.1))
    part(shown, "stage-2").value = 0.5
    check(shown, expected(1.0, 0.5))
    part(shown, "stage-1").value = 0.01
    check(shown, expected(0.01, 0.5))
    keep(guess, 30)
    assert words(shown) == expected(0.01, 0.5).summary.removesuffix(".") + "; you predicted × 30."


def test_the_growth_panel_reads_the_errors_at_its_k(growth):
    shown = panels.growth_panel(growth, 2.0, interval=4)
    check(shown, figures.growth_figure(growth, reference=2.0, chosen=4))
    part(shown, "k").value = 8
    check(shown, figures.growth_figure(growth, reference=2.0, chosen=8))
    assert "after 8 steps" in words(shown)


SIZES = pd.DataFrame({"checkpoint_interval": [2, 4, 8], "stored_bytes": [8e6, 4e6, 2e6]})


def test_the_size_panel_records_a_proof_when_run():
    def record(interval, progress):
        for _ in reported(range(2), total=2, title="", progress=progress):
            pass
        return {"checkpoint_interval": interval, "stored_bytes": 1e7 / interval, "wall_seconds": 1.0}

    guess = panels.Prediction("How large?", least=1, most=9, unit="MB")
    shown = panels.size_panel(SIZES, record, interval=4, prediction=guess)
    check(shown, figures.size_figure(SIZES, chosen=4))
    part(shown, "k").value = 2
    check(shown, figures.size_figure(SIZES, chosen=4))
    run(shown)
    first = {"checkpoint_interval": 2, "stored_bytes": 5e6}
    check(shown, figures.size_figure(SIZES, chosen=2, measured=[first]), suffix=" Recorded here: 5 MB at k = 2.")
    part(shown, "k").value = 8
    run(shown)
    both = [first, {"checkpoint_interval": 8, "stored_bytes": 1.25e6}]
    check(shown, figures.size_figure(SIZES, chosen=8, measured=both), suffix=" Recorded here: 1.2 MB at k = 8.")
    keep(guess, 3.0)
    expected = figures.size_figure(SIZES, chosen=8, measured=both, guess=3.0)
    check(shown, expected, suffix=" Recorded here: 1.2 MB at k = 8.")


def corollary_rows(*intervals):
    return pd.DataFrame(
        [
            {
                "k": k,
                "measured_gap": 0.01 * k**2,
                "bound": 0.1 * k**2,
                "bound_as_printed": 0.05 * (k - 2),
                "alpha": 1.0,
                "beta": 2.0,
            }
            for k in intervals
        ]
    )


def test_the_corollary_panel_measures_another_k_when_run():
    guess = panels.Prediction("How far?", least=0.1, most=2, unit="l2")
    table = corollary_rows(2, 10)
    shown = panels.corollary_panel(table, corollary_rows, threshold=0.3, most=12, prediction=guess)
    assert (part(shown, "k").value, [k for _, k in part(shown, "k").options]) == (6, list(range(2, 13)))
    check(shown, figures.corollary_figure(table, threshold=0.3))
    part(shown, "delta").value = 2.0
    check(shown, figures.corollary_figure(table, threshold=0.6))
    part(shown, "k").value = 5
    check(shown, figures.corollary_figure(table, threshold=0.6))
    run(shown)
    check(shown, figures.corollary_figure(corollary_rows(2, 5, 10), threshold=0.6))
    part(shown, "k").value = 12
    run(shown)
    keep(guess, 0.5)
    expected = figures.corollary_figure(corollary_rows(2, 5, 10, 12), threshold=0.6, guess=0.5)
    check(shown, expected)
    assert plain(plot_of(shown).layout.xaxis.tickvals) == [2, 5, 10, 12]


def test_an_axis_keeps_labels_when_the_values_come_to_span_less():
    shown = panel("any", {"scale": delta_slider()}, narrow_or_wide)
    assert plot_of(shown).layout.yaxis.dtick == 1
    part(shown, "delta").value = 2.0
    assert plot_of(shown).layout.yaxis.dtick == "D2"


def narrow_or_wide(_, *, guess, scale):
    table = pd.DataFrame({"spoof_steps": [4, 8], "error_over_threshold": [3.0, 1.5], "binding": "l1"})
    return figures.map_figure(table, {}, spoof_steps=8, threshold_scale=1.0 if scale > 1 else 3e5)


def test_the_surface_panel_cuts_the_path_into_its_pieces():
    grid = (np.linspace(-1, 1, 5), np.linspace(-1, 1, 4), np.arange(20.0).reshape(4, 5))
    path = np.random.default_rng(0).random((41, 2))

    def training(k):
        return path, path[k::k] + 0.01, 0.02 * k

    def forgery(pieces):
        return np.linspace(path[0], path[-1], pieces + 1), np.full(pieces, 1 / pieces)

    def expected(k, scale, pieces):
        return figures.surface_figure(
            grid,
            path,
            path[k::k] + 0.01,
            forgery(pieces)[0],
            interval=k,
            threshold=0.02 * k * scale,
            forged_errors=forgery(pieces)[1],
        )

    guess = panels.Prediction("How many?", least=1, most=60, unit="pieces", whole=True)
    shown = panels.surface_panel(grid, training, forgery, intervals=[5, 10, 20], interval=10, steps=8, prediction=guess)
    check(shown, expected(10, 1, 8), "k = 10, δ = 0.2: ")
    part(shown, "k").value = 5
    part(shown, "steps").value = 3
    part(shown, "delta").value = 0.5
    check(shown, expected(5, 0.5, 3), "k = 5, δ = 0.05: ")
    keep(guess, 12)
    check(shown, expected(5, 0.5, 3), "k = 5, δ = 0.05: ", " You predicted that 12 pieces would be needed.")


def test_the_window_panel_refuses_what_would_take_too_long(judged, small_proof, small_calibration, growth, monkeypatch):
    each = small_proof.cost().wall_seconds / 16
    monkeypatch.setattr(parts, "PATIENCE_SECONDS", 100 * each)
    costs, final = {"interpolation only": 1.0, "Attack II": 31.0}, small_proof.final_weights()
    shown = panels.window_panel(
        dict.fromkeys(costs, pk.interpolation_only),
        costs,
        small_proof,
        final,
        small_calibration,
        [],
        growth=growth,
        intervals=[4],
    )
    assert not button(shown, "Run").disabled  # T' = 56 at one update a step
    part(shown, "attack").value = "Attack II"
    assert button(shown, "Run").disabled
    assert words(shown, "note").endswith(f"even the shortest spoof, T' = 4, would take about {124 * each:.0f} s here")
    part(shown, "attack").value = "interpolation only"
    assert (button(shown, "Run").disabled, words(shown, "note")) == (False, "")
    part(shown, "steps").value = 104
    assert words(shown, "note").endswith("choose 100 or less")


def test_the_window_panel_forges_one_more_spoof_when_run(judged, small_proof, small_task, small_calibration, growth):
    final = small_proof.final_weights()
    costs = {"interpolation only": 1.0, "Attack II": 31.0}
    first = attempt("Attack II", judged.spoof, judged.verdict, small_proof)
    forgers, attempts = dict.fromkeys(costs, pk.interpolation_only), [first]
    guess = panels.Prediction("Which?", least=4, most=160, unit="T'", whole=True)
    shown = panels.window_panel(
        forgers,
        costs,
        small_proof,
        final,
        small_calibration,
        attempts,
        growth=growth,
        intervals=[4, 8],
        prediction=guess,
    )

    def expected(attack, known, made, scale, chosen, guessed=None):
        errors = path_errors(known.task, final, spoof_lengths(known.task.checkpoint_interval, 16))
        table = window(errors, known, proof_steps=16, cost_per_step=costs[attack], threshold_scale=scale)
        return figures.window_figure(
            table, known, attempts=made, threshold_scale=scale, top_q=1, chosen=chosen, guess=guessed, attack=attack
        )

    check(
        shown,
        expected("interpolation only", small_calibration, [first], 1, 56),
        "interpolation only, k = 4, δ × 1.00: ",
    )
    part(shown, "attack").value = "Attack II"
    part(shown, "delta").value = 2.0
    check(shown, expected("Attack II", small_calibration, [first], 2, 56), "Attack II, k = 4, δ × 2.00: ")
    data = traces(plot_of(shown))
    part(shown, "steps").value = 12
    part(shown, "k").value = 8
    assert traces(plot_of(shown)) == data
    run(shown)
    known = calibration_for_interval(small_calibration, growth, 8)
    assert [(made.attack, made.spoof_steps, made.interval) for made in attempts] == [
        ("Attack II", 8, 4),
        ("Attack II", 16, 8),
    ]
    check(shown, expected("Attack II", known, attempts, 2, 12), "Attack II, k = 8, δ × 2.00: ")
    keep(guess, 30)
    check(shown, expected("Attack II", known, attempts, 2, 12, 30), "Attack II, k = 8, δ × 2.00: ")
    part(shown, "k").value = 4
    part(shown, "steps").value = 4
    part(shown, "attack").value = "interpolation only"
    run(shown)
    assert attempts[-1].spoof_steps == 4
    check(
        shown,
        expected("interpolation only", small_calibration, attempts, 2, 4, 30),
        "interpolation only, k = 4, δ × 2.00: ",
    )


def test_the_map_panel_answers_to_delta_k_t_and_the_spoofs_length(small_proof, small_task, small_calibration, growth):
    final, costs = small_proof.final_weights(), {"interpolation only": 1.0, "Attack II": 31.0}
    shown = panels.map_panel(final, small_calibration, costs, growth=growth)
    assert [value for _, value in part(shown, "k").options] == [4, 8]
    assert f"and T' = {part(shown, 'steps').label}, the path" in words(shown)
    for scale, k, whole, steps in ((1.0, 4, 16, 56), (0.5, 4, 100, 56), (0.5, 8, 100, 200), (5.0, 8, 1000, 48)):
        part(shown, "delta").value = scale
        part(shown, "k").value = k
        part(shown, "length").value = whole / small_task.steps
        part(shown, "steps").value = steps
        known = small_calibration if k == 4 else calibration_for_interval(small_calibration, growth, k)
        (row,) = window(
            path_errors(known.task, final, [steps]), known, proof_steps=whole, cost_per_step=1.0, threshold_scale=scale
        ).to_dict("records")
        said = words(shown)
        assert said.startswith(f"at δ × {scale:.2f}, k = {k}, T = {whole} and T' = {steps}, the path ")
        assert ("the path passes" in said) == (row["error_over_threshold"] <= 1)
        assert f"({row['binding']} decides)" in said
        for attack, cost in costs.items():
            verb = "pays" if row["cost"] * cost < 1 else "does not pay"
            assert f"{attack} {verb}, at {spoken(row['cost'] * cost)} of the proof" in said
        assert words(shown, "error") == ""


def test_without_measured_growth_k_stays_as_it_was_calibrated(small_proof, small_calibration):
    shown = panels.map_panel(small_proof.final_weights(), small_calibration, {"a": 1.0})
    assert [value for _, value in part(shown, "k").options] == [4]


@pytest.mark.parametrize("steps", [12, 52, 1000])
def test_a_length_between_two_is_read_off_near_enough(steps, small_proof, small_task):
    final = small_proof.final_weights()
    coarse = path_errors(small_task, final, spoof_lengths(4, 1600, 60))
    coarse = coarse[coarse["spoof_steps"] != steps]
    read, exact = (
        table[table["spoof_steps"] == steps].iloc[0]
        for table in (with_row(coarse, steps), path_errors(small_task, final, [steps]))
    )
    assert read.tolist() == pytest.approx(exact.tolist(), rel=0.03)


def line(height):
    return figures.Figure(go.Figure(go.Scatter(x=[0, 1], y=[height, height])), f"the line lies at {height:g}.")


def drawn_line(data, *, guess, scale, **_):
    if scale > 5:
        raise ValueError("δ & co <are> too large")
    return line(data + scale + (guess or 0))


@pytest.fixture
def controlled():
    """A panel whose Run waits until it is let go: (panel, started, go, the values that compute was given)."""
    started, let_go, given = threading.Event(), threading.Event(), []

    def compute(progress, *, scale, steps):
        given.append((scale, steps))
        for number in reported(range(3), total=3, title="", progress=progress):
            if number == 1:
                started.set()
                assert let_go.wait(10)
        if steps == 3:
            raise ZeroDivisionError("no step & no <gain>")
        return float(steps * 100)

    sliders = {"scale": delta_slider(), "steps": steps_slider(2, 1, 9, 1)}
    shown = panel(
        "any",
        sliders,
        drawn_line,
        data=7.0,
        compute=compute,
        on_run=("steps",),
        cannot_run=lambda steps, **_: f"{steps} < 9, but too many" if steps > 7 else "",
    )
    return shown, started, let_go, given


def test_an_exception_in_a_callback_is_said_and_the_next_good_value_clears_it():
    shown = panel("any", {"scale": delta_slider()}, drawn_line, data=7.0)
    part(shown, "delta").value = 6.0
    assert words(shown, "error") == "ValueError: δ & co <are> too large"
    assert "<are>" not in part(shown, "error").value
    assert traces(plot_of(shown)) == traces(line(8).plot)
    assert words(shown) == "the line lies at 8."
    part(shown, "delta").value = 2.0
    check(shown, line(9))


def test_words_are_shown_as_words():
    shown = panel("any", {"scale": delta_slider()}, lambda *_, **__: figures.Figure(line(1).plot, "a <b> & c"))
    assert "a &lt;b&gt; &amp; c" in part(shown, "says").value
    assert "aria-live" in part(shown, "says").value


def test_run_tells_its_progress_and_is_busy_until_it_ends(controlled):
    shown, started, let_go, given = controlled
    notes = []
    part(shown, "note").observe(lambda change: notes.append(change["new"]), names="value")
    part(shown, "steps").value = 4
    assert not busy(shown)
    assert button(shown, "Cancel").disabled
    button(shown, "Run").click()
    assert started.wait(10)
    assert busy(shown)
    assert button(shown, "Run").disabled
    assert not button(shown, "Cancel").disabled
    assert words(shown, "note") in ("running: 0 of 3", "running: 1 of 3")
    check(shown, line(8))
    part(shown, "steps").value = 5
    part(shown, "delta").value = 2.0
    assert button(shown, "Run").disabled
    check(shown, line(9))
    let_go.set()
    wait(shown)
    assert given == [(1.0, 4)]
    assert "running: 3 of 3" in notes
    assert (part(shown, "progress").value, part(shown, "progress").max) == (3, 3)
    assert not button(shown, "Run").disabled
    assert button(shown, "Cancel").disabled
    check(shown, line(402))
    assert words(shown, "note") == ""


def test_a_run_is_still_said_to_run_when_a_slider_that_waits_for_the_next_one_moves(controlled):
    shown, started, let_go, _ = controlled
    button(shown, "Run").click()
    assert started.wait(10)
    part(shown, "steps").value = 5
    said = words(shown, "note")
    let_go.set()
    wait(shown)
    assert said.startswith("running")


def test_a_run_takes_the_value_that_its_click_has_overtaken(controlled):
    """A browser holds a slider's last value back until the kernel has acknowledged the one before."""
    shown, _, let_go, given = controlled
    let_go.set()
    button(shown, "Run").click()
    assert words(shown, "note") == "running"
    part(shown, "steps").value = 5
    wait(shown)
    assert given == [(1.0, 5)]
    check(shown, line(501))


def test_a_late_value_that_cannot_be_run_is_refused_with_the_reason(controlled):
    shown, _, _, given = controlled
    button(shown, "Run").click()
    part(shown, "steps").value = 8
    wait(shown)
    assert given == []
    assert words(shown, "note") == "8 < 9, but too many"
    assert button(shown, "Run").disabled
    check(shown, line(8))


def test_cancel_stops_a_run_and_keeps_the_figure(controlled):
    shown, started, let_go, _ = controlled
    part(shown, "steps").value = 4
    button(shown, "Run").click()
    assert started.wait(10)
    button(shown, "Cancel").click()
    let_go.set()
    wait(shown)
    assert words(shown, "note") == "cancelled; the figure shows the run before"
    check(shown, line(8))
    assert not button(shown, "Run").disabled
    assert button(shown, "Cancel").disabled
    part(shown, "delta").value = 2.0
    check(shown, line(9))
    run(shown)
    check(shown, line(402))


def test_what_goes_wrong_in_a_run_is_said_and_keeps_the_figure(controlled):
    shown, _, let_go, _ = controlled
    let_go.set()
    part(shown, "steps").value = 3
    run(shown)
    assert words(shown, "error") == "ZeroDivisionError: no step & no <gain>"
    assert words(shown, "note") == "failed"
    assert traces(plot_of(shown)) == traces(line(8).plot)
    assert words(shown) == "the line lies at 8."
    assert not button(shown, "Run").disabled
    part(shown, "steps").value = 4
    run(shown)
    check(shown, line(401))


def test_what_cannot_be_run_says_why_and_run_is_disabled(controlled):
    shown, _, let_go, given = controlled
    let_go.set()
    part(shown, "steps").value = 8
    assert button(shown, "Run").disabled
    assert words(shown, "note") == "8 < 9, but too many"
    check(shown, line(8))
    part(shown, "steps").value = 7
    assert not button(shown, "Run").disabled
    assert words(shown, "note") == ""
    run(shown)
    assert given == [(1.0, 7)]


def test_a_run_that_ends_while_its_sliders_say_something_impossible_leaves_run_disabled(controlled):
    shown, started, let_go, _ = controlled
    button(shown, "Run").click()
    assert started.wait(10)
    part(shown, "steps").value = 9
    let_go.set()
    wait(shown)
    assert button(shown, "Run").disabled
    assert words(shown, "note") == "9 < 9, but too many"
    check(shown, line(201))


def test_reset_puts_every_slider_back(shown_verdict, made, small_calibration, controlled):
    part(shown_verdict, "delta").value = 0.3
    part(shown_verdict, "q").value = 7
    part(shown_verdict, "k").value = 16
    button(shown_verdict, "Reset").click()
    assert [part(shown_verdict, name).value for name in ("delta", "q", "k")] == [1.0, 1, 4]
    check(shown_verdict, figures.verdict_figure(made, small_calibration, top_q=1), verdict_words(1, 1))
    other = controlled[0]
    part(other, "steps").value = 8
    button(other, "Reset").click()
    assert part(other, "steps").value == 2
    assert not button(other, "Run").disabled


def test_a_prediction_is_none_until_it_is_kept():
    guess = panels.Prediction("How <much>?", least=0.0, most=2.0, unit="l2 & more")
    told = []
    guess.tell(lambda: told.append(guess.value))
    assert guess.value is None
    (slider,) = [widget for widget in walk(guess.panel.box) if isinstance(widget, w.FloatSlider)]
    assert (slider.min, slider.max, slider.value) == (0.0, 2.0, 1.0)
    slider.value = 0.5
    assert guess.value is None
    keep(guess, 0.5)
    keep(guess, 1.5)
    assert (guess.value, told) == (1.5, [0.5, 1.5])
    shown = [widget.value for widget in walk(guess.panel.box) if isinstance(widget, w.HTML)]
    assert any("How &lt;much&gt;?" in text for text in shown)
    assert "kept: 1.5 l2 &amp; more" in shown
    assert guess._repr_mimebundle_()["text/plain"].startswith("Predict: How <much>?")


def test_a_kept_prediction_is_passed_on_to_the_figure_at_once():
    guess = panels.Prediction("How much?", least=0.0, most=2.0, unit="l2")
    shown = panel("any", {"scale": delta_slider()}, drawn_line, data=7.0, prediction=guess)
    check(shown, line(8))
    keep(guess, 0.5)
    check(shown, line(8.5))


def test_a_prediction_kept_before_the_panel_was_made_is_drawn_too():
    guess = panels.Prediction("How much?", least=0.0, most=2.0, unit="l2")
    keep(guess, 0.5)
    check(panel("any", {"scale": delta_slider()}, drawn_line, data=7.0, prediction=guess), line(8.5))


def test_a_view_without_a_kernel_gets_words(shown_verdict, made, small_calibration):
    bundle = shown_verdict._repr_mimebundle_()
    assert bundle["text/plain"] == shown_verdict.instead
    assert "application/vnd.jupyter.widget-view+json" in bundle
    summary = figures.verdict_figure(made, small_calibration, top_q=1).summary
    assert shown_verdict.instead == (
        "A panel with sliders stands here (δ (×), Q per epoch, k): run the chapter to move them. "
        f"{verdict_words(1, 1)}{summary}"
    )
    json.dumps(bundle, default=json_default)


def test_every_control_has_a_name_and_a_tooltip(shown_verdict):
    controls = [
        widget
        for widget in walk(shown_verdict.box)
        if isinstance(widget, w.FloatLogSlider | w.IntSlider | w.SelectionSlider)
    ]
    assert len(controls) == 3
    assert all(control.description and control.tooltip for control in controls)
    assert shown_verdict.box.children[-2:] == (plot_of(shown_verdict), part(shown_verdict, "says"))


def test_an_attempt_of_another_k_is_not_drawn(judged, small_proof, small_calibration, growth):
    other = Attempt("Attack II", 16, 8, judged.verdict, 0.5)
    shown = panels.window_panel(
        {"Attack II": pk.attack_2},
        {"Attack II": 31.0},
        small_proof,
        small_proof.final_weights(),
        small_calibration,
        [other],
        growth=growth,
        intervals=[4, 8],
    )
    measured = [trace for trace in plot_of(shown).data if trace.name.startswith("measured")]
    assert len(measured) == 4
    assert not any(len(trace.x) for trace in measured)


def test_a_slider_answers_quickly(small_proof, small_calibration, capsys):
    verdict = made_verdict(small_calibration, starts=range(0, 4400, 10), interval=10, per_epoch=3)
    assert len(verdict.intervals) == 440 * 8
    shown = panels.verdict_panel(verdict, small_proof, small_calibration, intervals=[10])
    moves = [("delta", 0.1), ("q", 2), ("delta", 0.5), ("q", 3), ("delta", 3.0), ("q", 1), ("delta", 1.0), ("q", 2)]
    seconds = []
    for name, value in moves:
        begun = time.perf_counter()
        part(shown, name).value = value
        seconds.append(time.perf_counter() - begun)
    assert words(shown).startswith(verdict_words(1, 2))
    with capsys.disabled():
        print(f"\nδ or Q to redrawn figure: median {1000 * median(seconds):.0f} ms")
    assert median(seconds) < 0.5


def test_the_map_answers_within_a_tenth_of_a_second(small_proof, small_calibration, growth, capsys):
    costs = {"interpolation only": 1.0, "Attack II": 31.0, "Attack III": 31.0}
    shown, seconds = panels.map_panel(small_proof.final_weights(), small_calibration, costs, growth=growth), []
    for name, value in [("delta", 0.1), ("k", 8), ("length", 3.0), ("steps", 200), ("k", 4), ("steps", 20)]:
        begun = time.process_time()  # beside other work, seconds on the wall tell about that
        part(shown, name).value = value
        seconds.append(time.process_time() - begun)
    with capsys.disabled():
        print(f"\nδ, k, T or T' to redrawn map: median {1000 * median(seconds):.0f} ms of the processor")
    assert median(seconds) < 0.1
