"""Data to plotly figures, each with a summary in words."""

from polkit.book.figures.attacks import (
    corollary_figure,
    cost_figure,
    images_figure,
    order_figure,
    places_figure,
    trace_figure,
)
from polkit.book.figures.closeups import batch_figure, interval_figure
from polkit.book.figures.defences import editor_figure, matrix_figure, proving_figure, stages_figure, standing_figure
from polkit.book.figures.drawing import Figure
from polkit.book.figures.paths import momentum_figure, path_figure, sorting_figure
from polkit.book.figures.primer import concept_figure, growth_figure, size_figure, surface_figure
from polkit.book.figures.results import examples_figure, scaling_figure
from polkit.book.figures.verification import draws_figure, verdict_figure
from polkit.book.figures.windows import grid_figure, judged_window_figure, map_figure, window_figure
