"""polkit: proof-of-learning and how to spoof it, as plainly as the algorithms read in the paper."""

import importlib
from types import ModuleType

from polkit.adversary import (
    AttackFailed,
    attack_1,
    attack_2,
    attack_3,
    blindfold_top_q,
    borrowed_momentum,
    concatenation,
    corollary_bound,
    corollary_gap,
    corollary_table,
    distil,
    infinitesimal_update,
    interpolation_only,
    measured_derivatives,
    non_finite,
    on_the_path,
    original_batch,
    retrain,
    sorted_initialisation,
)  # fmt: skip
from polkit.calibration import Calibration, calibrate, load_calibration, prepare
from polkit.cost import Cost
from polkit.data import Points, augment, signature, test_points, training_points
from polkit.distance import DISTANCES, distances
from polkit.initialisation import test_initialisation
from polkit.proof import Proof, open_proof
from polkit.prover import Diverged, prove, train
from polkit.reading import ProofError
from polkit.report import Claim, Report, claims, outcomes
from polkit.task import Task, task
from polkit.training import Checkpoint, Conditions, accuracy, initial_checkpoint, unit_costs, update
from polkit.verifier import Reason, Verdict, verify
from polkit.weights import read_weights

__all__ = [
    "DISTANCES", "AttackFailed", "Calibration", "Checkpoint", "Claim", "Conditions", "Cost", "Diverged", "Points",
    "Proof", "ProofError", "Reason", "Report", "Task", "Verdict", "accuracy", "attack_1", "attack_2", "attack_3",
    "augment", "blindfold_top_q", "borrowed_momentum", "calibrate", "claims", "concatenation", "corollary_bound",
    "corollary_gap", "corollary_table", "course", "distances", "distil", "infinitesimal_update", "initial_checkpoint",
    "interpolation_only", "load_calibration", "measured_derivatives", "non_finite", "on_the_path", "open_proof",
    "original_batch", "outcomes", "prepare", "prove", "read_weights", "retrain", "signature", "sorted_initialisation",
    "task", "test_initialisation", "test_points", "train", "training_points", "unit_costs", "update", "verify",
]  # fmt: skip


def __getattr__(name: str) -> ModuleType:
    """`polkit.course`, imported when a reader first asks: its judges reach into every room, and take 0.05 s."""
    if name == "course":
        return importlib.import_module("polkit.course")
    raise AttributeError(f"module 'polkit' has no attribute {name!r}")
