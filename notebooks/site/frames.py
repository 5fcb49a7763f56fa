"""A panel for pages without a kernel: every figure that its sliders call up there, drawn beforehand."""

import base64
import gzip
import itertools
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import ipywidgets as w
import numpy as np

from polkit.book.panels.parts import Panel
from polkit.book.panels.still import first_frame, plain

MOST_FRAMES = 1000  # of a panel: they travel in its page
MOST_VALUES, MOST_RUNS = 26, 4  # of a slider: that answers at once; whose values must be run
# First digits of the whole numbers that a long scale keeps, finer first.
ROUND = ((1, 1.2, 1.5, 1.8, 2, 2.5, 3, 4, 5, 6, 8), (1, 1.5, 2, 3, 5, 8), (1, 2, 5), (1, 3))


@dataclass(frozen=True)
class Control:
    """A slider or a row of buttons on a page.

    label, meaning: as in the widget
    values: what draw and compute are given
    words: the readout of each value
    first: the place of the value at which it stands at first
    buttons: whether it is a row of buttons
    """

    label: str
    meaning: str
    values: tuple[Any, ...]
    words: tuple[str, ...]
    first: int
    buttons: bool = False

    def only(self, places: Iterable[int]) -> "Control":
        """With the values at these places, and the first."""
        kept = sorted({self.first, *places})
        values, words = (tuple(each[place] for place in kept) for each in (self.values, self.words))
        return replace(self, values=values, words=words, first=kept.index(self.first))

    def thinned(self, most: int) -> "Control":
        """With at most `most` values and the first: both ends stay; a long scale of whole numbers keeps round ones."""
        places = len(self.values)
        if places <= most or self.buttons:
            return self
        if isinstance(self.values[0], int) and self.values[1] - self.values[0] == self.values[-1] - self.values[-2]:
            for digits in ROUND:
                round_ones = {round(digit * 10**power, 6) for digit in digits for power in range(7)}
                kept = {0, places - 1} | {place for place in range(places) if self.values[place] in round_ones}
                if len(kept) <= most:
                    return self.only(kept)
        return self.only(np.linspace(0, places - 1, most).round().astype(int).tolist())


def control_of(widget: w.Widget) -> Control:
    """The control that a widget of `sliders` becomes."""
    meaning = widget.tooltip or widget.description
    if isinstance(widget, (w.SelectionSlider, w.ToggleButtons)):
        words, values = zip(
            *(each if isinstance(each, tuple) else (each, each) for each in widget.options), strict=True
        )
        buttons = isinstance(widget, w.ToggleButtons)
        return Control(widget.description, meaning, values, words, values.index(widget.value), buttons)
    count = math.floor((widget.max - widget.min) / widget.step + 1e-6) + 1
    scale = [widget.min + place * widget.step for place in range(count)]
    values = [float(widget.base**each) for each in scale] if isinstance(widget, w.FloatLogSlider) else scale
    first = min(range(count), key=lambda place: abs(values[place] - widget.value))
    values[first] = widget.value
    words = tuple(format(value, widget.readout_format) for value in values)
    return Control(widget.description, meaning, tuple(values), words, first)


def controls_of(panel: Panel) -> dict[str, Control]:
    """Each slider of a panel as a control, thinned until all combinations of their values are at most MOST_FRAMES.

    Of a slider that needs a Run, the values that can be run while a reader would wait stay.
    """
    whole = {name: control_of(widget) for name, widget in panel.sliders.items()}
    for name in panel.on_run:
        refused = [panel.cannot_run(**panel.first | {name: value}) for value in whole[name].values]
        whole[name] = whole[name].only(place for place, reason in enumerate(refused) if not reason)
    most = {name: MOST_RUNS if name in panel.on_run else MOST_VALUES for name in whole}
    thin = {name: control.thinned(most[name]) for name, control in whole.items()}
    while math.prod(len(control.values) for control in thin.values()) > MOST_FRAMES:
        lengths = {name: len(control.values) for name, control in thin.items() if not control.buttons}
        if max(lengths.values(), default=0) < 4:
            break  # all that is left are buttons, each of which must be there
        longest = max(lengths, key=lengths.__getitem__)
        thin[longest] = whole[longest].thinned(lengths[longest] - 2)
    return thin


def frames(panel: Panel) -> dict[str, Any]:
    """All that a page needs: the controls, the first figure, and by how much each other one differs from it, packed.

    The frames are in the order of `itertools.product` over the controls' values. Runs are made anew, from what the
    panel was given.
    """
    controls, base, drawn, known = controls_of(panel), first_frame(panel), [], {}
    guess = {"guess": None} if panel.prediction else {}
    for chosen in itertools.product(*(control.values for control in controls.values())):
        values = dict(zip(controls, chosen, strict=True))
        ran = {name: values[name] for name in panel.on_run}
        key = tuple(ran.values())
        if key not in known:
            same = all(panel.first[name] == value for name, value in ran.items())
            known[key] = panel.data if same else panel.compute(panel.data, lambda *_: None, **panel.first | ran)
        figure = panel.draw(known[key], **values, **guess)
        drawn.append({"says": figure.summary} | difference(base["figure"], plain(figure.plot.to_plotly_json())))
    shown = [{name: value for name, value in asdict(each).items() if name != "values"} for each in controls.values()]
    packed = gzip.compress(json.dumps(drawn, ensure_ascii=False, separators=(",", ":")).encode(), mtime=0)
    runs = [controls[name].label for name in panel.on_run]
    return base | {"controls": shown, "runs": runs, "frames": base64.b64encode(packed).decode()}


def difference(base: dict, other: dict) -> dict[str, Any]:
    """What must be set for one figure to become another: attributes of each trace, and of the layout; None unsets."""
    before = base["data"] + [{}] * len(other["data"])
    traces = [changed(old, new) for old, new in zip(before, other["data"], strict=False)]
    return {"data": traces, "layout": changed(base["layout"], other["layout"])}


def changed(old: dict, new: dict) -> dict[str, Any]:
    return {key: new.get(key) for key in sorted({*old, *new}) if old.get(key) != new.get(key)}
