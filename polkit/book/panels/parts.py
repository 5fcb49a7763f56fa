"""What every panel is made of: a figure that sliders redraw, a Run that can be cancelled, a prediction."""

import html
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as w
import plotly.graph_objects as go

from polkit.book.figures.drawing import Figure
from polkit.book.panels.access import Named
from polkit.book.panels.sliders import control
from polkit.book.panels.still import STILL_TYPE, first_frame
from polkit.training.jobs import Cancelled

TRACE = ("x", "y", "z", "text", "textposition", "customdata", "name")  # what a slider may change of a trace
AXIS = ("dtick", "tickvals", "tickformat", "title", "type")  # what a slider may change of an axis
NARROW = {"width": "110px"}  # no Layout: a widget made at import is closed at exit, with a traceback
PATIENCE_SECONDS = 120  # a Run that would take longer is refused, with the reason
SETTLING_SECONDS = 0.25  # a slider's value takes some hundredths of a second to the kernel, on a busy machine more


class View(w.VBox):
    """A box of widgets with the class `polkit-KIND`. instead: what a view without a kernel shows."""

    def still(self) -> dict[str, Any]:
        """What a page without a kernel is made of, if more than words."""
        return {}

    def __init__(self, kind: str, children: list[w.Widget], instead: str):
        super().__init__(children)
        self.instead = instead
        self.add_class(f"polkit-{kind}")

    def _repr_mimebundle_(self, **options) -> dict:
        still = self.still()
        return (
            super()._repr_mimebundle_(**options) | {"text/plain": self.instead} | ({STILL_TYPE: still} if still else {})
        )


class Meter(w.HBox):
    """How far something is. what: the word before the numbers."""

    def __init__(self, what: str):
        self.bar, self.note, self.what = w.IntProgress(layout=w.Layout(width="200px")), w.HTML(), what
        self.restart()
        self.bar.add_class("polkit-progress")
        self.note.add_class("polkit-note")
        super().__init__([self.bar, self.note])

    def restart(self, note: str = "") -> None:
        self.bar.value, self.bar.max, self.note.value, self.told_at = 0, 1, note, 0.0

    def tell(self, done: int, total: int) -> None:
        """Shows it at most ten times a second, for every message takes time from what is computed."""
        now = time.perf_counter()
        if now - self.told_at > 0.1 or done == total:
            self.told_at, self.bar.max, self.bar.value = now, max(total, 1), done
            self.note.value = f"{self.what}: {done} of {total}"


class Prediction(View):
    """A reader's guess, kept before the outcome is seen and drawn over it afterwards; `value` is None until then.

    whole: whether it is a whole number
    listeners: what is called whenever a prediction is kept
    """

    def __init__(self, question: str, *, least: float, most: float, unit: str, whole: bool = False):
        self.value, self.question, self.unit, self.listeners = None, question, unit, []
        kind, step = (w.IntSlider, 1) if whole else (w.FloatSlider, (most - least) / 100)
        middle = (least + most) / 2
        scale = {"min": least, "max": most, "step": step, "value": round(middle) if whole else middle}
        self.slider, self.kept = control(kind, "guess", unit, question, **scale), w.HTML()
        self.keep_button = _button("keep", "keep my prediction", self.keep)
        row = w.HBox([self.slider, self.keep_button, self.kept])
        instead = f"Predict: {question} (Run the chapter to note your answer here.)"
        super().__init__("prediction", [w.HTML(f"<b>Predict.</b> {html.escape(question)}"), row, Named()], instead)

    def still(self) -> dict[str, Any]:
        scale = {name: getattr(self.slider, name) for name in ("min", "max", "step", "value")}
        return {"question": self.question, "unit": self.unit, "scale": scale}

    def keep(self) -> None:
        threading.Thread(target=self._keep, daemon=True).start()

    def _keep(self) -> None:
        self.value = settled(lambda: self.slider.value)
        for listener in self.listeners:
            listener()
        self.kept.value = f"kept: {self.value:g} {html.escape(self.unit)}"


