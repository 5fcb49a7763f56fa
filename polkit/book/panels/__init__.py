"""Panels: sliders for δ, k, T' and Q over what a chapter has computed. They call the figures, and need Jupyter."""

from polkit.book.panels.closeups import batch_panel, interval_panel
from polkit.book.panels.debate import debate_panel
from polkit.book.panels.parts import Panel, Prediction
from polkit.book.panels.paths import momentum_panel, path_panel, sorting_panel
from polkit.book.panels.primer import corollary_panel, draws_panel, growth_panel, size_panel, surface_panel
from polkit.book.panels.verdicts import Judged, attack_panel, stages_panel, verdict_panel
from polkit.book.panels.windows import map_panel, results_panel, window_panel
