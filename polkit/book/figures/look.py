"""The colours, shapes and the plotly template that all figures of the book share."""

import plotly.graph_objects as go
import plotly.io as pio

# Okabe and Ito's palette, told apart by readers of every colour vision; a shape or a dash goes with each use.
BLUE, ORANGE, GREEN, PURPLE, BLACK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#222222", "#9A9A9A"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, BLACK, GREY)
SHAPES = ("circle", "x", "square", "diamond", "triangle-up", "cross")
OF_ATTACK = {"Attack II": BLUE, "Attack III": ORANGE, "interpolation only": GREEN}  # in every figure that has more
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")

_AXIS = {"gridcolor": "#E8E8E8", "zeroline": False, "linecolor": GREY, "showline": True, "ticks": "outside"}
_AXIS |= {"title": {"standoff": 10}}
LOOK = "polkit"
pio.templates[LOOK] = go.layout.Template(  # small, for plotly copies it into each figure that a slider redraws
    layout={
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "title": {"x": 0, "xanchor": "left", "font": {"size": 15}},
        "font": {"size": 13, "color": BLACK},
        "legend": {"orientation": "h", "yanchor": "top", "x": 0},
        "hovermode": "closest",
    }
)
