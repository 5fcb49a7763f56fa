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
from polkit.defences.commitment import Commitment, CommittedData, committed_data, seed_of, uncommitted
from polkit.defences.evidence import Evidence, gather, spread_starts
from polkit.defences.matrix import defence_matrix
from polkit.defences.memorisation import memorisation, memorised
from polkit.defences.origin import accuracy_trend, derived_start, ends_at, perturbed_points, start_of_the_data
from polkit.defences.stages import cost_of_stages, rejected_at, stage_edges, stage_scales, stage_threshold

__all__ = [
    "Commitment", "CommittedData", "Evidence", "Finding", "accuracy_trend", "adaptive_threshold", "committed_data",
    "cost_of_stages", "defence_matrix", "derived_start", "detection_probability", "ends_at", "gather", "limits_of",
    "memorisation", "memorised", "perturbed_points", "random_starts", "rejected_at", "relative_error",
    "relative_limit", "seed_of", "spread_starts", "stage_edges", "stage_scales", "stage_threshold",
    "start_of_the_data", "straight_path", "straightness", "uncommitted", "within_limits",
]  # fmt: skip
