"""Countermeasures: the paper's stage-dependent thresholds (Section V), checks that came after it, and presets."""

from polkit.defences.case import Case, Dispute, open_case
from polkit.defences.checks import (
    Finding,
    adaptive_threshold,
    limits_of,
    mostly_within,
    relative_error,
    relative_limit,
    speeds,
    straight_path,
    straightness,
    too_fast,
    within_limits,
)  # fmt: skip
from polkit.defences.choice import detection_probability, random_starts
from polkit.defences.commitment import Commitment, CommittedData, committed_data, seed_of, uncommitted
from polkit.defences.evidence import Evidence, gather, spread_starts
from polkit.defences.matrix import Matrix, defence_matrix
from polkit.defences.memorisation import memorisation, memorised
from polkit.defences.origin import (
    accuracy_trend,
    derived_start,
    ends_at,
    exact_initial_values,
    perturbed_points,
    start_of_the_data,
)  # fmt: skip
from polkit.defences.presets import PRESETS, Ruling, rule, whole_training
from polkit.defences.stages import (
    cost_of_stages,
    rejected_at,
    stage_edges,
    stage_scales,
    stage_threshold,
    within_stages,
)  # fmt: skip
from polkit.defences.standards import Standards, load_standards, set_standards

__all__ = [
    "PRESETS", "Case", "Commitment", "CommittedData", "Dispute", "Evidence", "Finding", "Matrix", "Ruling",
    "Standards", "accuracy_trend", "adaptive_threshold", "committed_data", "cost_of_stages", "defence_matrix",
    "derived_start", "detection_probability", "ends_at", "exact_initial_values", "gather", "limits_of",
    "load_standards", "memorisation", "memorised", "mostly_within", "open_case", "perturbed_points", "random_starts",
    "rejected_at", "relative_error", "relative_limit", "rule", "seed_of", "set_standards", "speeds", "spread_starts",
    "stage_edges", "stage_scales", "stage_threshold", "start_of_the_data", "straight_path", "straightness",
    "too_fast", "uncommitted", "whole_training", "within_limits", "within_stages",
]  # fmt: skip
