"""Spoofs against defences: each defence by itself on top of the paper's verifier, each cell from a replay."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

from polkit.adversary.retraining import RETRAINING
from polkit.calibration import Calibration
from polkit.data import derive_seed
from polkit.defences.case import RECORDED, REDRAWN, STRETCHED, Case, Dispute, open_case
from polkit.defences.checks import (
    Finding,
    adaptive_threshold,
    relative_error,
    straight_path,
    too_fast,
    within_limits,
)  # fmt: skip
from polkit.defences.choice import random_starts
from polkit.defences.evidence import STATE, Evidence
from polkit.defences.memorisation import losses_taken, memorised
from polkit.defences.origin import accuracy_trend, derived_start, ends_at, exact_initial_values, perturbed_points
from polkit.defences.presets import (
    STRAIGHTEST,
    TREND,
    errors_against,
    everything,
    of_any_length,
    paper,
    recommended,
    whole_training,
)  # fmt: skip
from polkit.defences.stages import within_stages
from polkit.defences.standards import Standards
from polkit.inspection import OPTIMISER
from polkit.progress import Progress, reported
from polkit.proof import Proof

HONEST, PUBLISHED, RECOMMENDED = "honest proof", "as published", "recommended"
BY_LOT = 20
Check = Callable[[Case], list]


@dataclass(frozen=True)
class Matrix:
    """accepted: a row per folder, the honest proof first, a column per verifier, True or False · errors: folder -> how
    its errors stand to the limits of `recommended`, for those that are not refused without a replay."""

    accepted: pd.DataFrame
    errors: dict[str, dict[str, float]]


def defence_matrix(proof: Proof, spoofs: Mapping[str, Proof], calibration: Calibration, standards: Standards, *,
                   seed: int = 0, adversary_seed: int = 1, workers: int = 1, remember: bool = False,
                   progress: Progress = False) -> Matrix:  # fmt: skip
    """Which folder is accepted under which defence.

    The first column is the paper's verifier at Q = 1: it compares the weights alone and takes the prover's optimiser,
    as the public code does. Each other column adds one defence to it; the last ones are the presets, with the
    verifier's optimiser. standards: of the verifier, from `set_standards`, which replays 94 intervals of the honest
    proof; that is then judged like any other folder · seed, adversary_seed: of the proof and of the spoofs.
    """
    folders = {HONEST: (proof, seed)}
    folders |= {name: (spoof, seed if name == RETRAINING else derive_seed(adversary_seed, "adversary"))
                for name, spoof in spoofs.items()}  # fmt: skip
    model, lots, accepted, errors = proof.final_weights(), derive_seed(seed, "lots"), {}, {}
    for name, (folder, revealed) in reported(folders.items(), total=len(folders), title="judging", progress=progress):
        case = open_case(folder, calibration, standards, Dispute(model, revealed, lots), prover_decides=OPTIMISER,
                         workers=workers, remember=remember)  # fmt: skip
        # What is refused without a replay, no defence looks at.
        accepted[name] = {each: not case.reasons and not check(case) for each, check in VERIFIERS.items()}
        errors |= {} if case.reasons else {name: errors_against(case)}
    return Matrix(pd.DataFrame(accepted).T.astype(bool), errors)


def as_published(case: Case) -> list:
    return within_limits(_redrawn(case), case.calibration.thresholds, ("weights",))


def _redrawn(case: Case) -> Evidence:
    return case.replayed(REDRAWN, case.largest_of_each_epoch())


def _optimiser(case: Case) -> list[str]:
    """Learning rate and its schedule, momentum, weight decay."""
    return [] if case.task == case.calibration.task else ["the optimiser is not the verifier's"]


def _buffers(case: Case) -> list:
    return within_limits(_redrawn(case), case.calibration.thresholds, ("buffers",))


def _momentum(case: Case) -> list:
    return within_limits(_redrawn(case), case.standards.redrawn, ("momentum",))


def _stages(case: Case) -> list:
    standards = case.standards
    return within_stages(_redrawn(case), case.calibration, standards.stage_edges, standards.stage_scales)


def _stretched(case: Case) -> list:
    return within_limits(case.replayed(STRETCHED, case.by_lot(BY_LOT)), case.standards.stretched, ("weights",))


def _trend(case: Case) -> list:
    return accuracy_trend(case.folder, case.tests(), case.calibration.conditions, **TREND)


def _memorised(case: Case) -> list:
    case.bill_forwards(losses_taken(case.folder))
    if case.folder.augmentation_seeds() is None:
        return [Finding("memorised", "augmentation.npy is missing: nobody knows what the model was shown")]
    return memorised(case.folder, case.task, case.standards.conditions)


def _of(case: Case, starts: list[int]) -> list:
    """The paper's check of these intervals."""
    return within_limits(case.replayed(REDRAWN, starts), case.calibration.thresholds, ("weights",))


def _half(case: Case) -> list:
    return _of(case, random_starts(case.folder, -(-len(case.starts) // 2), case.dispute.lots))


ON_THE_RECORD: dict[str, Callable[[Evidence, Standards], list]] = {  # of a replay with the recorded augmentation
    "augmentation recorded": lambda seen, standards: within_limits(seen, standards.loose, ("weights",)),
    "recorded, relative": lambda seen, standards: relative_error(seen, standards.relative),
    "recorded, adaptive": lambda seen, _: adaptive_threshold(seen),
    "recorded, state chained": lambda seen, standards: within_limits(seen, standards.loose, STATE),
}


def _where_it_is_largest(check: Callable[[Evidence, Standards], list]) -> Check:
    return lambda case: check(case.replayed(RECORDED, case.largest_of_each_epoch()), case.standards)


ON_TOP: dict[str, Check] = {  # of the paper's check, in the order in which the book speaks of them
    "η decided by the verifier": _optimiser,
    "T decided by the verifier": lambda case: whole_training(case.folder, case.calibration.task),
    "k decided by the verifier": _stretched,
    "buffers compared": _buffers,
    "momentum chained": _momentum,
    "stage thresholds": _stages,
    "adaptive threshold": lambda case: adaptive_threshold(_redrawn(case)),
    "path not straight": lambda case: straight_path(case.folder, STRAIGHTEST),
    "nothing too fast": lambda case: too_fast(case.magnitudes, case.calibration.task, case.standards.speed),
    "accuracy trend": _trend,
    "memorised": _memorised,
    "exact initial values": lambda case: exact_initial_values(case.folder),
    "start from the seed": lambda case: derived_start(case.folder, case.dispute.revealed_seed),
    "ends at the model": lambda case: ends_at(case.folder, case.dispute.model),
    "data committed": lambda case: case.uncommitted(case.largest_of_each_epoch()),
    "nothing perturbed": lambda case: perturbed_points(case.folder, case.committed),
    "every interval": lambda case: _of(case, case.starts),
    "half of them by lot": _half,
    **{name: _where_it_is_largest(check) for name, check in ON_THE_RECORD.items()},
}
ALONE: dict[str, Check] = {
    "paper": paper, "recommended, any T'": of_any_length, RECOMMENDED: recommended, "all": everything,
}  # fmt: skip
COLUMNS = [*ON_TOP, *ALONE]


def _together(first: Check, second: Check) -> Check:
    return lambda case: first(case) + second(case)


VERIFIERS: dict[str, Check] = {
    PUBLISHED: as_published,
    **{name: _together(as_published, check) for name, check in ON_TOP.items()},
    **{name: _together(_optimiser, check) for name, check in ALONE.items()},
}
