"""A chapter in a browser, as a reader handles it: open, Run All, move a slider by keyboard, read text and figure."""

import re
import time
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe

PICTURES = Path(__file__).resolve().parents[2] / "build" / "ui"
PROGRESS = """() => {
  const notebook = window.jupyterapp.shell.currentWidget;
  const cells = [...notebook.content.widgets].filter(cell => cell.model.type === 'code');
  const prompts = cells.map(cell => cell.node.querySelector('.jp-InputPrompt').innerText);
  const errors = cells.flatMap(cell => cell.model.outputs.toJSON())
                      .filter(output => output.output_type === 'error')
                      .map(output => output.ename + ': ' + output.evalue);
  const running = prompts.filter(text => text.includes('*')).length;
  const blank = prompts.filter(text => /\\[ ?\\]/.test(text)).length;
  return {running, blank, errors};
}"""
BUSY = "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'busy'"
FIGURE = """node => {
  const plain = value => {
    if (ArrayBuffer.isView(value)) return Array.from(value);
    if (Array.isArray(value)) return value.map(plain);
    return value;
  };
  const traces = node.data.map(trace => ({name: trace.name, x: plain(trace.x), y: plain(trace.y)}));
  const shapes = (node.layout.shapes || []).map(({type, x0, x1, y0, y1}) => ({type, x0, x1, y0, y1}));
  return {traces, shapes};
}"""


def wait_until(found, seconds, what):
    """The first value of found() that is not falsy."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = found()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what} within {seconds} s")


def violations(page, inside=None):
    """What axe-core finds serious or critical: rule, and the first node of it. inside: a selector."""
    found = Axe().run(page, context=inside).response["violations"]
    return [
        (rule["id"], rule["nodes"][0]["target"], rule["nodes"][0]["html"][:200])
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]


class Chapter:
    def __init__(self, page, lab, token, name):
        self.page, self.name = page, name
        page.goto(f"{lab}/lab/tree/{name}.ipynb?token={token}&reset")
        page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
        page.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.isReady", timeout=60_000)

    def run_all(self, seconds):
        """Runs every cell from a fresh start; fails with the first cell that fails."""
        self.page.evaluate("""async () => {
            await window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs');
            window.polkitDone = false;
            window.jupyterapp.commands.execute('notebook:run-all-cells').then(() => { window.polkitDone = true; });
        }""")

        def finished():
            now = self.page.evaluate(PROGRESS)
            assert not now["errors"], now["errors"][0]
            done = self.page.evaluate("() => window.polkitDone")
            return done and not now["running"] and not now["blank"]

        wait_until(finished, seconds, f"{self.name} had to run all its cells")

    def panel(self, name):
        return Panel(self.page, self.name, name)


class Panel:
    def __init__(self, page, chapter, name):
        self.page, self.chapter, self.name = page, chapter, name
        self.box = page.locator(f".polkit-panel-{name}")
        self.box.wait_for(timeout=20_000)
        self.box.scroll_into_view_if_needed()
        self.box.locator(".js-plotly-plot .main-svg").first.wait_for(timeout=20_000)

    def text(self, name):
        return self.box.locator(f".polkit-{name}").inner_text().strip()

    def says(self):
        return self.text("says")

    def figure(self):
        return self.box.locator(".js-plotly-plot").evaluate(FIGURE)

    def press(self, slider, key, times=1):
        """Moves a slider by keyboard, once it has the focus."""
        handle = self.box.locator(f".polkit-{slider} .noUi-handle")
        handle.focus()
        for _ in range(times):
            handle.press(key)

    def readout(self, slider):
        return self.box.locator(f".polkit-{slider} .widget-readout").inner_text()

    def changed_from(self, before, seconds=30):
        """The new text, once it differs from `before` and has stood still for half a second with the kernel idle: on a
        busy machine, what fifteen presses of a key come to is computed in turns of a second."""
        seen = {"text": before, "since": time.monotonic()}

        def settled():
            now = self.says()
            if now != seen["text"] or self.page.evaluate(BUSY):
                seen.update(text=now, since=time.monotonic())
            return now if now != before and time.monotonic() - seen["since"] > 0.5 else None

        return wait_until(settled, seconds, f"{self.name} had to say something new")

    def says_again(self, words, seconds=60):
        wait_until(lambda: self.says() == words, seconds, f"{self.name} had to go back to “{words}”")

    def shows(self, words, seconds=60):
        """Waits until the panel says this, and its plot is described by it: a busy machine shows what lies between."""
        plot = self.box.locator(".js-plotly-plot")

        def described():
            return (self.says(), plot.get_attribute("role"), plot.get_attribute("aria-label")) == (words, "img", words)

        wait_until(described, seconds, f"{self.name} had to say “{words}”; its last words: “{self.says()}”;")

    def click(self, button):
        self.box.locator(f".polkit-{button}").click()

    def busy(self):
        return "polkit-busy" in self.box.get_attribute("class")

    def run(self, seconds):
        """Presses Run; returns how many seconds went by until progress was seen, and until the end."""
        begun, before = time.monotonic(), self.says()

        def begins():  # or has ended already; on a busy machine the click itself takes a while to arrive
            return "running" in self.text("note") or self.busy() or self.says() != before or self.text("error")

        self.click("run")
        wait_until(begins, 30, "progress had to be shown")
        seen = time.monotonic() - begun
        wait_until(lambda: not self.busy(), seconds, f"the run of {self.name} had to end")
        assert self.text("error") == ""
        return seen, time.monotonic() - begun

    def picture(self, what):
        PICTURES.mkdir(parents=True, exist_ok=True)
        file = PICTURES / f"{self.chapter}-{self.name}-{re.sub('[^A-Za-z0-9]+', '-', what)}.png"
        self.box.screenshot(path=file)
