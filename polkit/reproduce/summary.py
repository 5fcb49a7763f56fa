"""From records to tables and figures: what a batch found, beside the paper."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from polkit.book.figures.results import drawn_figures
from polkit.defences import PRESETS
from polkit.experiments.published import published
from polkit.proof import write_whole
from polkit.reproduce.claims import filled_tables, judged_claims
from polkit.reproduce.records import COMMON, SUFFIXES, Record, averaged, read_records, tidy_runs
from polkit.training import shown_task


def summarise(out: Path, publish: Path | None = None) -> None:
    """Writes tables (see data/README.md) and figures of all finished records in `out`, and prints the claims.

    publish: a second folder for the tables alone; those of the paper's results only if the batch had a spoof of them
    Each regime has its own tables. Where spoofs of a task claim several rates, claims and figures are of the lowest
    (0, the prover's own, is the highest). Raises ValueError if a task was run with different E, k, … (`matrix` and
    `presets` are not looked at): an average over them would mean nothing.
    """
    records = {name: record for name, record in read_records(out).items() if record.finished}
    if not records:
        print(f"{out} has no finished record yet")
        return
    kinds = {kind: [r for r in records.values() if r.experiment == kind] for kind in ("matrix", "presets")}
    tables = matrix_tables(kinds["matrix"]) | presets_tables(kinds["presets"])
    write([out, publish], tables, {f"made_on_{kind}": made_on(those) for kind, those in kinds.items() if those})
    runs = tidy_runs({name: record for name, record in records.items() if record.experiment not in kinds})
    if runs.empty:
        return
    for (_, task), mine in runs.groupby(["regime", "task"]):
        for name in COMMON:
            if mine[name].nunique() > 1:
                found = ", ".join(map(str, mine[name].unique()))
                raise ValueError(f"{out} has runs of {task} with {name} = {found}: give each its own --out")
    publish = publish if (runs["experiment"] == "spoof").any() else None
    comparable = []
    for regime, suffix in SUFFIXES.items():
        name = f"runs{suffix}"
        if len(mine := runs[runs["regime"] == regime]):
            tables = {name: mine, f"averages{suffix}": averaged(mine)}
            write([out, publish], tables, {f"made_on{suffix}": made_on([records[name] for name in mine["name"]])})
        elif publish and (publish / f"{name}.csv").exists():  # of an earlier batch
            mine = published(publish.absolute() / name)
        spoofs, rate = mine["experiment"] == "spoof", mine["spoof_learning_rate"].replace(0.0, math.inf)
        comparable.append(mine[~spoofs | (rate == rate.where(spoofs).groupby(mine["task"]).transform("min"))])
        draw(averaged(comparable[-1]), out / "figures", suffix)
    claims = judged_claims(pd.concat(comparable, ignore_index=True))
    write([out, publish], {"claims": claims}, {})
    for row in claims.itertuples():
        print(f"  {row.place}, {row.task}: {row.text}\n       paper: {row.paper}\n       rule: {row.rule}")
        for regime in ("paper", "strict"):
            holds, here = getattr(row, f"holds_{regime}"), getattr(row, f"here_{regime}")
            if holds is not None:
                print(f"       regime {regime}: {'yes' if holds else 'NO'}, {here}")
    print(f"\ntables in {out}, figures in {out / 'figures'}")


def draw(averages: pd.DataFrame, pages: Path, suffix: str) -> None:
    """Every figure and table that these averages have the runs for, as a page or a CSV each."""
    pages.mkdir(exist_ok=True)
    for name, figure in drawn_figures(averages).items():
        figure.plot.write_html(pages / f"{name.replace(':', '-')}{suffix}.html", include_plotlyjs="directory")
    for name, table in filled_tables(averages).items():
        table.to_csv(pages / f"{name.replace(':', '-')}{suffix}.csv")


def write(folders: Sequence[Path | None], tables: Mapping[str, pd.DataFrame], notes: Mapping[str, dict]) -> None:
    for folder in filter(None, folders):
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in tables.items():
            write_whole(folder / f"{name}.csv", table.to_csv(index=False, float_format="%.6g"))
        for name, note in notes.items():
            write_whole(folder / f"{name}.json", json.dumps(note, indent=1, ensure_ascii=False) + "\n")


def made_on(records: Sequence[Record]) -> dict:
    """Where and with what these runs were made, and what they took."""
    seconds = round(sum(record.run_seconds for record in records))
    machines, versions = (
        [json.loads(text) for text in sorted({json.dumps(getattr(record, name), sort_keys=True) for record in records})]
        for name in ("machine", "versions")
    )
    known = {"runs": len(records), "run_seconds": seconds, "machines": machines, "versions": versions}
    return known | {"last_run_ended": max(record.ended for record in records)}


def measured_values(records: Iterable[Record]) -> pd.DataFrame:
    """A row per record and value: task, seed, value, and the parts of its dotted name as 0, 1, 2."""
    rows = []
    for record in records:
        run = {"task": shown_task(str(record.parameters["task"])), "seed": record.parameters.get("seed", 0)}
        rows += [run | {"value": value} | dict(enumerate(name.split("."))) for name, value in record.values.items()]
    return pd.DataFrame(rows)


def matrix_tables(records: Sequence[Record]) -> dict[str, pd.DataFrame]:
    """What finished runs of the matrix found, as the tables matrix….csv; nothing without one."""
    if not records:
        return {}
    values = measured_values(records).rename(columns={1: "folder", 2: "name"})
    cells = values[values[0] == "accepted"].rename(columns={"name": "defence", "value": "accepted"})
    cells = cells[["task", "seed", "folder", "defence", "accepted"]].astype({"accepted": int}).reset_index(drop=True)
    counts = cells.groupby(["task", "folder", "defence"], sort=False)["accepted"].agg(accepted="sum", repeats="count")

    def means(kinds: Sequence[str]) -> pd.DataFrame:
        rows = values[values[0].isin(kinds)].fillna({"name": "steps"}).astype({"value": float})
        return rows.groupby(["task", "folder", "name"], sort=False)["value"].mean().unstack("name").reset_index()

    costs, errors = means(["steps", "share"]), means(["errors"])
    return {"matrix": counts.reset_index(), "matrix_trainings": cells, "matrix_costs": costs, "matrix_errors": errors}


NUMBERS = ["operations", "seconds", "loose", "tight", "above_tight"]


def presets_tables(records: Sequence[Record]) -> dict[str, pd.DataFrame]:
    """What finished runs of the presets found, as the tables presets.csv and verifiers.csv; nothing without one."""
    if not records:
        return {}
    values = measured_values(records).rename(columns={0: "conditions", 1: "verifier", 2: "name"}).dropna(subset="name")
    keys = ["task", "seed", "conditions", "verifier"]
    table = values.groupby([*keys, "name"], sort=False)["value"].first().unstack("name", sort=False)
    table = table.rename(columns={"floating_point_operations": "operations", "wall_seconds": "seconds"})
    table = table.reindex(columns=["accepted", *NUMBERS]).reset_index()
    table = table.astype({"accepted": bool} | dict.fromkeys(NUMBERS, float))
    table = table.sort_values(["task", "seed"], kind="stable", ignore_index=True).rename_axis(columns=None)
    groups = table.assign(rejected=~table["accepted"]).groupby(["task", "conditions", "verifier"], sort=False)
    means = {name: (name, "mean") for name in ("operations", "seconds")}
    counts = groups.agg(proofs=("seed", "count"), rejected=("rejected", "sum"), **means)
    return {"presets": table[table["verifier"].isin(list(PRESETS))], "verifiers": counts.reset_index()}
