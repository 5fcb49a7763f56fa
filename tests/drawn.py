"""What the tests of figures and panels share: made-up verdicts, and how to read what a panel shows."""

import html
import math
import re
import time

import numpy as np
import pandas as pd

import polkit as pk
from polkit.training import DISTANCES, PARTS
from polkit.verifier.verdict import INTERVAL_COLUMNS, beside_delta, error_reasons


def made_verdict(calibration, errors, *, per_epoch=4, others=(), interval=1):
    """A verdict over intervals with these errors: start -> multiple of δ, largest in l2 of the weights."""
    rows = [
        {
            "start": start,
            "end": start + interval,
            "epoch": number // per_epoch,
            "magnitude": float((number * 7) % 11),
            "part": part,
            "distance": name,
            "error": calibration.thresholds[part][name]
            * multiple
            * (1.0 if (part, name) == ("weights", "l2") else 0.5 if part == "weights" else 0.25),
        }
        for number, (start, multiple) in enumerate(errors.items())
        for part in PARTS
        for name in DISTANCES
    ]
    intervals = beside_delta(pd.DataFrame(rows), calibration) if rows else pd.DataFrame(columns=INTERVAL_COLUMNS)
    reasons = (*others, *error_reasons(intervals)) if rows else tuple(others)
    return pk.Verdict(not reasons, True, reasons, intervals, pd.DataFrame(), pk.Cost(1.0, 1))


def words(widget):
    """The text of an HTML widget."""
    return html.unescape(re.sub("<[^>]*>", "", widget.value))


def plain(value):
    """Any value of a plot as lists, dicts, numbers and text, so that two can be compared; NaN equals NaN."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items() if key != "uid"}
    if isinstance(value, np.ndarray | pd.Series | list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float | np.floating) and math.isnan(value):
        return "NaN"
    return value.item() if isinstance(value, np.generic) else value


def traces(plot):
    return [plain(trace._props) for trace in plot.data]


def marks(plot):
    return [[plain(one._props) for one in each] for each in (plot.layout.shapes, plot.layout.annotations)]


def check(panel, figure, prefix="", suffix=""):
    """The panel shows this figure, and says its words."""
    assert traces(panel.plot) == traces(figure.plot)
    assert marks(panel.plot) == marks(figure.plot)
    assert words(panel.says) == panel.named.said == prefix + figure.summary + suffix
    assert words(panel.error) == ""


def until(done, seconds=20):
    limit = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < limit, "it takes too long"
        time.sleep(0.005)


def busy(panel):
    return "polkit-busy" in panel._dom_classes


def run(panel):
    panel.run_button.click()
    until(lambda: not busy(panel))


def keep(prediction, value):
    prediction.slider.value = value
    prediction.keep_button.click()
    until(lambda: f"kept: {value:g}" in prediction.kept.value)
