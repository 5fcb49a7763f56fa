"""python -m tests.benchmarks storage · growth · optimum · steps: measures, prints, keeps a table in data/results."""

import argparse
import platform
from pathlib import Path

import pandas as pd

from polkit.experiments.prepare import prepare
from polkit.experiments.published import published_folder
from polkit.proof.storage import versions
from polkit.reproduce.records import machine
from polkit.training.conditions import Conditions
from polkit.training.task import DIGITS, Task
from polkit.training.task import task as named_task
from tests.benchmarks.growth import growth_table, slopes
from tests.benchmarks.optimum import cheapest, optimum_table
from tests.benchmarks.steps import step_table
from tests.benchmarks.storage import storage_table

STEPPED = ("digits", "cifar10", "imagenet10")


def made_here(table: pd.DataFrame) -> pd.DataFrame:
    """The table with processor, cores and torch in every row: seconds mean nothing without them."""
    here = machine()
    return table.assign(
        processor=here["processor"], cores=here["cores"], torch=versions()["torch"], python=platform.python_version()
    )


def tables(kind: str, task: Task, trainings: int, device: str) -> dict[str, pd.DataFrame]:
    """File name -> table."""
    if kind == "steps":
        tasks = {name: named_task(name) for name in STEPPED}
        return {"steps": step_table(tasks, Conditions(device=device)).assign(gpu=machine()["gpu"])}
    if kind == "growth":
        table = growth_table()
        return {"growth": table, "growth_slopes": slopes(table)}
    prepared = [prepare(task, seed, workers=1) for seed in range(trainings)]
    if kind == "storage":
        return {"storage": storage_table(*prepared[0])}
    found = [optimum_table(*each, progress=True).assign(training=seed) for seed, each in enumerate(prepared)]
    table = pd.concat(found, ignore_index=True)
    return {"optimum": table, "optimum_cheapest": cheapest(table)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("kind", choices=("storage", "growth", "optimum", "steps"))
    parser.add_argument("--trainings", type=int, default=3, help="seeds of the proofs that `optimum` attacks")
    parser.add_argument("--out", type=Path, default=None, help="the tables' folder (default: one in data/results)")
    parser.add_argument("--device", default="cuda", help="of `steps` (default: cuda)")
    options = parser.parse_args(arguments)
    trainings = options.trainings if options.kind == "optimum" else 1
    out = options.out or published_folder() / ("gpu" if options.kind == "steps" else "digits")
    out.mkdir(parents=True, exist_ok=True)
    for name, table in tables(options.kind, DIGITS, trainings, options.device).items():
        print(table.to_string(index=False))
        made_here(table).to_csv(out / f"{name}.csv", index=False, float_format="%.6g")


if __name__ == "__main__":
    main()
