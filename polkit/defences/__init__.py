"""Countermeasures: the paper's stage-dependent thresholds (Section V), checks that came after it, and presets."""

from polkit.defences.case import RECORDED, REDRAWN, STRETCHED, Case, Dispute, open_case
from polkit.defences.checks import (
    Finding,
    adaptive_threshold,
    detection_probability,
    limits_of,
    mostly_within,
    random_starts,
    relative_error,
    relative_limit,
    speeds,
    straight_path,
    straightness,
    too_fast,
    within_limits,
)
from polkit.defences.commitment import Commitment, CommittedData, committed_data, seed_of, uncommitted
from polkit.defences.memorisation import memorisation, memorised
from polkit.defences.origin import (
    accuracy_trend,
    derived_start,
    ends_at,
    exact_initial_values,
    perturbed_points,
    start_of_the_data,
)
from polkit.defences.presets import (
    PRESETS,
    STRAIGHTEST,
    TREND,
    Ruling,
    errors_against,
    everything,
    looked_at,
    of_any_length,
    paper,
    recommended,
    rule,
    whole_training,
)
from polkit.defences.stages import (
    cost_of_stages,
    rejected_at,
    stage_edges,
    stage_scales,
    stage_threshold,
    within_stages,
)
from polkit.defences.standards import Standards, load_standards, set_standards
from polkit.verifier import Evidence, gather, spread_starts
