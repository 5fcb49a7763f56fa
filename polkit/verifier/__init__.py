"""The verifier: calibration of δ, inspection, replay, verdict (Algorithm 2)."""

from polkit.verifier.calibration import CALIBRATION_BYTES, Calibration, calibrate, load_calibration, prepare
from polkit.verifier.inspection import (
    OPTIMISER,
    Reason,
    check_checkpoints,
    check_claims,
    check_data,
    check_files,
    check_optimiser,
    replayed_task,
    test_initialisation,
)
from polkit.verifier.replay import (
    STATE,
    Evidence,
    Recorded,
    gather,
    interval_errors,
    reached_after,
    recorded_data,
    select_intervals,
    spread_starts,
)
from polkit.verifier.verdict import Verdict, verify, worst_ratios
