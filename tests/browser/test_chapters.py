"""Each chapter in JupyterLab: Run All, then its panel answers to the keyboard, in words and in the figure."""

import json
import os
import re
from urllib.request import Request, urlopen

import nbformat
import pytest
from chapter import Chapter, Panel, violations, wait_until

import polkit as pk
from polkit.book.figures import verdict_figure

pytestmark = [pytest.mark.ui, pytest.mark.filterwarnings("default")]
TOKEN = "polkit"
RUN_ALL_SECONDS, RUN_SECONDS = 180, 60


@pytest.fixture
def opened(page, lab):
    def open_chapter(name, panel):
        chapter = Chapter(page, lab, TOKEN, name)
        chapter.run_all(RUN_ALL_SECONDS)
        found = chapter.panel(panel)
        found.picture("first")
        return found

    yield open_chapter
    # Lab would keep each chapter's kernel, which has up to a gigabyte, to the end.
    with urlopen(f"{lab}/api/kernels?token={TOKEN}") as answer:
        kernels = json.load(answer)
    for kernel in kernels:
        urlopen(Request(f"{lab}/api/kernels/{kernel['id']}?token={TOKEN}", method="DELETE")).close()


def level(figure):
    """Where the first horizontal line stands: δ."""
    return next(shape["y0"] for shape in figure["shapes"] if shape["y0"] == shape["y1"])


def largest_error(said):
    return float(re.search(r"largest error is ([\d.,]+) δ", said)[1].replace(",", ""))


def marks(figure):
    return {trace["name"]: len(trace["x"] or []) for trace in figure["traces"]}


def spelt(summary):
    """A summary as a browser shows it."""
    return re.sub(r"\s+", " ", summary)


@pytest.mark.slow
def test_a_verdict_follows_delta_and_q_and_k(opened):
    panel = opened("04_threshold", "verdict")
    task = pk.task("digits")
    proof, calibration = pk.prepare(task, 0, progress=False)
    verdict = pk.verify(proof, calibration, top_q="all", workers=2, remember=True)

    def expected(scale, top_q):
        return verdict_figure(verdict, calibration, threshold_scale=scale, top_q=top_q)

    first = panel.says()
    assert first == f"k = 10, δ × 1.00, Q = 1: {spelt(expected(1.0, 1).summary)}"
    panel.press("delta", "ArrowLeft", 15)
    scale = 10**-0.3
    said = panel.changed_from(first)
    assert panel.readout("delta") == "0.50"
    drawn = expected(scale, 1)
    assert said == f"k = 10, δ × 0.50, Q = 1: {spelt(drawn.summary)}"
    assert marks(panel.figure()) == {trace.name: len(trace.x) for trace in drawn.plot.data}
    assert level(panel.figure()) == pytest.approx(scale, rel=1e-3)
    panel.picture("delta halved")
    panel.press("q", "ArrowRight")
    said = panel.changed_from(said)
    drawn = expected(scale, 2)
    assert said == f"k = 10, δ × 0.50, Q = 2: {spelt(drawn.summary)}"
    assert marks(panel.figure()) == {trace.name: len(trace.x) for trace in drawn.plot.data}
    panel.press("k", "ArrowRight", 2)
    assert panel.says() == said, "k waits for Run"
    seen, ended = panel.run(RUN_SECONDS)
    print(f"\nk = 50 on digits: progress after {seen:.2f} s, done after {ended:.1f} s")
    assert seen < 0.5
    said = panel.changed_from(said)
    assert said.startswith("k = 50, δ × 0.50, Q = 2: rejected")
    panel.picture("k 50")
    panel.click("reset")
    panel.changed_from(said)
    assert panel.readout("delta") == "1.00"
    before, guess = len(panel.figure()["shapes"]), panel.page.locator(".polkit-prediction")
    guess.locator(".noUi-handle").press("ArrowLeft")
    guess.locator(".polkit-keep").click()
    guess.get_by_text("kept:").wait_for(timeout=5000)
    wait_until(lambda: len(panel.figure()["shapes"]) > before, 5, "the prediction had to be drawn")
    panel.picture("prediction")


