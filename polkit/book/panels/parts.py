"""What every panel is made of: sliders, a prediction, a figure that is redrawn, a Run button that can be cancelled."""

import html
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import ipywidgets as w
import plotly.graph_objects as go

from polkit.book.figures.drawing import Figure, enlarged
from polkit.book.panels.access import named
from polkit.training import Cancelled

LABEL = {"description_width": "90px"}
WIDE = w.Layout(width="460px")
NARROW = w.Layout(width="110px")
PATIENCE_SECONDS = 120  # a Run that would take longer is refused, with the reason
SETTLING_SECONDS = 0.25  # a slider's value takes some hundredths of a second to the kernel, on a busy machine more


def delta_slider(value: float = 1.0) -> w.FloatLogSlider:
    """δ, as a multiple of the calibrated one."""
    return _named(
        w.FloatLogSlider(
            value=value,
            base=10,
            min=-1.5,
            max=1,
            step=0.02,
            readout_format=".2f",
            description="δ (×)",
            tooltip="verification threshold: × the calibrated one",
        ),
        "polkit-delta",
    )


def top_q_slider(value: int, most: int) -> w.IntSlider:
    """Q, intervals replayed per epoch."""
    return _named(
        w.IntSlider(
            value=value,
            min=1,
            max=max(most, 1),
            description="Q per epoch",
            tooltip="how many of each epoch's largest updates are replayed",
        ),
        "polkit-q",
    )


def interval_slider(value: int, options: list[int]) -> w.SelectionSlider:
    """k, in steps."""
    shown = [(f"{k} steps", k) for k in options]
    return _named(
        w.SelectionSlider(value=value, options=shown, description="k", tooltip="checkpoint interval"), "polkit-k"
    )


def steps_slider(value: int, least: int, most: int, step: int) -> w.IntSlider:
    """T', in steps of the spoof."""
    return _named(
        w.IntSlider(
            value=value, min=least, max=most, step=step, description="T' (steps)", tooltip="length of the spoof"
        ),
        "polkit-steps",
    )


def length_slider(value: int, options: Iterable[int]) -> w.SelectionSlider:
    """T', in steps of the spoof, among lengths too far apart for a slider with even steps."""
    shown = [(f"{steps:,}", steps) for steps in sorted({value, *map(int, options)})]
    return _named(
        w.SelectionSlider(value=value, options=shown, description="T' (steps)", tooltip="length of the spoof"),
        "polkit-steps",
    )


def number_slider(value: float, least: float, most: float, label: str, name: str) -> w.FloatLogSlider:
    """Any positive number on a logarithmic scale; least and most are powers of ten.

    The value is rounded up to what the slider can show, or a browser would do so by itself.
    """
    value = 10 ** (math.ceil(round(math.log10(value) * 50, 6)) / 50)
    return _named(
        w.FloatLogSlider(
            value=value, base=10, min=least, max=most, step=0.02, readout_format=".3g", description=label, tooltip=label
        ),
        name,
    )


def _named(slider: w.Widget, name: str) -> w.Widget:
    slider.style, slider.layout, slider.continuous_update = LABEL, WIDE, True
    slider.add_class(name)
    return slider


@dataclass(frozen=True)
class Panel:
    """box: what a browser shows · instead: what a view without a kernel shows."""

    box: w.Widget
    instead: str

    def _repr_mimebundle_(self, **options) -> dict:
        return self.box._repr_mimebundle_(**options) | {"text/plain": self.instead}


