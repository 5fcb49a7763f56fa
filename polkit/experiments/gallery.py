"""Every spoof of the book for one model, at the length that suits it: the rows of the matrix."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from itertools import pairwise

import pandas as pd

from polkit.adversary import (
    RETRAINING,
    blindfold_top_q,
    borrowed_momentum,
    concatenation,
    crossing_length,
    distil,
    hidden_crossing,
    infinitesimal_update,
    interpolation_only,
    non_finite,
    retrain,
    shortest_blindfold,
    staged_pace,
)
from polkit.adversary.attack_1 import attack_1
from polkit.adversary.attack_2 import attack_2
from polkit.adversary.attack_3 import attack_3
from polkit.experiments.published import published
from polkit.proof import Proof
from polkit.training import Checkpoint, Conditions, Cost
from polkit.verifier import Calibration

SPOOFS = (
    "Attack I",
    "Attack II",
    "Attack III",
    "interpolation only",
    "infinitesimal update",
    "borrowed momentum",
    "blindfold top-Q",
    "concatenation",
    "NaN checkpoints",
    "distillation",
    "borrowed momentum, many intervals",
    "borrowed momentum, zigzag",
    "borrowed momentum, fresh start",
    "borrowed momentum, arriving early",
    "infinitesimal update, by stages",
    "hidden crossing",
    "hidden crossing, full length",
)


ZIGZAG = 0.6  # such a way on `digits` is 0.18 straight, and an honest proof's 0.14
EARLY = 40  # intervals: one trains, one crosses, two let the buffers settle, all before a tenth of them is over


def every_spoof(
    final: Checkpoint,
    calibration: Calibration,
    *,
    seed: int = 1,
    intervals: int = 14,
    stages: tuple[Sequence[float], Sequence[float]] | None = None,
    prover_seed: int | None = None,
    conditions: Conditions = Conditions(),
    workers: int = 1,
) -> dict[str, Proof]:
    """Name -> spoof of f_{W_T}, all of them adversaries of this seed; what is kept in the cache is not made again.

    intervals: T'/k of the spoofs that need a fine path · stages: edges and scales of the verifier's thresholds by
    stage of training · prover_seed: for `retraining`, if the adversary has come to know it. The last ones answer a
    defence: by more intervals, by a path that is not straight, by a W_0 that nobody sorted, by arriving early, by
    walking as the stages allow, by a jump that is real and stands between two intervals that are not.
    """
    task, k = calibration.task, calibration.task.checkpoint_interval
    long = {
        "spoof_steps": intervals * k,
        "seed": seed,
        "calibration": calibration,
        "conditions": conditions,
        "progress": False,
    }
    short = long | {"spoof_steps": 4 * k}
    made = {
        "Attack I": attack_1(final, task, **long),
        "Attack II": attack_2(final, task, **long, workers=workers),
        "Attack III": attack_3(final, task, **long, workers=workers),
        "interpolation only": interpolation_only(final, task, **long, workers=workers),
        "infinitesimal update": infinitesimal_update(final, task, **long, workers=workers),
        "borrowed momentum": borrowed_momentum(final, task, **short),
    }
    if length := shortest_blindfold(task):
        made["blindfold top-Q"] = blindfold_top_q(final, task, **long | {"spoof_steps": length})
    made |= {
        "concatenation": concatenation(final, task, **long),
        "NaN checkpoints": non_finite(final, task, **long),
        "distillation": distil(
            final, task, spoof_steps=intervals * k, seed=seed, conditions=conditions, progress=False
        ),
        "borrowed momentum, many intervals": borrowed_momentum(final, task, **long),
        "borrowed momentum, zigzag": borrowed_momentum(final, task, **long, off_path=ZIGZAG),
        "borrowed momentum, fresh start": borrowed_momentum(final, task, **long, fresh_start=True),
        "borrowed momentum, arriving early": borrowed_momentum(
            final, task, **long | {"spoof_steps": EARLY * k}, rest=EARLY - 2, corrections=1
        ),
    }
    if stages:
        pace = staged_pace(*stages)
        fastest = max((right[1] - left[1]) / (right[0] - left[0]) for left, right in pairwise(pace))
        length = math.ceil(intervals * fastest) * k  # so that no interval is longer than those of the even path
        made["infinitesimal update, by stages"] = infinitesimal_update(
            final, task, **long | {"spoof_steps": length}, pace=pace, workers=workers
        )
    drop = min(task.milestones, default=0) * task.steps_per_epoch  # a jump is real enough once the rate has fallen
    # At full length T itself, since a verifier may ask for it; where that is no crossing, the longest that nearly is.
    whole = crossing_length(task, task.steps) or crossing_length(task, task.steps - 3 * k)
    early = crossing_length(task, drop + 2 * k)
    for name, length in {"hidden crossing": early, "hidden crossing, full length": whole}.items():
        if length:
            made[name] = hidden_crossing(final, task, **long | {"spoof_steps": length})
    if prover_seed is not None:
        made[RETRAINING] = retrain(task, prover_seed, conditions=conditions, progress=False)
    return made


METERS = tuple(meter.name for meter in fields(Cost))


DIGITS, COLOUR = "8x8 digits", "32x32 colour"


def spoof_costs(proof: Proof, spoofs: Mapping[str, Proof]) -> pd.DataFrame:
    """A row per spoof: folder, steps (T'), the four meters, and `share.METER` of what the proof spent."""
    rows = []
    for name, spoof in spoofs.items():
        shares = spoof.cost().relative_to(proof.cost())
        rows.append(
            {"folder": name, "steps": spoof.steps}
            | asdict(spoof.cost())
            | {f"share.{meter}": shares[meter] for meter in METERS}
        )
    return pd.DataFrame(rows)


def costs_of_runs(runs: pd.DataFrame, attacks: Mapping[str, str], steps: int) -> pd.DataFrame:
    """The same from finished runs of `polkit reproduce`. attacks: as a run names them -> folder · steps: T'."""
    made = runs[runs["attack"].isin(attacks) & (runs["spoof_steps"] == steps)]
    columns = {"folder": made["attack"].map(attacks), "steps": made["spoof_steps"]}
    columns |= {meter: made[f"cost.{meter}"] for meter in METERS}
    return pd.DataFrame(columns | {f"share.{meter}": made[f"share.{meter}"] for meter in METERS})


def costs_of_matrix(costs: pd.DataFrame, runs: pd.DataFrame, task: str = "digits") -> pd.DataFrame:
    """The same from the matrix, which recorded shares (means over its trainings): times the proof's own mean cost."""
    known = costs[costs["task"] == task]
    honest = runs[(runs["experiment"] == "honest") & (runs["task"] == task)]
    columns = {"folder": known["folder"], "steps": known["steps"]}
    columns |= {meter: known[meter] * honest[f"cost.{meter}"].mean() for meter in METERS}
    return pd.DataFrame(columns | {f"share.{meter}": known[meter] for meter in METERS})


def forging_costs() -> pd.DataFrame:
    """Both published scales in one table, `data` first, spoofs in the order of the book."""
    small = costs_of_matrix(published("digits/matrix_costs"), published("digits/runs")).assign(data=DIGITS)
    table = pd.concat([small, published("folder-32x32/forge_costs").assign(data=COLOUR)])
    order = {name: number for number, name in enumerate(SPOOFS)}
    table = table.assign(order=table["folder"].map(order)).sort_values(["data", "order"], ascending=[False, True])
    return table[["data", "folder", "steps", *METERS, *(f"share.{meter}" for meter in METERS)]].reset_index(drop=True)


def shown_costs(table: pd.DataFrame) -> pd.DataFrame:
    """For a reader: each meter as `value (share of the proof's)`, a row per data set and spoof."""
    scales = {
        "gradient_evaluations": (1, "{:,.0f}"),
        "floating_point_operations": (1e9, "{:,.0f} G"),
        "wall_seconds": (1, "{:,.1f} s"),
        "stored_bytes": (1e6, "{:,.1f} MB"),
    }
    columns = {"T'": table["steps"].map("{:,.0f}".format)}
    for meter, (unit, form) in scales.items():
        pairs = zip(table[meter] / unit, table[f"share.{meter}"], strict=True)
        columns[meter.replace("_", " ")] = [f"{form.format(value)} ({share:.3f})" for value, share in pairs]
    return pd.DataFrame(columns).set_axis(pd.MultiIndex.from_frame(table[["data", "folder"]]))
