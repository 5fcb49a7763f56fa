"""Combinations of defences that a verifier can take as they are, each a plain function from a case to its findings."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from polkit.defences.case import RECORDED, REDRAWN, STRETCHED, Case, Dispute, open_case
from polkit.defences.checks import (
    Finding,
    adaptive_threshold,
    mostly_within,
    relative_error,
    straight_path,
    times_the_limit,
    too_fast,
    within_limits,
)
from polkit.defences.origin import accuracy_trend, derived_start, ends_at, exact_initial_values, perturbed_points
from polkit.defences.stages import within_stages
from polkit.defences.standards import Standards
from polkit.proof import Proof, ProofError, open_proof
from polkit.training import Cost, Task
from polkit.verifier import STATE, Calibration, Evidence, Reason

LARGEST, BY_LOT = 20, 60


FORGIVEN = 0.2  # of the intervals by lot may be above the tight δ; of honest ones at most 0.1 were
STRAIGHTEST = 0.5  # honest proofs of `digits` are 0.14 straight, 140 steps of a training 0.52, drawn paths 0.95
# A tenth of its steps makes a training of `digits` right on 0.96 of the test images, a straight path on 0.28 to 0.39.
TREND = {"share": 0.1, "least": 0.85}


def paper(case: Case) -> list[Finding]:
    """Algorithm 2 at Q = 1 with thresholds by stage of training (Section V): it compares the weights alone."""
    standards = case.standards
    seen = case.replayed(REDRAWN, case.largest_of_each_epoch())
    return within_stages(seen, case.calibration, standards.stage_edges, standards.stage_scales)


def recommended(case: Case) -> list[Finding]:
    """All that is cheap, and a replay of 80 intervals with the recorded augmentation and the whole state chained.

    Without a replay: the proof must have the T of the task, end at the disputed model, start and shuffle as its
    revealed seed says, and nowhere move faster than a training can. Replayed are the 20 largest updates of all and 60
    intervals by lot; each must be within the loose δ, and four of five of those by lot within the tight one.
    """
    return whole_training(case.folder, case.calibration.task) + of_any_length(case)


def of_any_length(case: Case) -> list[Finding]:
    """`recommended` without its demand that T' = T."""
    folder, standards, dispute = case.folder, case.standards, case.dispute
    if folder.augmentation_seeds() is None:
        return [Finding("recorded", "augmentation.npy is missing: no replay can be exact without it")]
    seen = looked_at(case)
    return [
        *ends_at(folder, dispute.model),
        *derived_start(folder, dispute.revealed_seed),
        *too_fast(case.magnitudes, case.calibration.task, standards.speed),
        *case.uncommitted(seen.starts),
        *within_limits(seen, standards.loose, STATE),
        *mostly_within(seen.at(case.by_lot(BY_LOT)), standards.tight, FORGIVEN),
    ]


def looked_at(case: Case) -> Evidence:
    """What `recommended` replays: the largest updates of all, and as many again and more by lot."""
    return case.replayed(RECORDED, sorted({*case.largest(LARGEST), *case.by_lot(BY_LOT)}))


def errors_against(case: Case) -> dict[str, float]:
    """How the errors of what `recommended` replays stand to its limits.

    loose: the largest of all, as a multiple of the loose δ · tight: the median interval by lot, of the tight δ ·
    above_tight: the share of the intervals by lot that are above it.
    """
    worst = times_the_limit(looked_at(case), case.standards.loose)
    lots = times_the_limit(looked_at(case).at(case.by_lot(BY_LOT)), case.standards.tight)
    return {"loose": float(worst.max()), "tight": float(lots.median()), "above_tight": float((~(lots <= 1)).mean())}


def everything(case: Case) -> list[Finding]:
    """Each check that an honest proof passes, and so not the adaptive threshold on redrawn augmentation."""
    found = paper(case) + recommended(case)
    if case.folder.augmentation_seeds() is None:
        return found
    folder, standards = case.folder, case.standards
    redrawn = case.replayed(REDRAWN, case.largest_of_each_epoch())
    exact = looked_at(case)
    wide = case.replayed(STRETCHED, case.by_lot(LARGEST))
    return [
        *found,
        *exact_initial_values(folder),
        *straight_path(folder, STRAIGHTEST),
        *accuracy_trend(folder, case.tests(), case.calibration.conditions, **TREND),
        *perturbed_points(folder, case.committed),
        *within_limits(redrawn, case.calibration.thresholds, ("weights",)),
        *within_limits(redrawn, standards.redrawn, ("buffers", "momentum")),
        *within_limits(wide, standards.stretched, ("weights",)),
        *adaptive_threshold(exact),
        *relative_error(exact, standards.relative),
    ]


PRESETS: Mapping[str, Callable[[Case], list[Finding]]] = {"paper": paper, "recommended": recommended, "all": everything}


def whole_training(proof: Proof, task: Task) -> list[Finding]:
    """T' = T: a proof has as many steps as the verifier's task asks for, and so costs as many updates to make."""
    if proof.steps == task.steps:
        return []
    return [Finding("steps", f"the proof has {proof.steps} steps, the task asks for {task.steps}")]


@dataclass(frozen=True)
class Ruling:
    """What a preset says of a folder. findings: all there is against it · usable: False if there was no proof ·
    replayed: updates replayed, as a share of the task's T · cost: of the replays and checks, not of reading files."""

    preset: str
    accepted: bool
    usable: bool
    findings: tuple[Finding | Reason, ...]
    replayed: float
    cost: Cost

    def to_json(self) -> dict:
        return {
            "preset": self.preset,
            "accepted": self.accepted,
            "usable": self.usable,
            "findings": list(map(asdict, self.findings)),
            "replayed": self.replayed,
            "cost": asdict(self.cost),
        }

    def __str__(self) -> str:
        word = "accepted" if self.accepted else "rejected" if self.usable else "not a usable proof"
        shown = [f"  {finding}" for finding in self.findings[:8]]
        more = [f"  and {len(self.findings) - 8} more"] if len(self.findings) > 8 else []
        return "\n".join([f"{word} ({self.preset}: {self.replayed:.0%} of the training replayed)", *shown, *more])


def rule(
    preset: str,
    proof: Proof | str | Path,
    calibration: Calibration,
    standards: Standards,
    dispute: Dispute,
    *,
    workers: int = 1,
    remember: bool = False,
) -> Ruling:
    """Judges a folder by one of `PRESETS`, with the optimiser of the calibration's task.

    Never raises on a bad proof; as `verify` otherwise. Raises ValueError for an unknown preset.
    """
    if preset not in PRESETS:
        raise ValueError(f"there is no preset {preset!r}; the presets are {', '.join(PRESETS)}")
    try:
        folder = open_proof(proof.folder if isinstance(proof, Proof) else proof)
        case = open_case(folder, calibration, standards, dispute, workers=workers, remember=remember)
    except ProofError as error:
        return Ruling(preset, False, False, (Reason("unusable", str(error)),), 0.0, Cost())
    if case.reasons:
        return Ruling(preset, False, True, tuple(case.reasons), 0.0, Cost())
    try:
        found, cost = case.bill(PRESETS[preset])
    except ProofError as error:  # of a file that changed after it was checked
        return Ruling(preset, False, True, (Reason("malformed", str(error)),), 0.0, Cost())
    return Ruling(preset, not found, True, tuple(found), cost.gradient_evaluations / calibration.task.steps, cost)