class Panel(View):
    """Sliders above a figure that they redraw. What goes wrong in draw or compute is said in the panel.

    name: its class is `polkit-panel-NAME`
    sliders: name of a value -> its widget
    draw: draw(data, **values) -> Figure, quick; with a prediction, `guess` (None until it is kept) is among the values
    data: what draw and compute are given first; later, what compute has returned
    compute: compute(data, progress, **values) -> data, in a thread when Run is pressed; calls progress(done, total)
    on_run: values that reach draw only when Run has been pressed
    cannot_run: takes the values and says why they cannot be run, or ""
    enlarged: what is done to the first figure, for a hall
    """

    def __init__(
        self,
        name: str,
        sliders: Mapping[str, w.Widget],
        draw: Callable[..., Figure],
        *,
        data: Any = None,
        compute: Callable[..., Any] | None = None,
        on_run: Sequence[str] = (),
        cannot_run: Callable[..., str] = lambda **_: "",
        prediction: Prediction | None = None,
        enlarged: Callable[[go.Figure], go.Figure] = lambda plot: plot,
    ):
        self.name, self.sliders, self.draw, self.data, self.prediction = name, sliders, draw, data, prediction
        self.compute, self.on_run, self.cannot_run, self.stopped = compute, on_run, cannot_run, threading.Event()
        self.first = self.shown = self.values()
        figure = self.drawn()
        # Enlarged before it is a widget: what changes before a page has loaded would not be shown there.
        self.plot = go.FigureWidget(enlarged(figure.plot))
        # No keyboard reaches plotly's buttons, and their links lead nowhere.
        self.plot._config = {"displayModeBar": False, "responsive": True}
        self.says, self.error, self.named = w.HTML(_sentence(figure.summary)), w.HTML(), Named(said=figure.summary)
        self.says.add_class("polkit-says")
        self.error.add_class("polkit-error")
        self.meter = Meter("running")
        self.run_button = _button("run", "compute with these values", self.run, icon="play", button_style="primary")
        self.cancel_button = _button("cancel", "stop this run", self.stopped.set, icon="stop", disabled=True)
        last = _button("reset", "all sliders back to where they were", self.reset, icon="undo")
        if compute:
            last = w.HBox([self.run_button, self.cancel_button, last, self.meter])
            self.check()
        labels = ", ".join(slider.description for slider in sliders.values())
        instead = f"A panel with sliders stands here ({labels}): run the chapter to move them. {figure.summary}"
        super().__init__("panel", [*sliders.values(), last, self.error, self.named, self.plot, self.says], instead)
        self.add_class(f"polkit-panel-{name}")
        for key, slider in sliders.items():
            slider.observe(self.check, names="value")
            if key not in on_run:
                slider.observe(self.redraw, names="value")
        if prediction:
            prediction.listeners.append(self.redraw)

    def still(self) -> dict[str, Any]:
        """The first figure; `notebooks/site/store.py` has all the others drawn, too."""
        return first_frame(self)

    def values(self) -> dict[str, Any]:
        return {key: slider.value for key, slider in self.sliders.items()}

    def drawn(self) -> Figure:
        guess = {"guess": self.prediction.value} if self.prediction else {}
        return self.draw(self.data, **self.values() | {key: self.shown[key] for key in self.on_run}, **guess)

    def redraw(self, _=None) -> None:
        try:
            figure = self.drawn()
            show(self.plot, figure.plot)
        except Exception as problem:  # an exception in a callback would otherwise be swallowed
            self.error.value = said_wrong(problem)
        else:
            self.says.value, self.error.value, self.named.said = _sentence(figure.summary), "", figure.summary

    def reset(self) -> None:
        for key, slider in self.sliders.items():
            slider.value = self.first[key]

    def check(self, _=None) -> None:
        """Enables Run, or says why these values cannot be run; while something runs, the note says how far it is."""
        if self.cancel_button.disabled:
            reason = self.cannot_run(**self.values())
            self.run_button.disabled, self.meter.note.value = bool(reason), html.escape(reason)

    def run(self) -> None:
        """Begins to compute; the figure stays as it is until that has ended."""
        self.stopped.clear()
        self.run_button.disabled, self.cancel_button.disabled, self.error.value = True, False, ""
        self.meter.restart("running")
        self.add_class("polkit-busy")
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        try:
            values = settled(self.values)
            if not (ended := self.cannot_run(**values)):
                self.data, self.shown = self.compute(self.data, self._progress, **values), values
                self.redraw()
        except Cancelled:
            ended = "cancelled; the figure shows the run before"
        except Exception as problem:  # in a thread, nobody else would say it
            self.error.value, ended = said_wrong(problem), "failed"
        self.cancel_button.disabled = True
        self.check()
        self.meter.note.value = self.meter.note.value or html.escape(ended)
        self.remove_class("polkit-busy")

    def _progress(self, done: int, total: int) -> None:
        if self.stopped.is_set():
            raise Cancelled
        self.meter.tell(done, total)


def _button(name: str, tooltip: str, press: Callable[[], None], **settings) -> w.Button:
    button = w.Button(description=name.capitalize(), tooltip=tooltip, layout=NARROW, **settings)
    button.add_class(f"polkit-{name}").on_click(lambda _: press())
    return button


def settled(read: Callable[[], Any]) -> Any:
    """What is read once it has stood still, to be called in a thread: a click can overtake a slider's last value."""
    before, values = None, read()
    while values != before:
        time.sleep(SETTLING_SECONDS)
        before, values = values, read()
    return values


def too_long(seconds_per_step: float, spoof_steps: int, interval: int) -> str:
    """Why a spoof of T' steps cannot be made while a reader waits, and which length could; "" if it can."""
    spoof_steps = max(1, round(spoof_steps / interval)) * interval
    needed, most = seconds_per_step * spoof_steps, int(PATIENCE_SECONDS / seconds_per_step) // interval * interval
    if needed <= PATIENCE_SECONDS:
        return ""
    if not most:
        return f"even the shortest spoof, T' = {interval}, would take about {seconds_per_step * interval:.0f} s here"
    return f"T' = {spoof_steps} would take about {needed:.0f} s here: choose {most} or less"


def show(widget: go.FigureWidget, plot: go.Figure) -> None:
    """Puts what a new figure shows into the one on the screen."""
    with widget.batch_update():
        if len(widget.data) != len(plot.data):
            widget.data = []
            widget.add_traces(plot.data)
        for old, new in zip(widget.data, plot.data, strict=True):
            old.update({key: new[key] for key in TRACE if key in new})
            if "error_y" in new and (bars := new.error_y.to_plotly_json()):
                old.error_y = bars
        widget.layout.shapes, widget.layout.annotations = plot.layout.shapes, plot.layout.annotations
        for name in plot.layout:
            if name.startswith(("xaxis", "yaxis")):
                widget.layout[name].update({key: plot.layout[name][key] for key in AXIS})


def _sentence(summary: str) -> str:
    return f"<div role='status' aria-live='polite'>{html.escape(summary)}</div>"


def said_wrong(problem: Exception, where: str = "") -> str:
    return f"<div role='alert'>{html.escape(where)}<b>{type(problem).__name__}</b>: {html.escape(str(problem))}</div>"
