"""Spoofs against defences: each defence by itself on top of the paper's verifier, each cell from a replay."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from polkit.defences import RECORDED, REDRAWN, Check, Dispute, Evidence, Standards, gather, presets
from polkit.defences.checks import detection_probability, random_starts
from polkit.defences.memorisation import losses_taken, memorised
from polkit.experiments.gallery import SPOOFS
from polkit.experiments.retraining import RETRAINING
from polkit.proof import Proof
from polkit.training import Conditions, derive_seed
from polkit.verifier import OPTIMISER, Calibration, Reason
from polkit.verifier.replay import Table, compared, looked_up

HONEST, CORRECTED, RECOMMENDED = "honest proof", "Algorithm 2, corrected", "recommended"


def _own_optimiser(seen: Evidence, _) -> list[Reason]:
    same = seen.inspection.task == seen.calibration.task
    return [] if same else [Reason("task", "the optimiser is not the verifier's")]


def _learnt_from(seen: Evidence, _) -> list[Reason]:
    if seen.proof.augmentation_seeds() is None:
        return [Reason("memorised", "augmentation.npy is missing: nobody knows what the model was shown")]
    return memorised(seen.proof, seen.inspection.task, seen.standards.conditions)


def half(seen: Evidence) -> list[int]:
    return seen.random(-(-len(seen.every_interval()) // 2))


own_optimiser = Check("η decided by the verifier", _own_optimiser)
buffers_compared = Check("buffers compared", presets.within("calibration.thresholds", "buffers"), *presets.TOP_1)
momentum_chained = Check("momentum chained", presets.within("standards.redrawn", "momentum"), *presets.TOP_1)
augmentation_recorded = Check(
    "augmentation recorded", presets.within("standards.loose", "weights"), RECORDED, presets.recommended_intervals
)
everything_recorded = presets.state_chained.over(RECORDED, Evidence.every_interval)
ON_THE_RECORD = (augmentation_recorded, presets.relative, presets.adaptive, presets.state_chained)
ADDED = (  # to the paper's check, in the order in which the book speaks of them
    own_optimiser,
    presets.whole_training,
    presets.stretched_intervals,
    buffers_compared,
    momentum_chained,
    presets.stages,
    Check("adaptive threshold", presets.adaptive.find, *presets.TOP_1),
    presets.path_not_straight,
    presets.speed,
    presets.trend,
    Check("memorised", _learnt_from, samples=lambda seen: losses_taken(seen.proof)),
    presets.revealed_seed,
    presets.disputed_model,
    presets.data_committed,
    presets.nothing_perturbed,
    replace(presets.algorithm_2.over(REDRAWN, Evidence.every_interval), name="every interval"),
    replace(presets.algorithm_2.over(REDRAWN, half), name="half of them at random"),
    *(each.over(RECORDED, Evidence.largest_of_each_epoch) for each in ON_THE_RECORD),
)
ON_TOP = {each.name: (presets.algorithm_2, each) for each in ADDED}
ALONE = {"paper": presets.PAPER, "recommended, any T'": presets.RECOMMENDED_ANY_LENGTH} | presets.PRESETS
COLUMNS = [*ON_TOP, *ALONE]
VERIFIERS = {CORRECTED: (presets.algorithm_2,), **ON_TOP}
VERIFIERS |= {name: (own_optimiser, *checks) for name, checks in ALONE.items()}


@dataclass(frozen=True)
class Matrix:
    accepted: pd.DataFrame  # a row per folder, the honest proof first, a column per verifier, True or False
    errors: dict[str, dict[str, float]]  # folder -> `errors_against` and `acceptance`, of those that were replayed


def defence_matrix(
    proof: Proof,
    spoofs: Mapping[str, Proof],
    calibration: Calibration,
    standards: Standards,
    seed: int = 0,
    adversary_seed: int = 1,
    workers: int = 1,
) -> Matrix:
    """Which folder is accepted under which defence.

    The first column is the paper's verifier at Q = 1: it compares the weights alone and takes the prover's optimiser,
    as the public code does. Each other column adds one defence to it; the presets have the verifier's optimiser.

    seed, adversary_seed: of the proof and of the spoofs
    """
    model, verifier_seed, accepted, errors = proof.final_weights(), derive_seed(seed, "lots"), {}, {}
    folders, asked = {HONEST: proof, **spoofs}, [each for checks in VERIFIERS.values() for each in checks]
    asked.append(everything_recorded)
    for name, folder in folders.items():
        revealed = seed if name in (HONEST, RETRAINING) else derive_seed(adversary_seed, "adversary")
        dispute = Dispute(model, revealed, verifier_seed)
        seen = gather(folder, asked, calibration, standards, dispute, prover_decides=OPTIMISER, workers=workers)
        accepted[name] = {each: seen.verdict(checks).accepted for each, checks in VERIFIERS.items()}
        if not seen.inspection.reasons:
            found = acceptance(seen, presets.recommended_intervals)
            errors[name] = errors_against(seen) | {key: found[key] for key in ("fabricated", "predicted", "measured")}
    return Matrix(pd.DataFrame(accepted).T.astype(bool), errors)


def errors_against(seen: Evidence) -> dict[str, float]:
    """How the errors of what `recommended` replays stand to its limits, where that was replayed.

    loose: the largest of all, as a multiple of the loose δ
    tight: that of the median random interval, of the tight δ
    above_tight: the share of the random intervals that are above it
    """
    loose = _largest_ratios(seen.rows(presets.state_chained), seen.standards.loose)
    tight = _largest_ratios(seen.rows(presets.mostly_tight), seen.standards.tight)
    above = float((~(tight <= 1)).mean())
    return {"loose": float(loose.max(skipna=False)), "tight": float(tight.median()), "above_tight": above}


def acceptance(seen: Evidence, sample: presets.Sample, draws: int = 2000) -> dict[str, float]:
    """How often the loose and the tight δ accept a folder by a sample of its intervals: all were replayed just once.

    replayed: the mean share of the intervals that a verifier replays
    fabricated: f, how many of all N are above the loose δ
    predicted: C(N - f, n) / C(N, n), where n are drawn; 0 if one of the f is certain to be replayed
    measured: the share of so many draws that accept
    """
    rows, count, limits = seen.rows(everything_recorded), len(seen.every_interval()), seen.standards
    failed = (rows[~compared(rows, looked_up(table, rows))["passed"]] for table in (limits.loose, limits.tight))
    fabricated, above_tight = (set(each["start"]) for each in failed)
    certain, drawn, accepted = set(sample.certain(seen)), min(sample.drawn, count), 0
    for seed in range(draws):
        lots = set(random_starts(seen.proof, drawn, seed))
        within = len(lots & above_tight) <= math.floor(presets.FORGIVEN * drawn)
        accepted += within and not fabricated & (lots | certain)
    escape = 0.0 if fabricated & certain else 1 - detection_probability(count, len(fabricated), drawn)
    replayed = (drawn + len(certain) * (1 - drawn / count)) / count
    return {"replayed": replayed, "fabricated": len(fabricated), "predicted": escape, "measured": accepted / draws}


def _largest_ratios(rows: pd.DataFrame, limits: Table) -> pd.Series:
    """Each interval's largest error as a multiple of its limit (of cos its square root), NaN if one is NaN."""
    ratios = compared(rows, looked_up(limits, rows))["ratio"]
    ratios = ratios.where(rows["distance"] != "cos", np.sqrt(ratios))
    return ratios.groupby(rows["start"]).agg(lambda each: np.max(each.to_numpy()))


