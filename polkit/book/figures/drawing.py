"""A figure with its summary in words, and the marks that figures are made of."""

import math
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from polkit.book.figures.look import BLACK, LOOK, PURPLE

SOME_DIGITS = [digit * 10.0**power for power in range(-9, 9) for digit in (1, 1.5, 2, 3, 4, 5, 7)]


@dataclass(frozen=True)
class Figure:
    """What is drawn, and the same in a sentence or two for readers who cannot see or run the plot."""

    plot: go.Figure
    summary: str

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {"application/vnd.plotly.v1+json": self.plot.to_plotly_json(), "text/plain": self.summary}

    def _ipython_display_(self) -> None:
        from IPython.display import Markdown, display

        display(self._repr_mimebundle_(), raw=True)
        display(Markdown(f"*In words: {self.summary}*"))


def styled(plot: go.Figure, title: str, x: str, y: str, height: int = 380) -> go.Figure:
    """The shared look; x and y carry the units. The legend stands 60 pixels below, titles of single plots above."""
    titled = any(each.yref == "paper" for each in plot.layout.annotations)
    margin, height = {"l": 80, "r": 20, "t": 90 if titled else 50, "b": 90}, height + 40 if titled else height
    above = {"text": title, "y": 1 - 15 / height, "yanchor": "top"}
    legend = {"title": {"text": None}, "y": -60 / (height - margin["t"] - margin["b"])}
    plot.update_layout(template=LOOK, title=above, height=height, margin=margin, legend=legend)
    plot.update_xaxes(title={"text": x})
    plot.update_yaxes(title={"text": y})
    return plot


def line(plot: go.Figure, name: str, x, y, colour: str, dash: str = "solid", symbol: str = "", **more) -> None:
    """Adds a line to the plot, with points of this symbol if one is named. more: what go.Scatter takes."""
    look = {"mode": "lines+markers", "marker": {"symbol": symbol, "size": 8}} if symbol else {"mode": "lines"}
    plot.add_scatter(name=name, x=x, y=y, **look | {"line": {"color": colour, "dash": dash}} | more)


def points(plot: go.Figure, name: str, x, y, colour: str, symbol: str, size: int = 8, **more) -> None:
    """Adds points to the plot. more: what go.Scatter takes."""
    marker = {"color": colour, "symbol": symbol, "size": size}
    plot.add_scatter(name=name, x=x, y=y, mode="markers", marker=marker, **more)


def star(plot: go.Figure, x: float, y: float, name: str = "your prediction", colour: str = PURPLE) -> None:
    points(plot, name, [x], drawable([y]), colour, "star", 15)


def level(plot: go.Figure, y: float, text: str, *, guess: bool = False, axis: str = "", side: str = "right") -> None:
    """A horizontal line with its name on a logarithmic axis, where plotly would misplace the name.

    guess: whether it is the reader's; axis: "2" for the second plot; side: where the name stands
    """
    across, up = f"x{axis} domain", f"y{axis}"
    stroke = {"color": PURPLE, "dash": "dash"} if guess else {"color": BLACK, "width": 2}
    plot.add_shape(type="line", x0=0, x1=1, xref=across, y0=y, y1=y, yref=up, line=stroke)
    place = {"x": float(side == "right"), "xanchor": side, "xref": across, "y": math.log10(y), "yref": up}
    plot.add_annotation(text=text, showarrow=False, yanchor="bottom", **place)


def mark(plot: go.Figure, value: float, text: str, *, guess: bool = False, log: bool = True) -> None:
    """A vertical line over all rows, with its name; log: whether the horizontal axis is logarithmic."""
    stroke = {"color": PURPLE, "dash": "dash"} if guess else {"color": BLACK, "dash": "dot", "width": 1}
    plot.add_vline(x=value, line=stroke)
    place = {"x": math.log10(value) if log else value, "xref": "x", "y": 1, "yref": "paper"}
    plot.add_annotation(text=text, showarrow=False, xanchor="right" if guess else "left", yanchor="bottom", **place)


def logarithmic(plot: go.Figure, axis: str = "y") -> go.Figure:
    """Logarithmic axes, with labels at powers of ten; where the values span less than three of them, at more digits."""
    for at in {trace[axis + "axis"] or axis for trace in plot.data}:
        here = [trace[axis] for trace in plot.data if (trace[axis + "axis"] or axis) == at]
        here.append([shape.y0 for shape in plot.layout.shapes if shape.yref == at])  # of `level`
        values = np.concatenate([np.ravel(np.asarray(drawn, float)) for drawn in here])
        values = values[values > 0]
        ratio = values.max() / values.min() if values.size else math.inf
        step = 1 if ratio >= 1000 else "D2" if ratio >= 2.5 else "D1"
        plain = step != 1 or (values.size and values.min() > 1e-4 and values.max() < 1e4)
        style = {"type": "log", "exponentformat": "power", "dtick": step, "tickformat": "~g" if plain else None}
        style |= {"tickvals": SOME_DIGITS} if 2.5 <= ratio < 5 else {}  # 2 and 5 are too few, all too many
        plot.layout[at.replace(axis, axis + "axis")].update(style)
    return plot


def drawable(values, least: float = 1e-9) -> np.ndarray:
    """Values for a logarithmic axis: 0 is drawn at the bottom instead of nowhere, infinity and NaN high up."""
    return np.nan_to_num(np.asarray(values, float), nan=1e6, posinf=1e6).clip(least)


def spoken(value: float) -> str:
    """A number as one says it: two significant digits."""
    return f"{value:.2g}" if abs(value) < 100 else f"{value:,.0f}"
