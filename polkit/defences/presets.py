"""Combinations of defences that a verifier can take as they are: lists of checks over what one replay has seen."""

from pathlib import Path

import pandas as pd

from polkit.defences import checks
from polkit.defences.commitment import committed_data
from polkit.defences.evidence import NOTHING, RECORDED, REDRAWN, STRETCHED, Dispute, Evidence, check, gather
from polkit.defences.origin import accuracy_trend, derived_start, ends_at, exact_initial_values, perturbed_points
from polkit.defences.stages import within_stages
from polkit.defences.standards import Standards
from polkit.proof import Proof, ProofError
from polkit.training import Cost, test_points, training_points
from polkit.verifier import STATE, Calibration, Reason, Verdict

LARGEST, RANDOM = 20, 60  # intervals: of the largest updates of all, and random ones
FORGIVEN = 0.2  # of the random intervals may be above the tight δ; of honest ones at most 0.1 were
STRAIGHTEST = 0.5  # honest proofs of `digits` are 0.14 straight, 140 steps of a training 0.52, drawn paths 0.95
# A tenth of its steps makes a training of `digits` right on 0.96 of the test images, a straight path on 0.28 to 0.39.
TREND = {"share": 0.1, "least": 0.85}
TOP_1 = (REDRAWN, Evidence.largest_of_each_epoch)  # what Algorithm 2 replays at Q = 1
Found = list[Reason]


def recommended_intervals(seen: Evidence) -> list[int]:
    return sorted({*seen.largest(LARGEST), *seen.random(RANDOM)})


@check("as published", *TOP_1)
def as_published(seen: Evidence, rows: pd.DataFrame) -> Found:
    return checks.within_limits(rows, seen.calibration.thresholds, ("weights",))


@check("stage thresholds", *TOP_1)
def stages(seen: Evidence, rows: pd.DataFrame) -> Found:
    own = seen.standards
    return within_stages(rows, seen.proof.steps, seen.calibration, own.stage_edges, own.stage_scales)


@check("T decided by the verifier")
def whole_training(seen: Evidence, _) -> Found:
    steps, asked = seen.proof.steps, seen.calibration.task.steps
    return [] if steps == asked else [Reason("steps", f"the proof has {steps} steps, the task asks for {asked}")]


@check("k decided by the verifier", STRETCHED, lambda seen: seen.random(LARGEST))
def stretched_intervals(seen: Evidence, rows: pd.DataFrame) -> Found:
    return checks.within_limits(rows, seen.standards.stretched, ("weights",))


@check("rest of the state", *TOP_1)
def rest_of_the_state(seen: Evidence, rows: pd.DataFrame) -> Found:
    return checks.within_limits(rows, seen.standards.redrawn, ("buffers", "momentum"))


@check("ends at the model")
def disputed_model(seen: Evidence, _) -> Found:
    return ends_at(seen.proof, seen.dispute.model)


@check("start from the seed")
def revealed_seed(seen: Evidence, _) -> Found:
    return derived_start(seen.proof, seen.dispute.revealed_seed)


@check("nothing too fast")
def speed(seen: Evidence, _) -> Found:
    return checks.too_fast(seen.inspection.magnitudes, seen.calibration.task, seen.standards.speed)


@check("data committed", *TOP_1)
def data_committed(seen: Evidence, rows: pd.DataFrame) -> Found:
    return committed_data(seen.proof, seen.tree, seen.standards.commitment, sorted(set(rows["start"])))


@check("exact initial values")
def initial_values(seen: Evidence, _) -> Found:
    return exact_initial_values(seen.proof)


@check("path not straight")
def path_not_straight(seen: Evidence, _) -> Found:
    return checks.straight_path(seen.proof, STRAIGHTEST)


@check("accuracy trend", samples=lambda seen: len(test_points(seen.calibration.task)))
def trend(seen: Evidence, _) -> Found:
    return accuracy_trend(seen.proof, test_points(seen.calibration.task), seen.calibration.conditions, **TREND)


@check("nothing perturbed")
def nothing_perturbed(seen: Evidence, _) -> Found:
    return perturbed_points(seen.proof, training_points(seen.calibration.task))


@check("recorded, state chained", RECORDED, recommended_intervals)
def state_chained(seen: Evidence, rows: pd.DataFrame) -> Found:
    return checks.within_limits(rows, seen.standards.loose, STATE)


@check("recorded, tight", RECORDED, lambda seen: seen.random(RANDOM))
def mostly_tight(seen: Evidence, rows: pd.DataFrame) -> Found:
    return checks.mostly_within(rows, seen.standards.tight, FORGIVEN)


@check("recorded, adaptive", RECORDED, recommended_intervals)
def adaptive(_, rows: pd.DataFrame) -> Found:
    return checks.adaptive_threshold(rows)


@check("recorded, relative", RECORDED, recommended_intervals)
def relative(seen: Evidence, rows: pd.DataFrame) -> Found:
    return checks.relative_error(rows, seen.standards.relative)


# Algorithm 2 at Q = 1 with thresholds by stage of training (Section V).
PAPER = (stages,)
# All that is cheap, and a replay of 80 intervals with the recorded augmentation and the whole state chained.
DATA = data_committed.over(RECORDED, recommended_intervals)
RECOMMENDED_ANY_LENGTH = (disputed_model, revealed_seed, speed, DATA, state_chained, mostly_tight)
RECOMMENDED = (whole_training, *RECOMMENDED_ANY_LENGTH)
# Each check that an honest proof passes, and so not the adaptive threshold on redrawn augmentation.
CHEAP = (initial_values, path_not_straight, trend, nothing_perturbed)
EVERYTHING = (*PAPER, *RECOMMENDED, *CHEAP, as_published, rest_of_the_state, stretched_intervals, adaptive, relative)
PRESETS = {"paper": PAPER, "recommended": RECOMMENDED, "all": EVERYTHING}


def judge(
    preset: str,
    proof: Proof | str | Path,
    calibration: Calibration,
    standards: Standards,
    dispute: Dispute,
    workers: int = 1,
) -> Verdict:
    """Judges by one of `PRESETS`, with the task's optimiser. Raises as `verify`, and ValueError for another preset."""
    if preset not in PRESETS:
        raise ValueError(f"there is no preset {preset!r}; the presets are {', '.join(PRESETS)}")
    asked = PRESETS[preset]
    try:
        return gather(proof, asked, calibration, standards, dispute, workers=workers).verdict(asked, preset)
    except ProofError as error:  # of a file that changed after it was checked
        reasons = (Reason("malformed", str(error)),)
        return Verdict(False, True, reasons, NOTHING, pd.DataFrame(), Cost(), preset=preset)