def machines(standards: Standards) -> dict[str, Conditions]:
    """Name -> Conditions of a replay with recorded augmentation, each beside those that the standards were set on."""
    own = standards.conditions
    return {
        "another thread": own.replace(onednn=True, threads=own.threads + 1),
        "float64": own.replace(onednn=True, precision="float64"),
        "bf16": own.replace(onednn=True, precision="bf16"),
    }


def honest_verdicts(
    proof: Proof,
    calibration: Calibration,
    standards: Standards,
    dispute: Dispute,
    own_limits: Mapping[str, Standards],
    workers: int = 1,
) -> pd.DataFrame:
    """Every verifier's verdict on an honest proof: conditions, verifier, accepted, operations and seconds.

    Under the standards' own Conditions judge all verifiers; on `machines`, with the same limits, the checks of a
    recorded replay over the intervals that `recommended` looks at, and the presets that draw; its rows have
    `errors_against`.

    own_limits: names of further Conditions -> standards that were set under them, for those presets
    """
    preset = {name: presets.PRESETS[name] for name in presets.SAMPLES}
    others = {each.name: (each,) for each in ON_THE_RECORD} | preset
    trials = [("other kernels", standards, VERIFIERS | preset)]
    trials += [(name, replace(standards, conditions=under), others) for name, under in machines(standards).items()]
    trials += [(name, under, preset) for name, under in own_limits.items()]
    rows = []
    for conditions, under, verifiers in trials:
        asked = [each for checks in verifiers.values() for each in checks]
        seen = gather(proof, asked, calibration, under, dispute, workers=workers)
        if seen.inspection.reasons:
            raise ValueError(f"{proof.folder} is refused without a replay: {seen.inspection.reasons[0]}")
        for verifier, checks in verifiers.items():
            verdict = seen.verdict(checks)
            row = {"conditions": conditions, "verifier": verifier, "accepted": verdict.accepted}
            row |= {"operations": verdict.cost.floating_point_operations, "seconds": verdict.cost.wall_seconds}
            rows.append(row | (errors_against(seen) if verifier == RECOMMENDED else {}))
    return pd.DataFrame(rows)


