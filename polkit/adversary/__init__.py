"""The adversary: Attacks I, II and III, and what is left of them without their adversarial examples."""

from polkit.adversary.attack_1 import attack_1
from polkit.adversary.attack_2 import attack_2
from polkit.adversary.attack_3 import attack_3
from polkit.adversary.blindfold import blindfold_top_q
from polkit.adversary.corollary import corollary_bound, corollary_gap, corollary_table, measured_derivatives
from polkit.adversary.gallery import every_spoof
from polkit.adversary.hidden import crossing_length, hidden_crossing
from polkit.adversary.momentum import borrowed_momentum
from polkit.adversary.patchwork import concatenation, non_finite
from polkit.adversary.path import on_the_path, sorted_initialisation, staged_pace
from polkit.adversary.plan import original_batch
from polkit.adversary.retraining import distil, retrain
from polkit.adversary.shortcuts import infinitesimal_update, interpolation_only
from polkit.adversary.spoof import AttackFailed

__all__ = [
    "AttackFailed", "attack_1", "attack_2", "attack_3", "blindfold_top_q", "borrowed_momentum", "concatenation",
    "corollary_bound", "corollary_gap", "corollary_table", "crossing_length", "distil", "every_spoof",
    "hidden_crossing", "infinitesimal_update", "interpolation_only", "measured_derivatives", "non_finite",
    "on_the_path", "original_batch", "retrain", "sorted_initialisation", "staged_pace",
]  # fmt: skip
