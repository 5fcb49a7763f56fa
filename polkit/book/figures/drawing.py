"""A figure with its summary in words, and the look that all figures of the book share."""

import math
from dataclasses import dataclass

import plotly.graph_objects as go

# Okabe and Ito's palette, told apart by readers of every colour vision; a shape or a dash goes with each use.
BLUE, ORANGE, GREEN, PURPLE, BLACK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#222222", "#9A9A9A"


COLOURS = (BLUE, ORANGE, GREEN, PURPLE, BLACK, GREY)
SHAPES = ("circle", "x", "square", "diamond", "triangle-up", "cross")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_AXIS = {"gridcolor": "#E8E8E8", "zeroline": False, "linecolor": GREY, "showline": True, "ticks": "outside"}
# plotly's own templates take 50 ms to copy into a figure, half of what a slider may take.
LOOK = go.layout.Template(layout={"paper_bgcolor": "white", "plot_bgcolor": "white", "xaxis": _AXIS, "yaxis": _AXIS})


@dataclass(frozen=True)
class Figure:
    """plot: what is drawn · summary: the same in a sentence or two, for whoever cannot see or run the plot."""

    plot: go.Figure
    summary: str

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {"application/vnd.plotly.v1+json": self.plot.to_plotly_json(), "text/plain": self.summary}

    def _ipython_display_(self) -> None:
        from IPython.display import Markdown, display

        display(self._repr_mimebundle_(), raw=True)
        display(Markdown(f"*In words: {self.summary}*"))


def styled(plot: go.Figure, title: str, x: str, y: str, height: int = 380) -> go.Figure:
    """The shared look; axis titles carry the units."""
    plot.update_layout(
        template=LOOK,
        title={"text": title, "x": 0, "xanchor": "left", "font": {"size": 15}},
        height=height,
        margin={"l": 80, "r": 20, "t": 50, "b": 90},
        font={"size": 13, "color": BLACK},
        legend={"orientation": "h", "yanchor": "top", "y": -0.18, "x": 0},
        hovermode="closest",
    )
    plot.update_xaxes(title_text=x, title_standoff=10)
    plot.update_yaxes(title_text=y, title_standoff=10)
    return plot


def enlarged(plot: go.Figure) -> go.Figure:
    """The same figure for the back row of a hall, as wide as there is room: on a screen of 1080 lines it leaves 300."""
    margin = plot.layout.margin
    for trace in plot.select_traces({"type": "scatter"}):
        trace.update(line_width=4, marker_size=1.6 * (trace.marker.size or 6))
    plot.update_layout(
        height=780,
        autosize=True,
        font_size=19,
        title_font_size=23,
        legend_y=-0.14,
        margin={"l": 110, "r": 1.2 * margin.r, "t": max(1.2 * margin.t, 40), "b": 1.5 * margin.b},
    )
    if plot.layout.showlegend is None:
        plot.layout.showlegend = True  # where the only trace with points may be joined by others
    return plot


def logarithmic(plot: go.Figure, axis: str = "y") -> go.Figure:
    """Logarithmic axes, with labels at powers of ten, or at 1, 2 and 5 where the values span less than two of them."""
    for number, trace_axis in enumerate(sorted({trace[axis + "axis"] or axis for trace in plot.data}), 1):
        drawn = [trace[axis] for trace in plot.data if (trace[axis + "axis"] or axis) == trace_axis]
        values = [value for values in drawn if values is not None for value in values if value and value > 0]
        narrow = bool(values) and max(values) / min(values) < 100
        name = f"{axis}axis" + (str(number) if number > 1 else "")
        plot.layout[name].update(
            type="log", dtick="D2" if narrow else 1, tickformat="~g" if narrow else None, exponentformat="power"
        )
    return plot


def level(plot: go.Figure, value: float, text: str, *, guess: bool = False, row: int | None = None) -> None:
    """A horizontal line with its name, on a logarithmic axis (where plotly would misplace the name)."""
    if value <= 0:  # no place on this axis
        plot.add_annotation(x=1, y=0, xref="paper", yref="paper", text=f"{text}: {value:g}", showarrow=False)
        return
    line = {"color": PURPLE, "dash": "dash"} if guess else {"color": BLACK, "width": 2}
    where = {} if row is None else {"row": row, "col": 1}
    plot.add_hline(y=value, line=line, **where)
    axis = "" if row in (None, 1) else str(row)
    plot.add_annotation(
        x=1,
        xref=f"x{axis} domain",
        y=math.log10(value),
        yref=f"y{axis}",
        text=text,
        showarrow=False,
        xanchor="right",
        yanchor="bottom",
    )


def mark(plot: go.Figure, value: float, text: str, *, guess: bool = False, log: bool = True) -> None:
    """A vertical line over all rows, with its name; log: whether the horizontal axis is logarithmic."""
    if log and value <= 0:  # no place on this axis
        plot.add_annotation(x=0, y=1, xref="paper", yref="paper", text=f"{text}: {value:g}", showarrow=False)
        return
    line = {"color": PURPLE, "dash": "dash"} if guess else {"color": BLACK, "dash": "dot", "width": 1}
    plot.add_vline(x=value, line=line)
    plot.add_annotation(
        x=math.log10(value) if log else value,
        xref="x",
        y=1,
        yref="paper",
        text=text,
        showarrow=False,
        xanchor="right" if guess else "left",
        yanchor="bottom",
    )


def drawable(values, least: float = 1e-9, most: float = 1e6) -> list[float]:
    """Values for a logarithmic axis: 0 is drawn at the bottom instead of nowhere, infinity and NaN high up."""
    return [max(float(value), least) if math.isfinite(value) else most for value in values]


def spoken(value: float) -> str:
    """A number as one says it: two significant digits."""
    return f"{value:.2g}" if abs(value) < 100 else f"{value:,.0f}"
