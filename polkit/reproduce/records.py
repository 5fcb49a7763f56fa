"""One record per run, as JSON: what was run, on what, what it took, and what it measured."""

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import nbformat
import pandas as pd
import torch

from polkit.book.chapters import shown_data
from polkit.proof import versions, write_text_whole
from polkit.reproduce.measure import MEASUREMENT_TYPE
from polkit.training import shown_task


def machine() -> dict[str, str | int]:
    """What a reader needs to know about the computer that a run was made on."""
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            name = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), name)
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    return {"processor": name, "cores": os.cpu_count() or 1, "gpu": gpu, "system": platform.system()}


def record_of(experiment: str, parameters: dict, executed: str | None, error: str | None, run_seconds: float) -> dict:
    """status: finished or failed · values: what the experiment measured · error: why it has none, in a sentence."""
    values = measured(executed) if executed and error is None else None
    if values is None and error is None:
        error = "the notebook ended without a measurement"
    return {
        "experiment": experiment,
        "parameters": parameters,
        "status": "failed" if error else "finished",
        "error": error,
        "values": values or {},
        "run_seconds": run_seconds,
        "machine": machine(),
        "versions": versions() | {"python": platform.python_version()},
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def measured(executed: str) -> dict | None:
    """The measurement in an executed notebook, or None."""
    shown = shown_data(nbformat.reads(executed, as_version=4))
    return next((dict(data[MEASUREMENT_TYPE]) for data in shown if MEASUREMENT_TYPE in data), None)


def record_file(out: Path, name: str) -> Path:
    return out / "records" / f"{name}.json"


def read_record(out: Path, name: str) -> dict | None:
    """The record of a run, or None if there is none. Raises ValueError if the file is none."""
    file = record_file(out, name)
    if not file.is_file():
        return None
    try:
        record = json.loads(file.read_text())
        if record["status"] not in ("finished", "failed") or not isinstance(record["values"], dict):
            raise ValueError("its status or its values are missing")
        return record
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is not the record of a run ({error}): remove it") from error


def write_record(out: Path, name: str, record: dict) -> None:
    file = record_file(out, name)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text_whole(file, json.dumps(record, indent=1, ensure_ascii=False))


def read_records(out: Path) -> dict[str, dict]:
    """name -> record, of all runs that left one."""
    files = sorted((out / "records").glob("*.json"))
    return {file.stem: record for file in files if (record := read_record(out, file.stem)) is not None}


COMMON = {"epochs": 0, "checkpoint_interval": 0, "train_size": 0, "device": "cpu", "precision": "float32", "threads": 1}
PARAMETERS = COMMON | {
    "task": "digits",
    "seed": 0,
    "attack": "",
    "spoof_steps": 0,
    "off_path": 0.0,
    "adversary_half": "",
    "adversary_device": "",
    "adversary_precision": "",
    "adversary_threads": 0,
}


def tidy_runs(records: dict[str, dict]) -> pd.DataFrame:
    """One row per finished run: `experiment`, its parameters (defaults where it has none), its values, `run_seconds`.

    A folder of images is named by its last part alone.
    """
    rows = []
    for name, record in records.items():
        if record["status"] != "finished":
            continue
        parameters = PARAMETERS | {key: v for key, v in record["parameters"].items() if key in PARAMETERS}
        parameters["task"] = shown_task(str(parameters["task"]))
        rows.append(
            {"name": name, "experiment": record["experiment"]}
            | parameters
            | record["values"]
            | {"run_seconds": record["run_seconds"]}
        )
    order = [
        "experiment",
        "task",
        "adversary_half",
        "attack",
        "spoof_steps",
        "off_path",
        "adversary_device",
        "adversary_precision",
        "adversary_threads",
        "seed",
    ]
    frame = pd.DataFrame(rows)
    return frame.sort_values(order, ignore_index=True) if len(frame) else frame


SETTING = [
    "experiment",
    "task",
    "adversary_half",
    "attack",
    "spoof_steps",
    "off_path",
    "adversary_device",
    "adversary_precision",
    "adversary_threads",
]


def averaged(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean and spread over the repeats of every setting: one row per setting and value.

    Columns: the setting, `value` (its name), `mean`, `deviation` (of the sample; empty for one repeat), `least`,
    `most`, `repeats`. Truth values count as 0 and 1.
    """
    runs = runs.reset_index(drop=True)
    named = [name for name in runs.columns if "." in name or name == "run_seconds"]
    numbers = runs[named].apply(lambda column: pd.to_numeric(column, errors="coerce").astype(float))
    long = runs[SETTING].join(numbers).melt(SETTING, var_name="value", value_name="number").dropna(subset="number")
    grouped = long.groupby([*SETTING, "value"], sort=False)["number"]
    table = grouped.agg(mean="mean", deviation="std", least="min", most="max", repeats="count")
    return table.reset_index()