def matrix_counts(cells: pd.DataFrame) -> pd.DataFrame:
    """A row per folder and a column per verifier: in how many of the repeats it was accepted."""
    table = cells.pivot(index="folder", columns="defence", values="accepted").rename_axis(index=None, columns=None)
    rows = [name for name in (HONEST, RETRAINING, *SPOOFS) if name in table.index]
    return table.loc[rows, [name for name in (CORRECTED, *COLUMNS) if name in table]]


def accepted_by_all(trainings: pd.DataFrame, verifiers: Sequence[str]) -> pd.Series:
    """Folder -> in how many of `matrix_trainings` all these verifiers accepted it; KeyError for an unknown one."""
    if missing := sorted(set(verifiers) - set(trainings["defence"])):
        raise KeyError(f"the matrix has no verifier {missing[0]!r}")
    chosen = trainings[trainings["defence"].isin(verifiers)]
    counts = chosen.groupby(["folder", "seed"])["accepted"].min().groupby("folder").sum()
    return counts.loc[[name for name in (HONEST, *SPOOFS) if name in counts.index]]


def repeats_of(cells: pd.DataFrame) -> int:
    """Over how many repeats every cell was counted. Raises ValueError if that is not one number."""
    found = set(cells["repeats"])
    if len(found) != 1:
        raise ValueError(f"the matrix counts over {sorted(found)} repeats: one number was expected")
    return int(found.pop())


def always(cells: pd.DataFrame, folder: str, defence: str) -> bool:
    return bool(matrix_counts(cells).loc[folder, defence] == repeats_of(cells))


def never(cells: pd.DataFrame, folder: str, defence: str) -> bool:
    return bool(matrix_counts(cells).loc[folder, defence] == 0)


def spoof_names(cells: pd.DataFrame) -> list[str]:
    return [name for name in SPOOFS if name in set(cells["folder"])]


def costs_of_verifiers(verifiers: pd.DataFrame) -> pd.DataFrame:
    """A row per verifier: operations, seconds, and for each kind of machine "rejected / proofs", if it was tried."""
    words = verifiers["rejected"].astype(str) + " / " + verifiers["proofs"].astype(str)
    counts = verifiers.assign(words=words).pivot(index="verifier", columns="conditions", values="words")
    measured = verifiers[verifiers["conditions"] == "other kernels"]  # every verifier was tried there
    costs = measured.groupby("verifier", sort=False)[["operations", "seconds"]].first()
    order = [name for name in VERIFIERS if name in costs.index]
    return costs.join(counts[verifiers["conditions"].unique()]).loc[order].rename_axis(index=None).fillna("")
