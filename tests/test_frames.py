"""The figures of a panel for pages without a kernel: each is the one that its sliders would call up in a kernel."""

import base64
import gzip
import itertools
import json
import math

import ipywidgets as w
import plotly.graph_objects as go
import pytest

from notebooks.site.frames import MOST_FRAMES, MOST_RUNS, control_of, controls_of, difference, frames
from notebooks.site.store import draw_all
from polkit.book.figures.drawing import Figure
from polkit.book.panels import Prediction, sliders
from polkit.book.panels.parts import Panel
from polkit.book.panels.still import STILL_TYPE, plain


def draw(data, *, scale, steps, kind, guess=None):
    plot = go.Figure(go.Scatter(x=[0, 1], y=[data * scale, math.nan], name=kind))
    if kind == "two":
        plot.add_scatter(x=[0], y=[steps])
    plot.update_layout(title_text=f"{kind} at {steps}", height=300)
    return Figure(plot, f"{kind}: {data:g} × {scale:.2f} at T' = {steps}")


@pytest.fixture
def panel():
    """δ and two buttons answer at once; T' must be run, and above 60 it would take too long."""
    controls = {
        "scale": sliders.delta_slider(),
        "steps": sliders.steps_slider(20, 10, 100, 10),
        "kind": sliders.chooser("kind", ["one", "two"]),
    }
    return Panel(
        "any",
        controls,
        draw,
        data=1.0,
        compute=lambda data, progress, *, steps, **_: data + steps,
        on_run=("steps",),
        cannot_run=lambda *, steps, **_: "too long" if steps > 60 else "",
        prediction=Prediction("How much?", least=0.0, most=1.0, unit="δ"),
    )


def unpacked(still):
    return json.loads(gzip.decompress(base64.b64decode(still["frames"])))


def test_every_frame_is_what_the_sliders_would_call_up_in_a_kernel(panel):
    still, controls = frames(panel), controls_of(panel)
    combinations = list(itertools.product(*(control.values for control in controls.values())))
    shown = unpacked(still)
    assert len(shown) == len(combinations)
    for frame, values in zip(shown, combinations, strict=True):
        chosen = dict(zip(controls, values, strict=True))
        data = 1.0 if chosen["steps"] == 20 else 1.0 + chosen["steps"]
        figure = draw(data, **chosen)
        wanted = plain(figure.plot.to_plotly_json())
        base = still["figure"]
        traces = [
            (base["data"][place] if place < len(base["data"]) else {}) | changes
            for place, changes in enumerate(frame["data"])
        ]
        found = [{name: value for name, value in trace.items() if value is not None} for trace in traces]
        assert found == wanted["data"]
        layout = {name: value for name, value in (base["layout"] | frame["layout"]).items() if value is not None}
        assert (layout, frame["says"]) == (wanted["layout"], figure.summary)


def test_the_first_frame_is_the_figure_that_the_panel_shows(panel):
    still = frames(panel)
    places = [control["first"] for control in still["controls"]]
    sizes = [len(control["words"]) for control in still["controls"]]
    at = 0
    for place, size in zip(places, sizes, strict=True):
        at = at * size + place
    assert unpacked(still)[at] == {"says": still["says"]} | difference(still["figure"], still["figure"])
    assert (still["says"], still["asked"]) == ("one: 1 × 1.00 at T' = 20", "How much?")


def test_only_what_can_be_run_while_a_reader_waits_is_run_and_a_value_of_each_kind_is_left(panel):
    scale, steps, kind = controls_of(panel).values()
    assert set(steps.values) <= set(range(10, 70, 10))
    assert {10, 20, 60} <= set(steps.values)
    assert len(steps.values) <= MOST_RUNS + 1
    assert (kind.values, kind.buttons) == (("one", "two"), True)
    assert scale.words[scale.first] == "1.00"
    assert (scale.values[0], scale.values[-1]) == pytest.approx((10**-1.5, 10.0))


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_however_many_sliders_there_are_the_frames_travel_in_a_page(count):
    controls = {f"s{number}": sliders.number_slider(1.0, -2, 2, "s", "s") for number in range(count)}
    shown = controls_of(Panel("any", controls, lambda _, **values: Figure(go.Figure(), f"{values}")))
    assert math.prod(len(each.values) for each in shown.values()) <= MOST_FRAMES
    assert all(len(each.values) >= 3 for each in shown.values())


@pytest.mark.parametrize(
    ("widget", "words", "values"),
    [
        (sliders.top_q_slider(2, 3), ("1", "2", "3"), (1, 2, 3)),
        (sliders.interval_slider(10, [5]), ("5", "10"), (5, 10)),
        (sliders.chooser("a", ["x", "y"], "y"), ("x", "y"), ("x", "y")),
        (w.FloatSlider(min=0, max=1, step=0.5, value=0.5, readout_format=".1f"), ("0.0", "0.5", "1.0"), (0, 0.5, 1)),
    ],
)
def test_a_control_has_the_values_and_words_of_its_widget(widget, words, values):
    control = control_of(widget)
    assert (control.words, control.values) == (words, values)
    assert control.values[control.first] == widget.value


def test_a_long_scale_of_steps_is_finer_below_and_keeps_its_ends():
    control = control_of(sliders.count_slider(20, 100, "m", "drawn")).thinned(10)
    assert {1, 20, 100} <= set(control.values)
    assert len(control.values) <= 11
    gaps = [after - before for before, after in itertools.pairwise(control.values)]
    assert max(gaps[:3]) < min(gaps[-2:])


def test_frames_travel_only_where_a_chapter_is_run_to_be_stored(panel, monkeypatch):
    assert "frames" not in panel._repr_mimebundle_()[STILL_TYPE]
    monkeypatch.setattr(Panel, "still", Panel.still)  # so that it is put back
    draw_all()
    assert "frames" in panel._repr_mimebundle_()[STILL_TYPE]