@pytest.mark.parametrize(("chapter", "name", "left"), [("05_attack_1", "attack-1", 10), ("06_attack_2", "attack-2", 7)])
@pytest.mark.slow
def test_an_attack_follows_delta_and_q_and_forges_another_t(opened, chapter, name, left):
    panel = opened(chapter, name)
    first = panel.says()
    panel.press("delta", "ArrowLeft", 15)
    halved = panel.changed_from(first)
    assert largest_error(halved) == pytest.approx(largest_error(first) / 10**-0.3, rel=0.1)
    assert level(panel.figure()) == pytest.approx(10**-0.3, rel=1e-3)
    panel.press("q", "ArrowLeft")
    fewer = panel.changed_from(halved)
    assert int(re.search(r"of the (\d+) replayed", fewer)[1]) < int(re.search(r"of the (\d+) replayed", halved)[1])
    drawn = marks(panel.figure())
    assert drawn["not replayed at this Q"] > 0
    length = int(re.search(r"T' = (\d+)", first)[1])
    panel.press("steps", "ArrowLeft", left)
    assert f"T' = {length}," in panel.says(), "T' waits for Run"
    seen, ended = panel.run(RUN_SECONDS)
    print(f"\n{name}, T' = {length - 10 * left}: progress after {seen:.2f} s, done after {ended:.1f} s")
    assert seen < 0.5
    shorter = panel.changed_from(fewer)
    assert f"T' = {length - 10 * left}," in shorter
    assert sum(marks(panel.figure()).values()) == (length - 10 * left) // 10
    panel.picture("another T")


@pytest.mark.slow
def test_attack_3_forges_with_another_k_and_can_be_cancelled_and_the_corollary_is_measured(opened):
    panel = opened("07_attack_3", "attack-3")
    first = panel.says()
    panel.press("steps", "ArrowRight", 14)
    panel.click("run")
    panel.page.wait_for_timeout(300)
    panel.click("cancel")
    panel.page.wait_for_function("() => !document.querySelector('.polkit-panel-attack-3.polkit-busy')", timeout=30_000)
    assert panel.text("note").startswith("cancelled")
    assert panel.says() == first
    panel.press("steps", "ArrowLeft", 21)
    panel.press("k", "ArrowLeft")
    seen, ended = panel.run(RUN_SECONDS)
    print(f"\nAttack III, T' = 70, k = 5: progress after {seen:.2f} s, done after {ended:.1f} s")
    said = panel.changed_from(first)
    assert said.startswith("T' = 70, k = 5,")
    assert sum(marks(panel.figure()).values()) == 14
    panel.picture("k 5")
    corollary = Panel(panel.page, panel.chapter, "corollary")
    before = {trace["name"]: trace["x"] for trace in corollary.figure()["traces"]}
    corollary.press("k", "ArrowRight")
    corollary.run(RUN_SECONDS)
    after = {trace["name"]: trace["x"] for trace in corollary.figure()["traces"]}
    assert set(after["measured gap"]) - set(before["measured gap"]) == {6}
    height = level(corollary.figure())
    corollary.press("delta", "ArrowRight", 15)
    wait_until(lambda: level(corollary.figure()) > 1.9 * height, 5, "the line of δ had to move")
    corollary.picture("k 6")


@pytest.mark.slow
def test_the_window_moves_with_delta_q_k_and_t(opened):
    panel = opened("08_window", "window")
    first = panel.says()
    edges = re.search(r"T' from (\d+) to (\d+)", first)
    panel.press("delta", "ArrowLeft", 15)
    said = panel.changed_from(first)
    narrower = re.search(r"T' from (\d+) to (\d+)", said)
    assert int(narrower[1]) == pytest.approx(2 * int(edges[1]), rel=0.25)
    assert narrower[2] == edges[2]
    shaded = next(shape for shape in panel.figure()["shapes"] if shape["type"] == "rect")
    assert (shaded["x0"], shaded["x1"]) == (int(narrower[1]), int(narrower[2]))
    panel.picture("delta halved")
    lines = [shape["x0"] for shape in panel.figure()["shapes"] if shape["x0"] == shape["x1"]]
    panel.press("steps", "ArrowLeft", 2)
    assert 140 in lines
    wait_until(
        lambda: 120 in [shape["x0"] for shape in panel.figure()["shapes"] if shape["x0"] == shape["x1"]],
        10,
        "the dotted line had to move to T' = 120",
    )
    panel.box.locator(".polkit-attack button").nth(1).click()
    said = panel.changed_from(said)
    assert said.startswith("interpolation only")
    panel.press("k", "ArrowRight")
    seen, ended = panel.run(RUN_SECONDS)
    print(f"\ninterpolation only, T' = 120, k = 20: progress after {seen:.2f} s, done after {ended:.1f} s")
    said = panel.changed_from(said)
    assert "k = 20" in said
    figure = panel.figure()
    assert 120 in [
        x for trace in figure["traces"] if trace["name"].endswith(("accepted", "rejected")) for x in trace["x"]
    ]
    panel.picture("k 20")


