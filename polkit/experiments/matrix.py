"""Spoofs against defences: each defence by itself on top of the paper's verifier, each cell from a replay."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from polkit.adversary import RETRAINING
from polkit.defences import (
    PRESETS,
    RECORDED,
    REDRAWN,
    STRAIGHTEST,
    STRETCHED,
    TREND,
    Case,
    Dispute,
    Finding,
    Standards,
    accuracy_trend,
    adaptive_threshold,
    derived_start,
    ends_at,
    errors_against,
    everything,
    exact_initial_values,
    looked_at,
    of_any_length,
    open_case,
    paper,
    perturbed_points,
    random_starts,
    recommended,
    relative_error,
    straight_path,
    too_fast,
    whole_training,
    within_limits,
    within_stages,
)
from polkit.defences.memorisation import losses_taken, memorised
from polkit.experiments.gallery import SPOOFS
from polkit.proof import Proof
from polkit.training import Conditions, Progress, derive_seed, reported
from polkit.verifier import OPTIMISER, STATE, Calibration, Evidence

HONEST, PUBLISHED, RECOMMENDED = "honest proof", "as published", "recommended"


BY_LOT = 20
Check = Callable[[Case], list]


@dataclass(frozen=True)
class Matrix:
    """accepted: a row per folder, the honest proof first, a column per verifier, True or False · errors: folder -> how
    its errors stand to the limits of `recommended`, for those that are not refused without a replay."""

    accepted: pd.DataFrame
    errors: dict[str, dict[str, float]]


def defence_matrix(
    proof: Proof,
    spoofs: Mapping[str, Proof],
    calibration: Calibration,
    standards: Standards,
    *,
    seed: int = 0,
    adversary_seed: int = 1,
    workers: int = 1,
    remember: bool = False,
    progress: Progress = False,
) -> Matrix:
    """Which folder is accepted under which defence.

    The first column is the paper's verifier at Q = 1: it compares the weights alone and takes the prover's optimiser,
    as the public code does. Each other column adds one defence to it; the last ones are the presets, with the
    verifier's optimiser. standards: of the verifier, from `set_standards`, which replays 94 intervals of the honest
    proof; that is then judged like any other folder · seed, adversary_seed: of the proof and of the spoofs.
    """
    folders = {HONEST: (proof, seed)}
    folders |= {
        name: (spoof, seed if name == RETRAINING else derive_seed(adversary_seed, "adversary"))
        for name, spoof in spoofs.items()
    }
    model, lots, accepted, errors = proof.final_weights(), derive_seed(seed, "lots"), {}, {}
    for name, (folder, revealed) in reported(folders.items(), total=len(folders), title="judging", progress=progress):
        case = open_case(
            folder,
            calibration,
            standards,
            Dispute(model, revealed, lots),
            prover_decides=OPTIMISER,
            workers=workers,
            remember=remember,
        )
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
    "paper": paper,
    "recommended, any T'": of_any_length,
    RECOMMENDED: recommended,
    "all": everything,
}


COLUMNS = [*ON_TOP, *ALONE]


def _together(first: Check, second: Check) -> Check:
    return lambda case: first(case) + second(case)


VERIFIERS: dict[str, Check] = {
    PUBLISHED: as_published,
    **{name: _together(as_published, check) for name, check in ON_TOP.items()},
    **{name: _together(_optimiser, check) for name, check in ALONE.items()},
}


COLUMNS = ["conditions", "verifier", "accepted", "operations", "seconds", "loose", "tight", "above_tight"]
OTHER_KERNELS = "other kernels"


def machines(standards: Standards) -> dict[str, Conditions]:
    """Name -> Conditions of a replay with recorded augmentation, each beside those that the standards were set on."""
    own = standards.conditions
    return {
        "another thread": own.replace(onednn=True, threads=own.threads + 1),
        "float64": own.replace(onednn=True, precision="float64"),
        "bf16": own.replace(onednn=True, precision="bf16"),
    }


def honest_rulings(
    proof: Proof,
    calibration: Calibration,
    standards: Standards,
    dispute: Dispute,
    own_limits: dict[str, Standards] | None = None,
    *,
    workers: int = 1,
    remember: bool = False,
) -> pd.DataFrame:
    """Every verifier's ruling on an honest proof: conditions, verifier, accepted, operations, seconds, and for
    `recommended` the errors beside its limits, as in `errors_against`.

    Under the standards' own Conditions every verifier of the matrix, presets among them; on every other of `machines`
    with the same limits the checks of a recorded replay, over the intervals that `recommended` looks at, and that
    preset. own_limits: names of further Conditions -> standards that were set under them, for that preset.
    """

    def case_of(under: Standards) -> Case:
        return open_case(proof, calibration, under, dispute, workers=workers, remember=remember)

    case = case_of(standards)
    if case.reasons:
        raise ValueError(f"{proof.folder} is refused without a replay: {case.reasons[0]}")
    rows = []

    def note(case: Case, conditions: str, verifier: str, check) -> None:
        found, cost = case.bill(check)
        errors = errors_against(case) if check is recommended else {}
        rows.append(
            {
                "conditions": conditions,
                "verifier": verifier,
                "accepted": not found,
                **errors,
                "operations": cost.floating_point_operations,
                "seconds": cost.wall_seconds,
            }
        )

    for verifier, check in (VERIFIERS | {RECOMMENDED: recommended}).items():
        note(case, OTHER_KERNELS, verifier, check)
    for name, conditions in machines(standards).items():
        other = case_of(replace(standards, conditions=conditions))
        for verifier, check in ON_THE_RECORD.items():
            note(other, name, verifier, lambda case, check=check: check(looked_at(case), case.standards))
        note(other, name, RECOMMENDED, recommended)
    for name, under in (own_limits or {}).items():
        note(case_of(under), name, RECOMMENDED, recommended)
    return pd.DataFrame(rows, columns=COLUMNS)


def matrix_counts(cells: pd.DataFrame, task: str = "digits") -> pd.DataFrame:
    """A row per folder and a column per verifier: in how many of the repeats it was accepted."""
    chosen = cells[cells["task"] == task]
    order = [name for name in (HONEST, RETRAINING, *SPOOFS) if name in set(chosen["folder"])]
    table = chosen.pivot(index="folder", columns="defence", values="accepted")
    columns = [name for name in (PUBLISHED, *COLUMNS) if name in table]
    return table.loc[order, columns].rename_axis(index=None, columns=None)


def accepted_by_all(trainings: pd.DataFrame, verifiers: Sequence[str], task: str = "digits") -> pd.Series:
    """Folder -> in how many trainings each one of these verifiers accepted it, in the matrix's order.

    trainings: `matrix_trainings`. Raises KeyError for a verifier that the matrix does not have.
    """
    chosen = trainings[trainings["task"] == task]
    if missing := sorted(set(verifiers) - set(chosen["defence"])):
        raise KeyError(f"the matrix of {task} has no verifier {missing[0]!r}")
    each = chosen[chosen["defence"].isin(verifiers)].groupby(["folder", "seed"], sort=False)["accepted"].min()
    counts = each.groupby("folder", sort=False).sum()
    return counts.loc[[name for name in (HONEST, *SPOOFS) if name in counts.index]]


def repeats_of(cells: pd.DataFrame, task: str = "digits") -> int:
    """Over how many repeats every cell of a task was counted. Raises ValueError if that is not one number."""
    found = set(cells.loc[cells["task"] == task, "repeats"])
    if len(found) != 1:
        raise ValueError(f"the matrix of {task} counts over {sorted(found)} repeats: one number was expected")
    return int(found.pop())


def always(cells: pd.DataFrame, folder: str, defence: str, task: str = "digits") -> bool:
    """Whether the folder was accepted in every repeat."""
    row = _cell(cells, folder, defence, task)
    return bool((row["accepted"] == row["repeats"]).all())


def never(cells: pd.DataFrame, folder: str, defence: str, task: str = "digits") -> bool:
    return bool((_cell(cells, folder, defence, task)["accepted"] == 0).all())


def spoof_names(cells: pd.DataFrame) -> list[str]:
    return [name for name in SPOOFS if name in set(cells["folder"])]


def _cell(cells: pd.DataFrame, folder: str, defence: str, task: str) -> pd.DataFrame:
    found = cells[(cells["task"] == task) & (cells["folder"] == folder) & (cells["defence"] == defence)]
    if found.empty:
        raise KeyError(f"the matrix of {task} has no cell {folder!r} × {defence!r}")
    return found


def costs_of_verifiers(verifiers: pd.DataFrame, task: str = "digits") -> pd.DataFrame:
    """A row per verifier: share of the training's operations and seconds, and for each kind of machine how many of the
    honest proofs it rejected, as "rejected / proofs"; empty where it was not tried."""
    chosen = verifiers[verifiers["task"] == task]
    words = chosen["rejected"].astype(str) + " / " + chosen["proofs"].astype(str)
    counts = chosen.assign(words=words).pivot(index="verifier", columns="conditions", values="words")
    costs = chosen.groupby("verifier", sort=False)[["operations", "seconds"]].first()
    order = [name for name in VERIFIERS if name in costs.index]
    return costs.join(counts[list(dict.fromkeys(chosen["conditions"]))]).loc[order].rename_axis(index=None).fillna("")


def presets_table(verifiers: pd.DataFrame, cells: pd.DataFrame, task: str = "digits") -> str:
    """Markdown: what each preset costs, how many honest proofs it rejects, and how many spoofs it ever accepts.

    cells: the matrix, whose rows are the spoofs.
    """
    costs = costs_of_verifiers(verifiers, task)
    machines = [name for name in costs.columns if name not in ("operations", "seconds")]
    head = ["preset", "operations", "seconds", *(f"honest rejected, {name}" for name in machines), "spoofs accepted"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for preset in PRESETS:
        row, mine = costs.loc[preset], cells[(cells["task"] == task) & (cells["defence"] == preset)]
        passed = [name for name in spoof_names(cells) if (mine.loc[mine["folder"] == name, "accepted"] > 0).any()]
        words = [preset, f"{row['operations']:.2f}", f"{row['seconds']:.2f}", *(row[name] or "–" for name in machines)]
        lines.append("| " + " | ".join([*words, f"{len(passed)} of {len(spoof_names(cells))}"]) + " |")
    return "\n".join(lines)
