"""The matrix of chapter 9 over repeats: how often each defence accepted each folder, and what the spoofs cost."""

from pathlib import Path

import pandas as pd

from polkit.adversary.gallery import SPOOFS
from polkit.defences.matrix import COLUMNS, HONEST, PUBLISHED

KEYS = ["task", "folder"]


def matrix_tables(records: dict[str, dict]) -> dict[str, pd.DataFrame]:
    """`matrix`: task, folder, defence, accepted (in how many repeats), repeats · `matrix_costs`: task, folder, steps,
    and the mean share of the proof's cost in each meter. Both empty without a finished run of the matrix."""
    cells, costs = [], []
    for record in records.values():
        if record["experiment"] != "matrix" or record["status"] != "finished":
            continue
        task = record["parameters"]["task"]
        for name, value in record["values"].items():
            kind, folder, *last = name.split(".")
            if kind == "accepted":
                cells.append({"task": task, "folder": folder, "defence": last[0], "accepted": value})
            else:
                costs.append({"task": task, "folder": folder, "meter": last[0] if last else "steps", "value": value})
    if not cells:
        return {}
    groups = pd.DataFrame(cells).groupby([*KEYS, "defence"], sort=False)["accepted"]
    table = groups.agg(accepted="sum", repeats="count").reset_index()
    means = pd.DataFrame(costs).groupby([*KEYS, "meter"], sort=False)["value"].mean().unstack("meter")
    return {"matrix": table, "matrix_costs": means.reset_index()}


def read_matrix(folder: Path) -> dict[str, pd.DataFrame]:
    """The published tables. Raises FileNotFoundError if there are none."""
    files = {name: folder / f"{name}.csv" for name in ("matrix", "matrix_costs")}
    for file in files.values():
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing: `polkit reproduce matrix --publish {folder}` writes it")
    return {name: pd.read_csv(file) for name, file in files.items()}


def matrix_counts(cells: pd.DataFrame, task: str = "digits") -> pd.DataFrame:
    """A row per folder and a column per verifier: in how many of the repeats it was accepted."""
    chosen = cells[cells["task"] == task]
    order = [name for name in (HONEST, *SPOOFS) if name in set(chosen["folder"])]
    table = chosen.pivot(index="folder", columns="defence", values="accepted")
    columns = [name for name in (PUBLISHED, *COLUMNS) if name in table]
    return table.loc[order, columns].rename_axis(index=None, columns=None)


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