def answers_at_once(panel, slider, said):
    first, drawn = panel.says(), panel.figure()
    panel.press(slider, "ArrowRight", 5)
    after = panel.changed_from(first)
    assert said in after
    panel.shows(after)
    assert violations(panel.page, f".polkit-panel-{panel.name}") == []
    assert panel.figure() != drawn
    assert panel.text("error") == ""
    panel.picture("moved")
    panel.click("reset")
    panel.says_again(first)


def runs_anew(panel, said):
    before = panel.says()
    panel.run(RUN_SECONDS)
    assert panel.changed_from(before).startswith(said)


@pytest.mark.slow
def test_the_primers_panels_answer_at_once(opened):
    panel = opened("01_primer", "surface")
    answers_at_once(panel, "delta", "k = 10, δ = 0.2:")  # 0.16 · 10^(5 · 0.02)
    # The last of 1, 2, 5, 10, 20, 50:
    answers_at_once(
        Panel(panel.page, panel.chapter, "growth"), "k", "the largest errors in l2 (share of d_ref) at k = 50 are"
    )


@pytest.mark.slow
def test_the_editor_of_stages_moves_the_verdicts_and_the_path_beside_them(opened):
    panel = opened("10_countermeasures", "stages")
    first = panel.says()
    stage_2, length = float(re.search(r"([\d.]+) δ from 50%", first)[1]), int(re.search(r"needs T' = (\d+)", first)[1])
    panel.press("stage-2", "ArrowRight", 50)
    said = panel.changed_from(first)
    assert float(re.search(r"([\d.]+) δ from 50%", said)[1]) == pytest.approx(10 * stage_2, rel=0.06)
    panel.press("stage-1", "ArrowLeft", 50)
    said = panel.changed_from(said)
    assert said.startswith("with 0.1 δ from 0%")
    assert int(re.search(r"needs T' = (\d+)", said)[1]) > 2 * length
    assert not re.search(r"honest proof: 0 of", said)
    path = next(trace for trace in panel.figure()["traces"] if trace["name"] == "path at the stages' pace")
    assert path["x"][-1] > 2 * length
    panel.picture("stage 1 lowered")
    panel.click("reset")
    assert panel.changed_from(said) == first


@pytest.mark.slow
def test_the_map_follows_k_t_and_the_spoofs_length(opened):
    panel = opened("08_window", "map")
    answers_at_once(panel, "delta", "at δ × 1.26, k = 10, T = 4400 and T' = 140,")
    first = panel.says()
    panel.press("k", "ArrowRight")
    said = panel.changed_from(first)
    assert "k = 20, T = 4400" in said
    panel.press("length", "ArrowRight", 50)
    said = panel.changed_from(said)
    assert "T = 44000" in said
    panel.press("steps", "ArrowRight", 50)
    said = panel.changed_from(said)
    steps = int(re.search(r"and T' = (\d+)", said)[1])
    readout = panel.box.locator(".polkit-steps .widget-readout").inner_text()
    assert steps == pytest.approx(int(readout.replace(",", "")), abs=10)  # a multiple of k = 20
    assert steps > 1000

    def chosen():
        return [trace["x"] for trace in panel.figure()["traces"] if trace["name"] == "the chosen point"]

    # The traces come one message after the words.
    wait_until(lambda: chosen() == [[steps]], 60, "the star had to move to T'")
    assert panel.text("error") == ""
    panel.picture("k, T and T'")


@pytest.mark.slow
def test_the_debate_follows_its_switches(opened):
    debate = opened("12_defences", "debate")
    before = debate.says()
    debate.box.locator(".polkit-model").get_by_role("button", name="the disputed").press("Enter")
    debate.shows(debate.changed_from(before))
    assert violations(debate.page, ".polkit-panel-debate") == []
    debate.picture("ends at the model")


