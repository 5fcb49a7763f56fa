"""A chapter that a reader ran goes to HTML with its figures, offline, each with its sentence."""

import json
from pathlib import Path

import nbformat
import plotly.graph_objects as go
import pytest
from bs4 import BeautifulSoup
from nbconvert import HTMLExporter
from traitlets.config import Config

import polkit.book
from polkit.book.chapters import PLOTLY_TYPE
from polkit.book.figures.drawing import Figure
from polkit.book.panels.parts import Panel
from polkit.book.panels.sliders import delta_slider

SETTINGS = Path(polkit.book.__file__).with_name("jupyter_config.json")


@pytest.fixture
def exported():
    """The page that nbconvert makes of two figures, a panel and an output of somebody else's."""
    figure = Figure(go.Figure(go.Scatter(x=[1, 2], y=[3, 4])), 'it "rises" & <ends> at 4')
    panel = Panel("any", {"scale": delta_slider()}, lambda _, scale: figure)
    shown = [figure._repr_mimebundle_(), figure._repr_mimebundle_(), panel._repr_mimebundle_(), {"text/plain": "17"}]
    shown.insert(3, {PLOTLY_TYPE: figure.plot.to_plotly_json()})  # of a program that says nothing of its figure
    outputs = [nbformat.v4.new_output("display_data", json.loads(json.dumps(each, default=str))) for each in shown]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("shown", outputs=outputs)])
    page, _ = HTMLExporter(config=Config(json.loads(SETTINGS.read_text()))).from_notebook_node(notebook)
    return BeautifulSoup(page, "html.parser")


def test_each_figure_and_panel_stands_in_the_page_with_its_sentence(exported):
    pictures = exported.select("[role=img]")
    assert [each["aria-label"] for each in pictures] == [*['it "rises" & <ends> at 4'] * 3, "a figure"]
    assert all(each.select(".plotly-graph-div") for each in pictures)
    assert exported.select("pre")[-1].get_text().strip() == "17"


def test_plotly_comes_once_and_from_the_page_itself(exported):
    sources = [script.get("src", "") for script in exported.select("script")]
    assert not any("plotly" in source for source in sources)
    assert sum(len(script.get_text()) > 1_000_000 for script in exported.select("script")) == 1
    assert not exported.select("script[type='application/vnd.jupyter.widget-view+json']")
