"""Tables II and III of the paper with our columns beside the printed ones."""

import pandas as pd

from polkit.distance import DISTANCES
from polkit.figures.results import chosen
from polkit.reproduce.claims import paper_data

# (quantity, party) of data/paper/tables.csv -> where our averages keep the same
TABLE_2 = {
    ("loss", "before"): "loss.before", ("loss", "after"): "loss.after",
    ("squared gradient norm", "before"): "gradient_squared.before",
    ("squared gradient norm", "after"): "gradient_squared.after",
}  # fmt: skip
TABLE_3 = {(name, "spoof"): f"weights.all.{name}" for name in DISTANCES}
TABLE_3 |= {(name, "proof"): f"weights.most.{name}" for name in DISTANCES}
TABLE_3 |= {("seconds", party): "cost.wall_seconds" for party in ("spoof", "proof")}


def table_beside(averages: pd.DataFrame, place: str, tasks: list[str], spoof_steps: int = 0) -> pd.DataFrame:
    """`Table II` (Attack II at T' = spoof_steps) or `Table III` (Attack I): a row per quantity, as text.

    Columns: (task, before or after; spoof or proof), the paper's tasks first, then `tasks`. Where the spread is known
    it stands after the mean: over the treated batches in Table II, over the repeats in Table III.
    Raises ValueError if these averages have no such spoof of a task.
    """
    known = paper_data("tables")
    printed = known[known["place"] == place]
    columns = {}
    for row in printed.itertuples():
        columns.setdefault((f"{row.task} (paper)", row.party), {})[row.quantity] = _text(row.value, row.deviation)
    attack = {"attack": "attack_2", "spoof_steps": spoof_steps} if place == "Table II" else {"attack": "attack_1"}
    for task in tasks:
        for (quantity, party), value in (TABLE_2 if place == "Table II" else TABLE_3).items():
            maker = {"experiment": "honest"} if party == "proof" else {"experiment": "spoof", **attack}
            rows = chosen(averages, value, task=task, **maker)
            if rows.empty:
                raise ValueError(f"there is no {value} of {maker} on {task} for {place}")
            deviation = rows["deviation"].iloc[0]
            if place == "Table II":
                deviation = chosen(averages, f"{value}.deviation", task=task, **maker)["mean"].iloc[0]
            columns.setdefault((f"{task} (here)", party), {})[quantity] = _text(rows["mean"].iloc[0], deviation)
    return pd.DataFrame(columns)


def filled_tables(averages: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Every table that these averages have the runs for, by name: Table II for each task and T', Table III once."""
    tables = {}
    for row in chosen(averages, "loss.before", experiment="spoof", attack="attack_2").itertuples():
        name = f"table-2-{row.task}-T{row.spoof_steps}"
        tables[name] = table_beside(averages, "Table II", [row.task], row.spoof_steps)
    tried = list(dict.fromkeys(chosen(averages, "weights.all.l2", experiment="spoof", attack="attack_1")["task"]))
    if tried:
        tables["table-3"] = table_beside(averages, "Table III", tried)
    return tables


def _text(value: float, deviation: float) -> str:
    digits = 4 if value < 10 else 1 if value < 1000 else 0
    return f"{value:,.{digits}f}" + ("" if pd.isna(deviation) else f" ± {deviation:.{digits}f}")
