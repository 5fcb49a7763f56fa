"""Countermeasures: the paper's stage-dependent thresholds (Section V), and checks that came after it."""

from polkit.defences.checks import (
    Finding,
    adaptive_threshold,
    limits_of,
    relative_error,
    relative_limit,
    straight_path,
    straightness,
    within_limits,
)  # fmt: skip
from polkit.defences.choice import detection_probability, random_starts
from polkit.defences.evidence import Evidence, gather, spread_starts
from polkit.defences.matrix import defence_matrix
from polkit.defences.stages import cost_of_stages, rejected_at, stage_edges, stage_scales, stage_threshold

__all__ = [
    "Evidence", "Finding", "adaptive_threshold", "cost_of_stages", "defence_matrix", "detection_probability", "gather",
    "limits_of", "random_starts", "rejected_at", "relative_error", "relative_limit", "spread_starts", "stage_edges",
    "stage_scales", "stage_threshold", "straight_path", "straightness", "within_limits",
]  # fmt: skip
