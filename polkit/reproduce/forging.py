"""What every spoof costs to forge, in four meters, on 8x8 digits and on 32x32 colour images (Section III)."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path

import pandas as pd

from polkit.adversary.gallery import SPOOFS
from polkit.cost import Cost
from polkit.proof import Proof
from polkit.reproduce.matrix import read_matrix

METERS = tuple(meter.name for meter in fields(Cost))
DIGITS, COLOUR = "8x8 digits", "32x32 colour"


def spoof_costs(proof: Proof, spoofs: Mapping[str, Proof]) -> pd.DataFrame:
    """A row per spoof: folder, steps (T'), the four meters, and `share.METER` of what the proof spent."""
    rows = []
    for name, spoof in spoofs.items():
        shares = spoof.cost().relative_to(proof.cost())
        rows.append({"folder": name, "steps": spoof.steps} | asdict(spoof.cost())
                    | {f"share.{meter}": shares[meter] for meter in METERS})  # fmt: skip
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


def forging_costs(results: Path) -> pd.DataFrame:
    """Both scales in one table, `data` first, spoofs in the order of the book. results: the folder that holds `digits`
    and `folder-32x32`. Raises FileNotFoundError if a published table is missing."""
    digits, colour = results / "digits", results / "folder-32x32" / "forge_costs.csv"
    if not colour.is_file():
        raise FileNotFoundError(f"{colour} is missing: `spoof_costs` of a training on 32x32 images makes it")
    runs = pd.read_csv(digits / "runs.csv")
    small = costs_of_matrix(read_matrix(digits)["matrix_costs"], runs).assign(data=DIGITS)
    table = pd.concat([small, pd.read_csv(colour).assign(data=COLOUR)])
    order = {name: number for number, name in enumerate(SPOOFS)}
    table = table.assign(order=table["folder"].map(order)).sort_values(["data", "order"], ascending=[False, True])
    return table[["data", "folder", "steps", *METERS, *(f"share.{meter}" for meter in METERS)]].reset_index(drop=True)


def shown_costs(table: pd.DataFrame) -> pd.DataFrame:
    """For a reader: each meter as `value (share of the proof's)`, a row per data set and spoof."""
    scales = {"gradient_evaluations": (1, "{:,.0f}"), "floating_point_operations": (1e9, "{:,.0f} G"),
              "wall_seconds": (1, "{:,.1f} s"), "stored_bytes": (1e6, "{:,.1f} MB")}  # fmt: skip
    columns = {"T'": table["steps"].map("{:,.0f}".format)}
    for meter, (unit, form) in scales.items():
        pairs = zip(table[meter] / unit, table[f"share.{meter}"], strict=True)
        columns[meter.replace("_", " ")] = [f"{form.format(value)} ({share:.3f})" for value, share in pairs]
    return pd.DataFrame(columns).set_axis(pd.MultiIndex.from_frame(table[["data", "folder"]]))
