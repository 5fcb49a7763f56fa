"""What a page without a kernel shows of a panel, kept in the notebook beside the widget."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from polkit.book.panels.parts import Panel

STILL_TYPE = "application/vnd.polkit.still+json"


def first_frame(panel: "Panel") -> dict[str, Any]:
    """The figure that a panel shows before anything is moved, its sentence, and the question it is predicted by."""
    figure = panel.drawn()
    asked = panel.prediction.question if panel.prediction else ""
    return {"panel": panel.name, "says": figure.summary, "asked": asked, "figure": plain(figure.plot.to_plotly_json())}


def plain(value: Any) -> Any:
    """A figure's parts as JSON has them, numbers with five digits; what is not finite, plotly leaves out as null."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(each) for each in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value
