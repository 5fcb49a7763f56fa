"""Figures in `jupyter nbconvert --to html`, which knows neither plotly's outputs nor a panel's."""

import html

import plotly.graph_objects as go
from nbconvert.preprocessors import Preprocessor
from nbformat import NotebookNode

from polkit.book.chapters import PLOTLY_TYPE, STILL_TYPE, WIDGET_TYPE, plot_in, shown_data

FIGURE = '<div role="img" aria-label="{says}">{plot}</div>'


class WithFigures(Preprocessor):
    """Gives each figure, and the first one of each panel, an HTML form that needs no network, with its sentence.

    `jupyter_config.json` names it to nbconvert. plotly's script comes with the first figure, once.
    """

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        first = True
        for data in shown_data(nb):
            if STILL_TYPE in data:
                data.pop(WIDGET_TYPE, None)
            if plot := plot_in(data):
                drawn = go.Figure(plot).to_html(full_html=False, include_plotlyjs=first)
                says = data[STILL_TYPE]["says"] if STILL_TYPE in data else data.get("text/plain", "a figure")
                data["text/html"] = FIGURE.format(says=html.escape(says), plot=drawn)
                data.pop(PLOTLY_TYPE, None)
                first = False
                if STILL_TYPE in data:
                    data["text/html"] += f"<p>{html.escape(says)}</p>"
        return nb, resources
