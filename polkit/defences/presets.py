"""Combinations of defences that a verifier can take as they are: lists of checks over what one replay has seen."""

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import pandas as pd

from polkit.defences import checks
from polkit.defences.commitment import committed_data
from polkit.defences.evidence import NOTHING, RECORDED, REDRAWN, STRETCHED, Check, Dispute, Evidence, gather
from polkit.defences.origin import accuracy_trend, derived_start, ends_at, perturbed_points
from polkit.defences.stages import within_stages
from polkit.defences.standards import Standards
from polkit.proof import Proof, ProofError
from polkit.training import Cost, test_points, training_points
from polkit.verifier import STATE, Calibration, Reason, Verdict

LARGEST, RANDOM = 20, 60  # intervals: of the largest updates of all, and random ones
FAST, MORE = 0.2, 160  # of the speed limit, from where on an interval is watched; random intervals beside those
FORGIVEN = 0.2  # of the random intervals may be above the tight δ; of honest ones at most 0.1 were
STRAIGHTEST = 0.5  # honest proofs of `digits` are 0.14 straight, 140 steps of a training 0.52, drawn paths 0.95
TOP_1 = (REDRAWN, Evidence.largest_of_each_epoch)  # what Algorithm 2 replays at Q = 1


@dataclass(frozen=True)
class Sample:
    """Which intervals a preset replays: some that the proof itself points at, and random ones."""

    certain: Callable[[Evidence], list[int]]
    drawn: int

    def __call__(self, seen: Evidence) -> list[int]:
        return sorted({*self.certain(seen), *seen.random(self.drawn)})


def watched(seen: Evidence) -> list[int]:
    """The intervals that are fast, and the one before each, which has claimed the momentum that it begins with."""
    # An absolute speed: among the 20 largest updates, an adversary could hide one behind others that are larger still.
    found = checks.speeds(seen.inspection.magnitudes, seen.calibration.task)
    fast = found.index[~(found <= FAST * seen.standards.speed)]
    return sorted({*fast, *(start - seen.proof.checkpoint_interval for start in fast if start)})


def within(limits: str, *parts: str) -> Callable[[Evidence, pd.DataFrame], list[Reason]]:
    """The check that errors in these parts stay within limits; limits: where the evidence has them."""
    return lambda seen, rows: checks.within_limits(rows, attrgetter(limits)(seen), parts)


recommended_intervals = Sample(lambda seen: seen.largest(LARGEST), RANDOM)
thorough_intervals = Sample(watched, MORE)


def _whole_training(seen: Evidence, _) -> list[Reason]:
    steps, asked = seen.proof.steps, seen.calibration.task.steps
    return [] if steps == asked else [Reason("steps", f"the proof has {steps} steps, the task asks for {asked}")]


def _within_stages(seen: Evidence, rows: pd.DataFrame) -> list[Reason]:
    own = seen.standards
    return within_stages(rows, seen.proof.steps, seen.calibration, own.stage_edges, own.stage_scales)


def _accuracy_trend(seen: Evidence, _) -> list[Reason]:
    """A tenth of its steps makes a training of `digits` right on 0.96, a straight path on 0.28 to 0.39."""
    tests = test_points(seen.calibration.task)
    return accuracy_trend(seen.proof, seen.inspection.task, tests, seen.calibration.conditions, share=0.1, least=0.85)


def _data_committed(seen: Evidence, rows: pd.DataFrame) -> list[Reason]:
    return committed_data(seen.proof, seen.tree, seen.standards.commitment, sorted(set(rows["start"])))


algorithm_2 = Check("Algorithm 2, corrected", within("calibration.thresholds", "weights"), *TOP_1)
stages = Check("stage thresholds", _within_stages, *TOP_1)
whole_training = Check("T decided by the verifier", _whole_training)
stretched_intervals = Check(
    "k decided by the verifier", within("standards.stretched", "weights"), STRETCHED, lambda seen: seen.random(LARGEST)
)
rest_of_the_state = Check("rest of the state", within("standards.redrawn", "buffers", "momentum"), *TOP_1)
disputed_model = Check("ends at the model", lambda seen, _: ends_at(seen.proof, seen.dispute.model))
revealed_seed = Check(
    "start from the seed",
    lambda seen, _: derived_start(
        seen.proof, seen.inspection.task, seen.standards.commitment, seen.dispute.revealed_seed
    ),
)
speed = Check(
    "nothing too fast",
    lambda seen, _: checks.too_fast(seen.inspection.magnitudes, seen.calibration.task, seen.standards.speed),
)
data_committed = Check("data committed", _data_committed, *TOP_1)
path_not_straight = Check("path not straight", lambda seen, _: checks.straight_path(seen.proof, STRAIGHTEST))
trend = Check("accuracy trend", _accuracy_trend, samples=lambda seen: len(test_points(seen.calibration.task)))
nothing_perturbed = Check(
    "nothing perturbed", lambda seen, _: perturbed_points(seen.proof, training_points(seen.calibration.task))
)
state_chained = Check("recorded, state chained", within("standards.loose", *STATE), RECORDED, recommended_intervals)
mostly_tight = Check(
    "recorded, tight",
    lambda seen, rows: checks.mostly_within(rows, seen.standards.tight, FORGIVEN),
    RECORDED,
    lambda seen: seen.random(RANDOM),
)
adaptive = Check("recorded, adaptive", lambda _, rows: checks.adaptive_threshold(rows), RECORDED, recommended_intervals)
relative = Check(
    "recorded, relative",
    lambda seen, rows: checks.relative_error(rows, seen.standards.relative),
    RECORDED,
    recommended_intervals,
)

# Algorithm 2 at Q = 1 with thresholds by stage of training (Section V).
PAPER = (stages,)
# All that is cheap, and a replay of 80 intervals with the recorded augmentation and the whole state chained.
DATA = data_committed.over(RECORDED, recommended_intervals)
RECOMMENDED_ANY_LENGTH = (disputed_model, revealed_seed, speed, DATA, state_chained, mostly_tight)
RECOMMENDED = (whole_training, *RECOMMENDED_ANY_LENGTH)
# The same questions, about so many intervals that neither a few large hops nor many small ones go unseen.
THOROUGH = (
    *(whole_training, disputed_model, revealed_seed, speed),
    *(each.over(RECORDED, thorough_intervals) for each in (DATA, state_chained)),
    mostly_tight.over(RECORDED, lambda seen: seen.random(MORE)),
)
CHEAP = (path_not_straight, trend, nothing_perturbed)
# What an honest proof passes, and so not the adaptive threshold on redrawn augmentation.
EVERYTHING = (*PAPER, *RECOMMENDED, *CHEAP, algorithm_2, rest_of_the_state, stretched_intervals, adaptive, relative)
SAMPLES = {"recommended": recommended_intervals, "thorough": thorough_intervals}
PRESETS = {"paper": PAPER, "recommended": RECOMMENDED, "thorough": THOROUGH, "all": EVERYTHING}


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
