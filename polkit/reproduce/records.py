"""One record per run, as JSON: what was run, on what, what it took, and what it measured."""

import json
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import torch

from polkit.proof import versions, write_whole
from polkit.training import is_debris, shown_task, signature, test_points, training_points
from polkit.training.task import task


def machine() -> dict[str, str | int]:
    """What a reader needs to know about the computer that a run was made on."""
    facts = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"^model name\s*:\s*(.*)", facts, re.MULTILINE)
    name = model[1].strip() if model else platform.processor() or platform.machine()
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    return {"processor": name, "cores": os.cpu_count() or 1, "gpu": gpu, "system": platform.system()}


@dataclass(frozen=True)
class Record:
    """What came of one run, made where this is called."""

    experiment: str
    parameters: dict[str, object]
    status: str  # finished or failed
    error: str | None  # why it failed, in a sentence
    values: dict[str, float | bool | str | None]  # what the experiment measured
    run_seconds: float
    machine: dict[str, str | int] = field(default_factory=machine)
    versions: dict[str, str] = field(default_factory=lambda: versions() | {"python": platform.python_version()})
    ended: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    images: str = ""  # of a task `folder:PATH`, whose pictures can be replaced: their digest, as `images_of` has it

    @property
    def finished(self) -> bool:
        return self.status == "finished"


def read_record(out: Path, name: str) -> Record | None:
    """The record of a run, or None if there is none. Raises ValueError if the file is not a record."""
    file = out / "records" / f"{name}.json"
    if not file.is_file():
        return None
    try:
        return Record(**json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file} is not the record of a run ({error}): remove it") from error


def write_record(out: Path, name: str, record: Record) -> None:
    (out / "records").mkdir(parents=True, exist_ok=True)
    write_whole(out / "records" / f"{name}.json", json.dumps(asdict(record), indent=1, ensure_ascii=False))


def read_records(out: Path) -> dict[str, Record]:
    files = sorted(file for file in (out / "records").glob("*.json") if not is_debris(file.name))
    return {file.stem: read_record(out, file.stem) for file in files}


def images_of(task_name: str) -> str:
    """A digest of the pictures of a task `folder:PATH`, for training and testing; nothing for other tasks."""
    chosen = task(task_name)
    both = (training_points(chosen), test_points(chosen)) if chosen.data.startswith("folder:") else ()
    return "".join(signature(points).hex() for points in both)


def require_same_images(out: Path, images: Mapping[str, str]) -> None:
    """Raises ValueError if `out` has finished records of other pictures than these; images: a task -> `images_of` it"""
    now = {shown_task(name): digest for name, digest in images.items()}
    for name, record in read_records(out).items():
        shown = shown_task(str(record.parameters.get("task", "")))
        if record.finished and record.images != now.get(shown, record.images):
            raise ValueError(f"{out} has {name}, of other pictures of {shown}: give these an --out of their own")


COMMON = {"epochs": 0, "checkpoint_interval": 0, "train_size": 0, "device": "cpu", "precision": "float32", "threads": 1}
PARAMETERS = COMMON | {
    "regime": "strict",
    "task": "digits",
    "seed": 0,
    "adversary_half": "",
    "attack": "",
    "spoof_steps": 0,
    "spoof_learning_rate": 0.0,
    "spoof_interval": 0,
    "iterations": 0,
    "movement_limit": 0.0,
    "stopping_test": True,
    "leave_within": 0.0,
    "weigh_linf": False,
}
PARAMETERS |= {"off_path": 0.0, "pace": "", "trained_steps": 0, "draws": 0, "retries": 0}
PARAMETERS |= {"noise_weight": -1.0, "keep_normalisation": False}
PARAMETERS |= {"adversary_device": "", "adversary_precision": "", "adversary_threads": 0}
SETTING = ["experiment", *(name for name in PARAMETERS if name not in ("seed", *COMMON))]
SUFFIXES = {"strict": "", "paper": "_paper"}  # of the tables of runs and averages, by regime


def tidy_runs(records: dict[str, Record]) -> pd.DataFrame:
    """One row per finished run: `experiment`, its parameters (or defaults), its values, `run_seconds`."""
    rows = []
    for name, record in records.items():
        if record.finished:
            parameters = {key: record.parameters.get(key, default) for key, default in PARAMETERS.items()}
            parameters["task"] = shown_task(str(parameters["task"]))  # a folder of images by its last part alone
            parameters["pace"] = " ".join(f"{steps:g}:{path:g}" for steps, path in parameters["pace"])
            known = {"name": name, "experiment": record.experiment, **parameters, **record.values}
            rows.append(known | {"run_seconds": record.run_seconds})
    return pd.DataFrame(rows).sort_values([*SETTING, "seed"], ignore_index=True) if rows else pd.DataFrame()


def averaged(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean and spread over the repeats: a row per setting and value. Truth values count as 0 and 1.

    Columns: the setting, value (its name), mean, deviation (of the sample; empty for one repeat), least, most, repeats
    """
    # An older table lacks what was not a parameter when it was made.
    older = pd.DataFrame({name: PARAMETERS[name] for name in SETTING if name not in runs}, index=range(len(runs)))
    runs = runs.reset_index(drop=True).join(older)
    named = [name for name in runs.columns if "." in name or name == "run_seconds"]
    numbers = runs[named].apply(lambda column: pd.to_numeric(column, errors="coerce").astype(float))
    long = runs[SETTING].join(numbers).melt(SETTING, var_name="value", value_name="number").dropna(subset="number")
    grouped = long.groupby([*SETTING, "value"], sort=False)["number"]
    return grouped.agg(mean="mean", deviation="std", least="min", most="max", repeats="count").reset_index()
