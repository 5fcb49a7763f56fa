"""polkit: proof-of-learning and how to spoof it, as plainly as the algorithms read in the paper.

Here stand the names that the notebooks use; everything else is imported from its room.
"""

import os
import signal

from polkit.terminal import IS_COMMAND as _IS_COMMAND

# Ctrl-C while torch is imported is one line, too; polkit.__main__ takes this back. A program of somebody else's that
# imports polkit keeps its own way.
if _IS_COMMAND:
    signal.signal(signal.SIGINT, lambda *_: (os.write(2, b"polkit: interrupted\n"), os._exit(130)))

# Read as torch is imported. By default a thread that waits for another spins, and keeps the core from other trainings.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from polkit.adversary import (
    attack_1,
    attack_2,
    attack_3,
    interpolation_only,
    on_the_path,
    original_batch,
    sorted_initialisation,
)
from polkit.book.report import Claim, claims, outcomes
from polkit.defences import accuracy
from polkit.experiments.corollary import corollary_bound, corollary_table, measured_derivatives
from polkit.experiments.evasion import blindfold_top_q, infinitesimal_update
from polkit.experiments.momentum import borrowed_momentum
from polkit.experiments.prepare import prepare
from polkit.experiments.retraining import distil, retrain
from polkit.proof import open_proof
from polkit.prover import prove
from polkit.training import (
    DISTANCES,
    Conditions,
    Cost,
    Points,
    distances,
    initial_checkpoint,
    signature,
    test_points,
    training_points,
    unit_costs,
)
from polkit.training.task import task
from polkit.verifier import calibrate, regime, test_initialisation, verify
