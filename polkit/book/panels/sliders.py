"""The sliders of panels, which show δ, k, T' and Q in this order, and buttons; each has its class `polkit-NAME`."""

import math
from collections.abc import Iterable

import ipywidgets as w

LABEL = {"description_width": "90px"}
WIDE = {"width": "460px"}


def control(kind: type[w.Widget], name: str, label: str, tooltip: str | None = None, **settings) -> w.Widget:
    """A widget of this kind with the class `polkit-NAME`. settings: what the kind takes."""
    widget = kind(description=label, tooltip=tooltip, style=LABEL, layout=WIDE, **settings)
    return widget.add_class(f"polkit-{name}")


def number_slider(value: float, least: float, most: float, label: str, name: str) -> w.Widget:
    """A positive number on a logarithmic scale, rounded up to what a browser can show; least, most: powers of ten."""
    value = 10 ** (math.ceil(round(math.log10(value) * 50, 6)) / 50)
    scale = {"min": least, "max": most, "step": 0.02, "readout_format": ".3g"}
    return control(w.FloatLogSlider, name, label, label, value=value, **scale)


def delta_slider() -> w.Widget:
    """δ, as a multiple of the calibrated one."""
    scale = {"min": -1.5, "max": 1, "step": 0.02, "readout_format": ".2f"}
    return control(w.FloatLogSlider, "delta", "δ (×)", "verification threshold: × the calibrated one", value=1, **scale)


def top_q_slider(value: int, most: int) -> w.Widget:
    """Q, intervals replayed per epoch."""
    meaning = "how many of each epoch's largest updates are replayed"
    return control(w.IntSlider, "q", "Q per epoch", meaning, value=value, min=1, max=max(most, 1))


def steps_slider(value: int, least: int, most: int, step: int, label: str = "T' (steps)") -> w.Widget:
    """T', in steps of the spoof."""
    return control(w.IntSlider, "steps", label, "length of the spoof", value=value, min=least, max=most, step=step)


def length_slider(value: int, options: Iterable[int]) -> w.Widget:
    """T', in steps of the spoof, among lengths too far apart for a slider with even steps."""
    return choice_slider(value, map(int, options), "T' (steps)", "steps", "length of the spoof", "{:,}")


def interval_slider(value: int, options: Iterable[int]) -> w.Widget:
    """k, in steps."""
    return choice_slider(value, map(int, options), "k (steps)", "k", "checkpoint interval")


def choice_slider(
    value: float, options: Iterable[float], label: str, name: str, tooltip: str, words: str = "{:g}"
) -> w.Widget:
    """One of a few numbers, written in these words."""
    shown = [(words.format(each), each) for each in sorted({value, *options})]
    return control(w.SelectionSlider, name, label, tooltip, value=value, options=shown)


def count_slider(value: int, most: int, label: str, name: str) -> w.Widget:
    """A number of intervals, from 1."""
    return control(w.IntSlider, name, label, f"{label}: intervals", value=min(value, most), min=1, max=most)


def chooser(name: str, options: Iterable[str], value: str | None = None, label: str = "") -> w.Widget:
    """Buttons of which one is pressed; value: default, the first."""
    options = list(options)
    return control(w.ToggleButtons, name, label or name, options=options, value=value or options[0])
