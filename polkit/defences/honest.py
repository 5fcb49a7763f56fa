"""How often each verifier rejects an honest proof, on every kind of machine that can be had here."""

from dataclasses import replace

import pandas as pd

from polkit.calibration import Calibration
from polkit.defences.case import Case, Dispute, open_case
from polkit.defences.matrix import ON_THE_RECORD, RECOMMENDED, VERIFIERS
from polkit.defences.presets import errors_against, looked_at, recommended
from polkit.defences.standards import Standards
from polkit.proof import Proof
from polkit.training import Conditions

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


def honest_rulings(proof: Proof, calibration: Calibration, standards: Standards, dispute: Dispute,
                   own_limits: dict[str, Standards] | None = None, *, workers: int = 1,
                   remember: bool = False) -> pd.DataFrame:  # fmt: skip
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
        rows.append({"conditions": conditions, "verifier": verifier, "accepted": not found, **errors,
                     "operations": cost.floating_point_operations, "seconds": cost.wall_seconds})  # fmt: skip

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