class Prediction:
    """A reader's guess, kept before the outcome is seen and drawn over it afterwards; `value` is None until then."""

    def __init__(self, question: str, *, least: float, most: float, unit: str, whole: bool = False):
        self.value: float | None = None
        self._told: list[Callable[[], None]] = []
        middle = (least + most) / 2
        kind = w.IntSlider if whole else w.FloatSlider
        slider = kind(
            value=round(middle) if whole else middle,
            min=least,
            max=most,
            description=unit,
            style=LABEL,
            layout=WIDE,
            tooltip=question,
        )
        if not whole:
            slider.step = (most - least) / 100
        button, kept = w.Button(description="Keep", layout=NARROW, tooltip="keep my prediction"), w.HTML()
        button.add_class("polkit-keep")

        def keep() -> None:
            self.value = settled(lambda: slider.value)
            for tell in self._told:
                tell()
            kept.value = f"kept: {self.value:g} {html.escape(unit)}"

        button.on_click(lambda _: threading.Thread(target=keep, daemon=True).start())
        box = w.VBox([w.HTML(f"<b>Predict.</b> {html.escape(question)}"), w.HBox([slider, button, kept]), named()])
        box.add_class("polkit-prediction")
        self.panel = Panel(box, f"Predict: {question} (Run the chapter to note your answer here.)")

    def _repr_mimebundle_(self, **options) -> dict:
        return self.panel._repr_mimebundle_(**options)

    def tell(self, listener: Callable[[], None]) -> None:
        """Calls the listener whenever a prediction is kept."""
        self._told.append(listener)


def panel(
    name: str,
    sliders: Mapping[str, w.Widget],
    draw: Callable[..., Figure],
    *,
    data: Any = None,
    compute: Callable[..., Any] | None = None,
    on_run: tuple[str, ...] = (),
    cannot_run: Callable[..., str] = lambda **_: "",
    prediction: Prediction | None = None,
    large: bool = False,
) -> Panel:
    """Sliders, and the figure that `draw(data, guess=…, **values)` makes of their values.

    The sliders in `on_run` take effect when Run is pressed: `compute(progress, **values)` then returns new data, in
    a thread of its own. cannot_run(**values): why it cannot be run with these values, or "" · large: for a hall.
    Whatever goes wrong is said in the panel.
    """
    state = {"data": data, "run": {key: slider.value for key, slider in sliders.items()}}
    first = draw(data, guess=prediction.value if prediction else None, **state["run"])
    # Enlarged before it is a widget: what changes before a page has loaded would not be shown there.
    figure, described = go.FigureWidget(enlarged(first.plot) if large else first.plot), named(first.summary)
    # No keyboard reaches plotly's buttons, and their links lead nowhere.
    figure._config = {"displayModeBar": False, "responsive": True}
    says, error = w.HTML(value=_sentence(first.summary)), w.HTML()
    says.add_class("polkit-says")
    error.add_class("polkit-error")

    def values() -> dict:
        return {key: state["run"][key] if key in on_run else slider.value for key, slider in sliders.items()}

    def redraw(_=None) -> None:
        try:
            drawn = draw(state["data"], guess=prediction.value if prediction else None, **values())
            show(figure, drawn.plot)
        except Exception as problem:  # an exception in a callback would otherwise be swallowed
            error.value = said_wrong(problem)
        else:
            says.value, error.value, described.said = _sentence(drawn.summary), "", drawn.summary

    for key, slider in sliders.items():
        if key not in on_run:
            slider.observe(redraw, names="value")
    if prediction:
        prediction.tell(redraw)
    start = {key: slider.value for key, slider in sliders.items()}
    reset = w.Button(description="Reset", icon="undo", layout=NARROW, tooltip="all sliders back to where they were")
    reset.add_class("polkit-reset")

    def put_back(_) -> None:
        for key, slider in sliders.items():
            slider.value = start[key]

    reset.on_click(put_back)
    box = w.VBox([])
    rows = [*sliders.values()]
    if compute:

        def finished(result: Any, used: dict) -> None:
            state["data"], state["run"] = result, used
            redraw()

        rows.append(_run_row(box, sliders, compute, cannot_run, finished, error, reset))
    else:
        rows.append(reset)
    box.children = [*rows, error, described, figure, says]
    box.add_class("polkit-panel")
    box.add_class(f"polkit-panel-{name}")
    labels = ", ".join(slider.description for slider in sliders.values())
    return Panel(box, f"A panel with sliders stands here ({labels}): run the chapter to move them. {first.summary}")