@pytest.mark.slow
def test_a_random_draw_follows_f_and_m_and_an_interval_is_replayed_once_more(opened):
    panel = opened("03_verification", "draws")
    answers_at_once(panel, "drawn", "25 of 100 intervals find one of 5 made-up ones")
    answers_at_once(panel, "made-up", "20 of 100 intervals find one of 10 made-up ones")
    interval = Panel(panel.page, panel.chapter, "interval")
    answers_at_once(interval, "delta", "honest, δ × 1.26")
    runs_anew(interval, "replay 2, honest, δ × 1.00")


@pytest.mark.slow
def test_a_start_is_sorted_and_drawn_once_more(opened):
    panel = opened("05_attack_1", "sorting")
    answers_at_once(panel, "spread", "as drawn, with 1.6 times the right spread")
    runs_anew(panel, "draw 2: as drawn, with 1 times the right spread")


@pytest.mark.slow
def test_a_batch_is_attacked_and_another_one_further_on(opened):
    panel = opened("06_attack_2", "batch")
    first = panel.says()
    panel.press("n", "ArrowLeft", 3)
    assert panel.changed_from(first).startswith("at 0 of the path")
    panel.press("place", "ArrowRight")
    runs_anew(panel, "at 0.15 of the path")
    assert violations(panel.page, ".polkit-panel-batch") == []
    panel.picture("further on")


@pytest.mark.parametrize(
    ("chapter", "name", "slider", "said"),
    [
        ("08_window", "path", "delta", "with δ × 1.26"),
        ("11_borrowed_momentum", "momentum", "momentum", "the first of 10 updates goes"),
    ],
)
@pytest.mark.slow
def test_a_panel_of_the_path_answers_at_once(opened, chapter, name, slider, said):
    answers_at_once(opened(chapter, name), slider, said)


@pytest.mark.slow
def test_published_spoofs_are_judged_by_another_verifier(opened):
    panel = opened("09_results", "results")
    answers_at_once(panel, "delta", "replayed in bf16), δ × 1.26, Q = all, weights compared")
    first = panel.says()
    panel.box.locator(".polkit-chosen button").nth(1).press("Enter")
    panel.shows(panel.changed_from(first))


@pytest.mark.slow
def test_a_proof_is_recorded_with_another_k(opened):
    panel = opened("02_proof_creation", "size")
    first = panel.says()
    panel.press("k", "ArrowLeft")
    seen, ended = panel.run(RUN_SECONDS)
    print(f"\na ten-epoch proof with k = 5: progress after {seen:.2f} s, done after {ended:.1f} s")
    assert "at k = 5" in panel.changed_from(first)
    recorded = next(trace for trace in panel.figure()["traces"] if trace["name"] == "recorded here")
    assert recorded["x"] == [5]
    panel.picture("k 5")


@pytest.mark.slow
def test_a_failing_callback_says_so_in_place(page, lab, tmp_path):
    source = """
from polkit.book.panels.parts import Panel
from polkit.book.panels.sliders import delta_slider
from polkit.book.figures.primer import size_figure
import pandas as pd

def draw(data, *, threshold_scale):
    if threshold_scale < 1:
        raise ValueError("δ must not fall below 1 here")
    return size_figure(pd.DataFrame({"checkpoint_interval": [1, 10], "stored_bytes": [1e6, threshold_scale * 1e5]}))

Panel("failing", {"threshold_scale": delta_slider()}, draw)
"""
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    notebook.cells = [nbformat.v4.new_code_cell(source)]
    root = os.environ["POLKIT_LAB_ROOT"]
    nbformat.write(notebook, f"{root}/failing.ipynb")
    chapter = Chapter(page, lab, TOKEN, "failing")
    chapter.run_all(60)
    panel = chapter.panel("failing")
    first = panel.says()
    panel.press("delta", "ArrowLeft")
    panel.box.get_by_text("ValueError: δ must not fall below 1 here").wait_for(timeout=5000)
    assert panel.says() == first
    panel.picture("error")
    panel.press("delta", "ArrowRight", 3)
    panel.changed_from(first)
    assert panel.text("error") == ""
