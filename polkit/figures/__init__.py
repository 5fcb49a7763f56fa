"""Data to plotly figures, each with a summary in words."""

from polkit.figures.attacks import corollary_figure, cost_figure, images_figure, order_figure, trace_figure
from polkit.figures.drawing import Figure
from polkit.figures.matrix import matrix_figure, standing_figure
from polkit.figures.primer import growth_figure, size_figure, surface_figure
from polkit.figures.proving import proving_figure
from polkit.figures.scaling import scaling_figure
from polkit.figures.stages import editor_figure, stages_figure
from polkit.figures.verification import verdict_figure
from polkit.figures.windows import grid_figure, judged_window_figure, map_figure, window_figure

__all__ = [
    "Figure", "corollary_figure", "cost_figure", "editor_figure", "grid_figure", "growth_figure", "images_figure",
    "judged_window_figure", "map_figure", "matrix_figure", "order_figure", "proving_figure", "scaling_figure",
    "size_figure", "stages_figure", "standing_figure", "surface_figure", "trace_figure", "verdict_figure",
    "window_figure",
]  # fmt: skip
