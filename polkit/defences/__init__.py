"""Countermeasures: the paper's stage-dependent thresholds (Section V), checks that came after it, and presets."""

from polkit.defences.checks import adaptive_threshold, detection_probability, random_starts, straightness, within_limits
from polkit.defences.commitment import Commitment, CommittedData, committed_data, seed_of, uncommitted
from polkit.defences.evidence import RECORDED, REDRAWN, STRETCHED, Check, Dispute, Evidence, gather
from polkit.defences.memorisation import memorisation, memorised
from polkit.defences.origin import accuracy, derived_start, ends_at, perturbed_points, points_beside, start_of_the_data
from polkit.defences.presets import PRESETS, judge
from polkit.defences.stages import cost_of_stages, rejected_at, stage_edges, stage_scales, stage_threshold
from polkit.defences.standards import Standards, load_standards, set_standards
