"""`make app` in a browser: the three screens by keyboard alone, for a screen reader, on two screens, and offline."""

import contextlib
import http.client
import os
import re
import sys
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import pytest
from chapter import PICTURES, Panel, violations, wait_until
from lecture import SPOOFS
from screens import closed_window
from serving import free_port, serving

import polkit as pk
from polkit.book.figures import standing_figure, verdict_figure
from polkit.book.panels.debate import SWITCHES, verifiers_of
from polkit.experiments.matrix import accepted_by_all
from polkit.experiments.published import published
from polkit.experiments.window import spoof_lengths, spoof_rows, window_edges
from polkit.training import PARTS

pytestmark = [pytest.mark.ui, pytest.mark.slow, pytest.mark.filterwarnings("default")]
HALL, PHONE = {"width": 1920, "height": 1080}, {"width": 390, "height": 844}
SCREENS = {"window": "published-window", "explorer": "explorer", "debate": "debate"}
LOADED_SECONDS, READY_SECONDS = 120, 400  # a busy machine; from an empty cache the verifier takes minutes
SERVED = "/voila/static/voila.js"  # asks for no kernel
REPOSITORY = Path(__file__).resolve().parents[2]
UNUSUAL = [
    """
import time
from pathlib import Path

import ipywidgets as w
import pandas as pd

import polkit as pk
from polkit.book.figures.primer import size_figure
import lecture
from polkit.book.panels.parts import Panel
from polkit.book.panels.sliders import delta_slider
from waiting import Stage, in_turn

def draw(data, *, threshold_scale):
    if threshold_scale < 1:
        raise ValueError("δ must not fall below 1 here")
    return size_figure(pd.DataFrame({"checkpoint_interval": [1, 10], "stored_bytes": [1e6, threshold_scale * 1e5]}))

def wait(progress):
    for count in range(10_000):
        if Path("OPEN").exists():
            return w.HTML("<b>it is there</b>")
        progress(count, 10_000)
        time.sleep(0.02)

def fail(progress):
    raise OSError("the disk is full")
""",
    """
Panel("failing", {"threshold_scale": delta_slider()}, draw)
""",
    """
in_turn("slow", [Stage("something slow", wait, lambda found: found)])
""",
    """
in_turn("failing", [Stage("the proof", fail, print)])
""",
    """
lecture.explorer_screen(pk.task("digits").replace(train_size=256, epochs=16, checkpoint_interval=4), workers=1)
""",
]


FORBIDDEN = (
    "lecture.ipynb",
    "README.md",
    "voila/files/lecture.ipynb",
    "voila/files/README.md",
    "voila/files/serve.py",
    "voila/files/../../README.md",
    "voila/files/%2e%2e/%2e%2e/pyproject.toml",
    "voila/files/voila/templates/polkit/conf.json",
    "voila/static/../../../../../etc/passwd",
    "voila/templates/polkit/static/../lecture.css",
    "voila/templates/polkit/static/../../../../lecture.ipynb",
    "voila/labextensions/../../../pyvenv.cfg",
    "voila/api/contents/",
    "api/contents/",
    "api/terminals",
    "api/kernels",
)


