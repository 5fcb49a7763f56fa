"""From records to tables and figures: what a batch found, beside the paper."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from polkit.book import find_notebooks
from polkit.figures.results import drawn_figures
from polkit.reproduce.claims import judged_claims
from polkit.reproduce.matrix import matrix_tables
from polkit.reproduce.presets import presets_tables
from polkit.reproduce.records import COMMON, averaged, read_records, tidy_runs
from polkit.reproduce.tables import filled_tables
from polkit.whole import write_text_whole

TEXTS = ("attack", "adversary_half", "adversary_device", "adversary_precision", "reasons")


def summarise(out: Path, publish: Path | None = None) -> None:
    """Writes tables and figures of all finished records in `out`, and prints the claims.

    runs.csv: a row per run · averages.csv: a row per setting and value, with mean and spread over the repeats ·
    claims.csv · made_on.json: machines, versions, number of runs and their seconds · figures/: one page each, and
    Tables II and III with the paper's columns · matrix….csv, presets.csv, verifiers.csv: spoofs and honest proofs
    against defences, if those were run, each with a made_on of its own.
    publish: a second folder for the tables alone. Those of the paper's results are left as they are there if the batch
    had no spoof of them.
    """
    records = read_records(out)
    apart = {kind: {name: record for name, record in records.items() if record["experiment"] == kind}
             for kind in ("matrix", "presets")}  # fmt: skip
    runs = tidy_runs({name: record for name, record in records.items() if record["experiment"] not in apart})
    tables = matrix_tables(records) | presets_tables(records)
    notes = {
        f"made_on_{kind}": made_on(those)
        for kind, those in apart.items()
        if any(record["status"] == "finished" for record in those.values())
    }
    if runs.empty and not tables:
        print(f"{out} has no finished record yet")
        return
    write_tables([out, publish], tables, notes)
    if runs.empty:
        return
    check_unmixed(runs, out)
    averages, claims = averaged(runs), judged_claims(runs)
    write_tables(
        [out, publish if (runs["experiment"] == "spoof").any() else None],
        {"runs": runs, "averages": averages, "claims": claims},
        {"made_on": made_on({name: each for name, each in records.items() if name not in apart["presets"]})},
    )
    pages = out / "figures"
    pages.mkdir(exist_ok=True)
    for name, figure in drawn_figures(averages).items():
        figure.plot.write_html(pages / f"{name.replace(':', '-')}.html", include_plotlyjs="directory")
    for name, table in filled_tables(averages).items():
        table.to_csv(pages / f"{name.replace(':', '-')}.csv")
    print_claims(claims)
    print(f"\ntables in {out}, figures in {pages}")


def write_tables(folders: Sequence[Path | None], tables: Mapping[str, pd.DataFrame], notes: Mapping[str, dict]) -> None:
    for folder in filter(None, folders):
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in tables.items():
            table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
        for name, note in notes.items():
            write_text_whole(folder / f"{name}.json", json.dumps(note, indent=1, ensure_ascii=False) + "\n")


def check_unmixed(runs: pd.DataFrame, out: Path) -> None:
    """ValueError if a task was run with different E, k, …: an average over them would mean nothing."""
    for task, mine in runs.groupby("task"):
        odd = [name for name in COMMON if mine[name].nunique() > 1]
        if odd:
            found = ", ".join(map(str, mine[odd[0]].unique()))
            raise ValueError(f"{out} has runs of {task} with {odd[0]} = {found}: give each its own --out")


def print_claims(claims: pd.DataFrame) -> None:
    for row in claims.itertuples():
        print(f"  {'yes' if row.holds else 'NO':3}  {row.place}, {row.task}: {row.text}\n"
              f"       paper: {row.paper} · here: {row.here}\n       rule: {row.rule}")  # fmt: skip


def made_on(records: dict[str, dict]) -> dict:
    """Where and with what the finished runs were made, and what they took."""
    finished = [record for record in records.values() if record["status"] == "finished"]

    def unlike(key: str) -> list[dict]:
        return [json.loads(text) for text in sorted({json.dumps(record[key], sort_keys=True) for record in finished})]

    return {
        "runs": len(finished), "run_seconds": round(sum(record["run_seconds"] for record in finished)),
        "machines": unlike("machine"), "versions": unlike("versions"),
        "last_run_ended": max(record["ended"] for record in finished),
    }  # fmt: skip


def published(name: str = "digits") -> Path:
    """Where the results of the book's own runs lie."""
    return find_notebooks().parent / "data" / "results" / name


def read_results(folder: Path) -> dict[str, pd.DataFrame]:
    """The tables of `summarise`: runs, averages, claims. Raises FileNotFoundError if there are none."""
    missing = [name for name in ("runs", "averages", "claims") if not (folder / f"{name}.csv").is_file()]
    if missing:
        raise FileNotFoundError(f"{folder} has no {missing[0]}.csv: `polkit reproduce --publish {folder}` writes it")
    texts = dict.fromkeys(TEXTS, str)
    tables = {name: pd.read_csv(folder / f"{name}.csv", dtype=texts) for name in ("runs", "averages", "claims")}
    for table in tables.values():  # an empty text is written as nothing at all
        kept = [name for name in table if name in TEXTS]
        table[kept] = table[kept].fillna("")
    return tables