def _run_row(
    box: w.VBox,
    sliders: Mapping[str, w.Widget],
    compute: Callable[..., Any],
    cannot_run: Callable[..., str],
    finished: Callable[[Any, dict], None],
    error: w.HTML,
    reset: w.Button,
) -> w.Widget:
    """Run, Cancel, progress, and why Run cannot be pressed."""
    run = w.Button(description="Run", icon="play", button_style="primary", layout=NARROW)
    cancel = w.Button(description="Cancel", icon="stop", disabled=True, layout=NARROW)
    bar, note, stop = w.IntProgress(value=0, max=1, layout=w.Layout(width="200px")), w.HTML(), threading.Event()
    for widget, name in ((run, "run"), (cancel, "cancel"), (bar, "progress"), (note, "note")):
        widget.add_class(f"polkit-{name}")

    def current() -> dict:
        return {key: slider.value for key, slider in sliders.items()}

    def check(_=None) -> None:
        if not cancel.disabled:  # something runs, and the note tells how far it is
            return
        reason = cannot_run(**current())
        run.disabled, note.value = bool(reason), html.escape(reason)

    def begin(_) -> None:
        stop.clear()
        run.disabled, cancel.disabled, error.value, note.value = True, False, "", "running"
        tell = meter(bar, note, "running")
        box.add_class("polkit-busy")

        def progress(done: int, total: int) -> None:
            if stop.is_set():
                raise Cancelled
            tell(done, total)

        def work() -> None:
            try:
                used = settled(current)
                if not (ended := cannot_run(**used)):
                    finished(compute(progress, **used), used)
            except Cancelled:
                ended = "cancelled; the figure shows the run before"
            except Exception as problem:  # in a thread, nobody else would say it
                error.value, ended = said_wrong(problem), "failed"
            cancel.disabled = True
            check()
            note.value = note.value or ended
            box.remove_class("polkit-busy")

        threading.Thread(target=work, daemon=True).start()

    run.on_click(begin)
    cancel.on_click(lambda _: stop.set())
    for slider in sliders.values():
        slider.observe(check, names="value")
    check()
    return w.HBox([run, cancel, reset, bar, note])


def settled(read: Callable[[], Any]) -> Any:
    """What is read once it has stood still; to be called in a thread.

    A browser sends a click at once, a slider's last value only when the kernel has acknowledged the one before: on a
    busy machine Run overtook two presses of an arrow key.
    """
    values = read()
    while True:
        time.sleep(SETTLING_SECONDS)
        before, values = values, read()
        if values == before:
            return values


def meter(bar: w.IntProgress, note: w.HTML, what: str) -> Callable[[int, int], None]:
    """Shows how far something is, at most ten times a second: every message takes time from what is computed."""
    told = {"at": 0.0}
    bar.value, bar.max = 0, 1

    def tell(done: int, total: int) -> None:
        now = time.perf_counter()
        if now - told["at"] > 0.1 or done == total:
            told["at"] = now
            bar.max, bar.value = max(total, 1), done
            note.value = f"{what}: {done} of {total}"

    return tell


def too_long(seconds_per_step: float, spoof_steps: int, interval: int) -> str:
    """Why a spoof of T' steps cannot be made while a reader waits, and which length could; "" if it can."""
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
            old.update({key: new[key] for key in ("x", "y", "z", "text", "customdata", "name") if key in new})
        widget.layout.shapes, widget.layout.annotations = plot.layout.shapes, plot.layout.annotations
        for name in plot.layout:
            if name.startswith(("xaxis", "yaxis")):
                new = plot.layout[name]
                widget.layout[name].update({key: new[key] for key in ("dtick", "tickvals", "tickformat", "type")})


def _sentence(summary: str) -> str:
    return f"<div role='status' aria-live='polite'>{html.escape(summary)}</div>"


def said_wrong(problem: Exception, where: str = "") -> str:
    return f"<div role='alert'>{html.escape(where)}<b>{type(problem).__name__}</b>: {html.escape(str(problem))}</div>"