@contextlib.contextmanager
def served(place, notebook=(), **variables):
    port = free_port()
    own = {name: str(place / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    command = [sys.executable, str(REPOSITORY / "notebooks/app/serve.py"), "--port", str(port), *map(str, notebook)]
    path = os.pathsep.join(
        map(str, (REPOSITORY, REPOSITORY / "notebooks/app"))
    )  # a notebook elsewhere needs its modules
    environment = os.environ | own | {"PYTHONPATH": path} | variables
    with serving(command, environment, place / "app.log", f"http://127.0.0.1:{port}", SERVED) as address:
        yield address


@pytest.fixture(scope="module")
def app(chromium, browser, tmp_path_factory):
    """The page, opened once. address: where it is · asked: every address that it has asked for."""
    with served(tmp_path_factory.mktemp("app")) as address:
        page = browser.new_page(viewport=HALL)
        page.address, page.asked = address, []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("websocket", lambda socket: page.asked.append(socket.url))
        page.goto(address, wait_until="commit")
        page.wait_for_selector(".polkit-panel-debate .main-svg", timeout=LOADED_SECONDS * 1000)
        page.wait_for_selector(".polkit-waiting-explorer:not(.polkit-busy)", timeout=READY_SECONDS * 1000)
        assert page.locator(".polkit-waiting-explorer > .polkit-error").inner_text() == ""
        yield page
        page.close()


@pytest.fixture
def panel(app):
    app.set_viewport_size(HALL)
    return lambda name: Panel(app, "app", SCREENS[name])


def marks(figure):
    return {trace["name"]: len(trace["x"] or []) for trace in figure["traces"]}


def spelt(summary):
    return re.sub(r"\s+", " ", summary)


def test_the_window_follows_the_keyboard(panel):
    window = panel("window")
    runs, paths = published("digits/runs"), published("digits/paths")
    spoofs = spoof_rows(runs)

    def expect(attack, scale, steps, replayed="all"):
        judged = spoof_rows(runs, replayed=replayed, parts=PARTS, threshold_scale=scale)
        judged = judged[judged["attack"] == attack]
        even = (judged["spoof_steps"] / judged["cost"]).mean()
        table = closed_window(spoofs, paths, spoof_lengths(10, 4400, 120), break_even=even, threshold_scale=scale)
        left, right = window_edges(table)
        accepted, counts = int(judged["accepted"].sum()), judged.groupby("spoof_steps")["accepted"].sum()
        start = f"{attack}, δ × {scale:.2f}: by the closed form "
        start += f"spoofing passes and pays for T' from {left} to {right}: "
        end = "of 3 trainings: " + ", ".join(f"{n} at T' = {t}" for t, n in counts.items()) + "."

        def said():
            words = window.says()
            return words if words.startswith(start) and f" At T' = {steps} " in words and words.endswith(end) else None

        window.shows(wait_until(said, 15, f"the window had to say “{start} … {end}”"))

        def drawn():
            figure = window.figure()
            shaded = next(shape for shape in figure["shapes"] if shape["type"] == "rect")
            lines = [shape["x0"] for shape in figure["shapes"] if shape["x0"] == shape["x1"]]
            points = [len(trace["x"]) for trace in figure["traces"] if trace["name"] == f"{attack}, accepted"]
            return (shaded["x0"], shaded["x1"]) == (left, right) and steps in lines and points == [accepted, accepted]

        wait_until(drawn, 5, f"the window from {left} to {right}, T' = {steps} and {accepted} marks had to be drawn")

    expect("interpolation only", 1.0, 140)
    window.press("delta", "ArrowRight", 15)
    expect("interpolation only", 10**0.3, 140)
    window.press("steps", "ArrowRight", 6)
    expect("interpolation only", 10**0.3, 200)
    second = window.box.get_by_role("button", name="Attack II", exact=True)
    second.press("Enter")
    expect("Attack II", 10**0.3, 200)
    assert second.get_attribute("aria-pressed") == "true"
    window.box.get_by_role("button", name="Q = 1").press("Space")
    expect("Attack II", 10**0.3, 200, "one")
    window.click("reset")
    expect("interpolation only", 1.0, 140)


def test_the_explorer_shows_the_verdicts_that_the_verifier_gives(panel):
    explorer = panel("explorer")
    task = pk.task("digits")
    proof, calibration = pk.prepare(task, 0, progress=False)
    attack, intervals = SPOOFS["borrowed momentum"]
    spoof = attack(proof.final_weights(), task, spoof_steps=10 * intervals, seed=1, progress=False)
    verdicts = {
        "honest proof": (4400, pk.verify(proof, calibration, top_q="all", workers=2, remember=True)),
        "borrowed momentum": (40, pk.verify(spoof, calibration, top_q="all", remember=True)),
    }

    def expect(name, scale, q):
        steps, verdict = verdicts[name]
        figure = verdict_figure(verdict, calibration, threshold_scale=scale, top_q=q)
        explorer.shows(f"{name}, {steps} steps, δ × {scale:.2f}, Q = {q}: {spelt(figure.summary)}")

        def drawn():
            seen = explorer.figure()
            level = next(shape["y0"] for shape in seen["shapes"] if shape["y0"] == shape["y1"])
            counts = {trace.name: len(trace.x) for trace in figure.plot.data}
            return marks(seen) == counts and level == pytest.approx(scale, rel=1e-3)

        wait_until(drawn, 5, "the marks and the line of δ had to be those of the verdict")

    assert explorer.box.locator(".polkit-folder button").all_inner_texts() == ["honest proof", *SPOOFS]
    expect("honest proof", 1.0, 3)
    explorer.press("delta", "ArrowLeft", 25)
    expect("honest proof", 10**-0.5, 3)
    explorer.press("q", "ArrowLeft", 2)
    expect("honest proof", 10**-0.5, 1)
    handle = explorer.box.locator(".polkit-delta .noUi-handle")
    assert (handle.get_attribute("aria-label"), handle.get_attribute("aria-valuetext")) == ("δ (×)", "0.32")
    explorer.box.get_by_role("button", name="borrowed momentum").press("Enter")
    expect("borrowed momentum", 10**-0.5, 1)
    explorer.click("reset")
    expect("honest proof", 1.0, 3)


def test_switches_of_the_debate_change_what_stands(panel):
    debate = panel("debate")
    trainings = published("digits/matrix_trainings")
    shares = published("digits/matrix_costs").set_index("folder")["floating_point_operations"]
    start = {switch.name: next(iter(switch.options)) for switch in SWITCHES}

    def expect(answers):
        counts = accepted_by_all(trainings, verifiers_of(answers))
        debate.shows(spelt(standing_figure(counts, 3, shares).summary))
        wait_until(lambda: debate.figure()["traces"][0]["x"] == counts.to_list(), 5, "the bars had to be the counts")

    expect(start)
    answers = dict(start)
    for name, answer in (
        ("intervals", "all"),
        ("augmentation", "recorded"),
        ("state", "and momentum"),
        ("model", "the disputed"),
    ):
        debate.box.locator(f".polkit-{name}").get_by_role("button", name=answer, exact=True).press("Enter")
        answers[name] = answer
        expect(answers)
    debate.click("reset")
    expect(start)


def test_tab_reaches_every_control_and_shows_where_it_is(app):
    app.set_viewport_size(HALL)
    wanted = app.locator("nav a, .polkit-panel .noUi-handle, .polkit-panel button").count()
    assert wanted > 35
    seen = set()
    for _ in range(4 * wanted):  # from where the last test has left it, round and round
        app.keyboard.press("Tab")
        number, named, outline = app.evaluate("""() => {
            const all = [...document.querySelectorAll('nav a, .polkit-panel .noUi-handle, .polkit-panel button')];
            const at = document.activeElement, look = getComputedStyle(at);
            const named = at === document.body ? 'BODY' : at.ariaLabel || at.textContent.trim() || at.tagName;
            return [all.indexOf(at), named,
                    look.outlineStyle === 'none' ? 0 : parseFloat(look.outlineWidth)];
        }""")
        assert outline >= 2 or named == "BODY", f"nothing shows that {named} has the focus"
        seen.add(number)
        if len(seen - {-1}) == wanted:
            return
    raise AssertionError(f"Tab reached {len(seen - {-1})} of {wanted} links, sliders and buttons")


@pytest.mark.parametrize("size", [HALL, PHONE], ids=["hall", "phone"])
def test_nothing_serious_stands_between_the_page_and_a_reader(app, size):
    app.set_viewport_size(size)
    app.wait_for_timeout(500)
    assert violations(app) == []
    headings = [
        (int(node["level"][1]), node["text"])
        for node in app.evaluate(
            "() => [...document.querySelectorAll('h1,h2,h3,h4')].map(h => ({level: h.tagName, text: h.textContent}))"
        )
    ]
    assert [level for level, _ in headings] == [1, 2, 2, 2]
    wide = app.evaluate("() => document.documentElement.scrollWidth")
    assert wide <= size["width"], "the page must not scroll sideways"
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name, panel in SCREENS.items():
        heading = app.locator("main h2").nth(list(SCREENS).index(name))
        heading.evaluate("node => node.scrollIntoView({behavior: 'instant'})")
        app.wait_for_timeout(300)
        app.screenshot(path=PICTURES / f"app-{name}-{size['width']}.png")
        if size is HALL:
            box = app.locator(f".polkit-panel-{panel}").bounding_box()
            assert box["y"] + box["height"] <= size["height"], f"{name} does not fit on one screen"


def test_no_request_leaves_this_machine_and_no_file_is_served(app):
    here = urlsplit(app.address).netloc
    assert len(app.asked) > 10
    outside = {url for url in app.asked if not url.startswith(("data:", "blob:")) and urlsplit(url).netloc != here}
    assert outside == set()
    with contextlib.closing(http.client.HTTPConnection(here, timeout=10)) as connection:
        for path in FORBIDDEN:
            connection.request("GET", f"/{path}")
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
            if answer.status == 302:
                assert answer.headers["Location"] == f"/voila/files/{path}", "which is among those that are refused"
                continue
            assert answer.status >= 400, f"{path}: {answer.status}"
            assert "polkit" not in text, f"{path} shows something of the checkout"
            assert "http" not in text, f"the page for {path} asks for something"


def test_a_viewer_may_not_run_code_in_the_kernel(app):
    """A message that runs code is dropped; one that asks what the kernel is, sent after it, is answered."""
    kernel = app.evaluate("() => JSON.parse(document.getElementById('jupyter-config-data').textContent).kernelId")
    answered = app.evaluate(
        """kernel => new Promise((done, fail) => {
        const socket = new WebSocket(`ws://${location.host}/api/kernels/${kernel}/channels?session_id=test`), seen = [];
        const send = (kind, content) => socket.send(JSON.stringify({
            channel: 'shell', content, parent_header: {}, metadata: {}, buffers: [],
            header: {msg_id: kind, msg_type: kind, session: 'test', username: '', version: '5.3', date: ''}}));
        socket.onopen = () => {
            send('execute_request', {code: '1/0', silent: false});
            send('kernel_info_request', {});
        };
        socket.onmessage = event => {
            const type = JSON.parse(event.data).msg_type || JSON.parse(event.data).header.msg_type;
            seen.push(type);
            if (type === 'kernel_info_reply') setTimeout(() => { socket.close(); done(seen); }, 500);
        };
        socket.onerror = fail;
        setTimeout(() => done(['nothing for ten seconds', ...seen]), 10000);
    })""",
        kernel,
    )
    assert "kernel_info_reply" in answered
    assert not {"execute_reply", "execute_input", "error"} & set(answered)


def test_what_takes_a_while_says_so_and_what_fails_is_said_in_place(chromium, browser, tmp_path):
    """A callback and a computation that fail, one that takes long, and the verifier's screen from an empty cache."""
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in UNUSUAL]
    nbformat.write(notebook, tmp_path / "unusual.ipynb")
    with served(tmp_path, [tmp_path / "unusual.ipynb"], POLKIT_HOME=str(tmp_path / "home")) as address:
        page = browser.new_page(viewport=HALL)
        page.goto(address, wait_until="commit")
        failing = page.locator(".polkit-waiting-failing .polkit-error")
        failing.get_by_text("the proof: OSError: the disk is full").wait_for(timeout=LOADED_SECONDS * 1000)
        assert failing.locator("[role=alert]").count() == 1
        slow = page.locator(".polkit-waiting-slow")
        assert slow.locator(".polkit-status").inner_text().strip() == "Being made: something slow …"
        note = slow.locator(".polkit-note")
        first = note.inner_text()
        wait_until(lambda: note.inner_text() != first, 5, "the count had to go on")
        assert re.fullmatch(r"done: \d+ of 10000", note.inner_text().strip())
        assert violations(page) == []
        page.screenshot(path=PICTURES / "app-unusual.png", full_page=True)
        (tmp_path / "OPEN").touch()
        slow.get_by_text("it is there").wait_for(timeout=5000)
        assert not note.is_visible()

        panel = Panel(page, "app", "failing")
        said = panel.says()
        panel.press("delta", "ArrowLeft")
        panel.box.get_by_text("ValueError: δ must not fall below 1 here").wait_for(timeout=5000)
        assert panel.says() == said
        panel.press("delta", "ArrowRight", 3)
        panel.changed_from(said)
        assert panel.text("error") == ""

        page.wait_for_selector(".polkit-panel-explorer", timeout=READY_SECONDS * 1000)
        explorer = Panel(page, "app", "explorer")
        assert explorer.says().startswith("honest proof, 64 steps, δ × 1.00, Q = 1: ")
        page.close()
