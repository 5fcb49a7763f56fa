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
    distil,
    infinitesimal_update,
    interpolation_only,
    non_finite,
    on_the_path,
    original_batch,
    retrain,
    sorted_initialisation,
)
from polkit.book.report import Claim, Report, claims, outcomes
from polkit.experiments.corollary import corollary_bound, corollary_gap, corollary_table, measured_derivatives
from polkit.proof import Proof, ProofError, open_proof, read_weights
from polkit.prover import Diverged, prove, train
from polkit.training import (
    DISTANCES,
    Checkpoint,
    Conditions,
    Cost,
    Points,
    Task,
    accuracy,
    augment,
    distances,
    initial_checkpoint,
    signature,
    test_points,
    training_points,
    unit_costs,
)
from polkit.training.task import task
from polkit.verifier import (
    Calibration,
    Reason,
    Verdict,
    calibrate,
    load_calibration,
    prepare,
    test_initialisation,
    verify,
)


def __getattr__(name: str) -> ModuleType:
    """`polkit.book.course`, imported when a reader first asks: its judges reach into every room, and take 0.05 s."""
    if name == "course":
        return importlib.import_module("polkit.book.course")
    raise AttributeError(f"module 'polkit' has no attribute {name!r}")
