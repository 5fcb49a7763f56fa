"""The matrix of chapter 9 over repeats: how often each defence accepted each folder, and what the spoofs cost."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from polkit.adversary.gallery import SPOOFS
from polkit.adversary.retraining import RETRAINING
from polkit.defences.matrix import COLUMNS, HONEST, PUBLISHED

KEYS = ["task", "folder"]


def matrix_tables(records: dict[str, dict]) -> dict[str, pd.DataFrame]:
    """`matrix`: task, folder, defence, accepted (in how many repeats), repeats · `matrix_trainings`: the same for each
    seed, accepted 0 or 1 · `matrix_costs`: task, folder, steps, and the mean share of the proof's cost in each meter ·
    `matrix_errors`: task, folder, and how its errors stand to the limits of `recommended`, on the mean. None of them
    without a finished run of the matrix."""
    cells, costs, errors = [], [], []
    for record in records.values():
        if record["experiment"] != "matrix" or record["status"] != "finished":
            continue
        task, seed = record["parameters"]["task"], record["parameters"].get("seed", 0)
        for name, value in record["values"].items():
            kind, folder, *last = name.split(".")
            if kind == "accepted":
                cells.append({"task": task, "seed": seed, "folder": folder, "defence": last[0], "accepted": int(value)})
            elif kind == "errors":
                errors.append({"task": task, "folder": folder, "limit": last[0], "value": value})
            else:
                costs.append({"task": task, "folder": folder, "meter": last[0] if last else "steps", "value": value})
    if not cells:
        return {}
    trainings = pd.DataFrame(cells)
    groups = trainings.groupby([*KEYS, "defence"], sort=False)["accepted"]
    table = groups.agg(accepted="sum", repeats="count").reset_index()
    means = pd.DataFrame(costs).groupby([*KEYS, "meter"], sort=False)["value"].mean().unstack("meter")
    limits = pd.DataFrame(errors).groupby([*KEYS, "limit"], sort=False)["value"].mean().unstack("limit")
    return {"matrix": table, "matrix_trainings": trainings, "matrix_costs": means.reset_index(),
            "matrix_errors": limits.reset_index()}  # fmt: skip


def read_matrix(folder: Path) -> dict[str, pd.DataFrame]:
    """The published tables. Raises FileNotFoundError if there are none."""
    names = ("matrix", "matrix_trainings", "matrix_costs", "matrix_errors")
    files = {name: folder / f"{name}.csv" for name in names}
    for file in files.values():
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing: `polkit reproduce matrix --publish {folder}` writes it")
    return {name: pd.read_csv(file) for name, file in files.items()}


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
