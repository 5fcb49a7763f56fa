"""Honest proofs before every verifier, over many seeds: false rejections and what judging costs."""

from pathlib import Path

import pandas as pd

from polkit.defences.matrix import VERIFIERS
from polkit.defences.presets import PRESETS
from polkit.reproduce.matrix import spoof_names

NUMBERS = ("operations", "seconds", "loose", "tight", "above_tight")
METERS = {"floating_point_operations": "operations", "wall_seconds": "seconds"}


def presets_tables(records: dict[str, dict]) -> dict[str, pd.DataFrame]:
    """`presets`: a row per task, seed, Conditions and preset: accepted, cost as shares of the proof's, and for
    `recommended` how the errors stand to its limits · `verifiers`: a row per task, Conditions and verifier: how many of
    the proofs it rejected, and the mean cost. Both empty without a finished run."""
    rows = []
    for record in records.values():
        if record["experiment"] != "presets" or record["status"] != "finished":
            continue
        found: dict[tuple, dict] = {}
        for name, value in record["values"].items():
            if name != "steps":
                conditions, verifier, kind = name.split(".")
                found.setdefault((conditions, verifier), {})[METERS.get(kind, kind)] = value
        settings = {name: record["parameters"][name] for name in ("task", "seed")}
        rows += [settings | {"conditions": place[0], "verifier": place[1]} | values for place, values in found.items()]
    if not rows:
        return {}
    table = pd.DataFrame(rows).reindex(columns=["task", "seed", "conditions", "verifier", "accepted", *NUMBERS])
    table = table.sort_values(["task", "seed"], kind="stable", ignore_index=True)
    groups = table.groupby(["task", "conditions", "verifier"], sort=False)
    counts = groups.agg(proofs=("seed", "count"), rejected=("accepted", lambda accepted: int((~accepted).sum())),
                        operations=("operations", "mean"), seconds=("seconds", "mean"))  # fmt: skip
    return {"presets": table[table["verifier"].isin(list(PRESETS))], "verifiers": counts.reset_index()}


def read_presets(folder: Path) -> dict[str, pd.DataFrame]:
    """The published tables. Raises FileNotFoundError if there are none."""
    files = {name: folder / f"{name}.csv" for name in ("presets", "verifiers")}
    for file in files.values():
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing: `polkit reproduce presets --publish {folder}` writes it")
    return {name: pd.read_csv(file) for name, file in files.items()}


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
