"""Panels: sliders for δ, k, T' and Q over what a chapter has computed. They call the figures, and need Jupyter."""

from polkit.panels.debate import debate_panel
from polkit.panels.parts import Panel, Prediction
from polkit.panels.primer import corollary_panel, growth_panel, size_panel, surface_panel
from polkit.panels.published import published_window_panel
from polkit.panels.verdicts import Judged, attack_panel, explorer_panel, stages_panel, verdict_panel
from polkit.panels.windows import map_panel, window_panel

__all__ = [
    "Judged", "Panel", "Prediction", "attack_panel", "corollary_panel", "debate_panel", "explorer_panel",
    "growth_panel", "map_panel", "published_window_panel", "size_panel", "stages_panel", "surface_panel",
    "verdict_panel", "window_panel",
]  # fmt: skip
