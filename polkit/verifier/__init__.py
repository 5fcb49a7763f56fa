"""The verifier: calibration of δ, inspection, replay, verdict (Algorithm 2)."""

from polkit.verifier.calibration import Calibration, calibrate, load_calibration
from polkit.verifier.inspection import Inspection, Reason, inspect_proof, test_initialisation
from polkit.verifier.regime import OPTIMISER, PAPER, REGIMES, STRICT, Regime, regime
from polkit.verifier.replay import STATE, Recorded, recorded_data, select_intervals
from polkit.verifier.verdict import Verdict, error_reasons, verify, worst_ratios
