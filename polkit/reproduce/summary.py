"""From records to tables and figures: what a batch found, beside the paper."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from polkit.book.figures.results import NAMES, chosen, drawn_figures
from polkit.defences import PRESETS
from polkit.proof import write_text_whole
from polkit.reproduce.claims import filled_tables, judged_claims
from polkit.reproduce.records import COMMON, averaged, read_records, tidy_runs
from polkit.training import DISTANCES


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
    apart = {
        kind: {name: record for name, record in records.items() if record["experiment"] == kind}
        for kind in ("matrix", "presets")
    }
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
        print(
            f"  {'yes' if row.holds else 'NO':3}  {row.place}, {row.task}: {row.text}\n"
            f"       paper: {row.paper} · here: {row.here}\n       rule: {row.rule}"
        )


def made_on(records: dict[str, dict]) -> dict:
    """Where and with what the finished runs were made, and what they took."""
    finished = [record for record in records.values() if record["status"] == "finished"]

    def unlike(key: str) -> list[dict]:
        return [json.loads(text) for text in sorted({json.dumps(record[key], sort_keys=True) for record in finished})]

    return {
        "runs": len(finished),
        "run_seconds": round(sum(record["run_seconds"] for record in finished)),
        "machines": unlike("machine"),
        "versions": unlike("versions"),
        "last_run_ended": max(record["ended"] for record in finished),
    }


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
    return {
        "matrix": table,
        "matrix_trainings": trainings,
        "matrix_costs": means.reset_index(),
        "matrix_errors": limits.reset_index(),
    }


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
    counts = groups.agg(
        proofs=("seed", "count"),
        rejected=("accepted", lambda accepted: int((~accepted).sum())),
        operations=("operations", "mean"),
        seconds=("seconds", "mean"),
    )
    return {"presets": table[table["verifier"].isin(list(PRESETS))], "verifiers": counts.reset_index()}


ANY_LENGTH = ("attack_1", "borrowed_momentum")
SHOWN_METERS = ("floating_point_operations", "wall_seconds", "stored_bytes")


def results_table(averages: pd.DataFrame, task: str, lengths: Sequence[int]) -> str:
    """Markdown: the honest proof and each attack at these T' — verdicts, errors and costs, mean ± deviation."""
    head = ["folder", "T'", "accepted", "l1", "l2", "l∞", "cos", "operations", "seconds", "bytes"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]

    def cell(value: str, digits: int, **setting) -> str:
        rows = chosen(averages, value, task=task, **setting)
        if rows.empty:
            return ""
        mean, deviation = rows["mean"].iloc[0], rows["deviation"].iloc[0]
        return f"{mean:.{digits}f}" + (f" ± {deviation:.{digits}f}" if pd.notna(deviation) else "")

    def accepted(value: str, **setting) -> str:
        rows = chosen(averages, value, task=task, **setting)
        return f"{round(rows['mean'].iloc[0] * rows['repeats'].iloc[0])} of {rows['repeats'].iloc[0]}"

    honest = {"experiment": "honest"}
    thresholds = [cell(f"threshold.weights.{name}", 4, **honest) for name in DISTANCES]
    errors = [cell(f"weights.most.{name}", 4, **honest) for name in DISTANCES]
    lines.append("| " + " | ".join(["δ", "", "", *thresholds, "", "", ""]) + " |")
    lines.append(
        "| " + " | ".join(["honest proof", "T", accepted("accepted.most", **honest), *errors, "1", "1", "1"]) + " |"
    )
    made = averages[(averages["task"] == task) & (averages["experiment"] == "spoof")]
    for attack, name in NAMES.items():
        known = sorted(set(made.loc[made["attack"] == attack, "spoof_steps"]))
        for steps in known if attack in ANY_LENGTH else [length for length in known if length in lengths]:
            setting = {"experiment": "spoof", "attack": attack, "spoof_steps": steps}
            errors = [cell(f"weights.all.{distance}", 4, **setting) for distance in DISTANCES]
            costs = [cell(f"share.{meter}", 3, **setting) for meter in SHOWN_METERS]
            lines.append(
                "| " + " | ".join([name, f"{steps:,}", accepted("accepted.all", **setting), *errors, *costs]) + " |"
            )
    return "\n".join(lines)
