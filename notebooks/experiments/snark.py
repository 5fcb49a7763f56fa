"""The measurement of proofs of computation, published, and carried to the paper's training.

`python -m notebooks.experiments.snark` measures and writes data/results/snark anew (`make snark`).
"""

import json
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from polkit.defences.circuit import Circuit
from polkit.experiments.proving_cost import measured_step
from polkit.experiments.published import published
from polkit.proof.storage import versions, write_text_whole
from polkit.reproduce.records import Record
from polkit.reproduce.summary import made_on

CIRCUITS = tuple(
    Circuit(features, batch_size, freivalds=freivalds)
    for freivalds in (False, True)
    for features, batch_size in ((16, 4), (64, 4), (64, 16), (64, 64))
)


def measured_steps(circuits: Sequence[Circuit] = CIRCUITS) -> pd.DataFrame:
    """A row per circuit, with the fields of `StepCost`."""
    rows = []
    for circuit in circuits:
        rows.append(asdict(measured_step(circuit)))
        print(f"{circuit}: proved in {rows[-1]['prove_seconds']:.1f} s", flush=True)
    return pd.DataFrame(rows)


def publish_steps(steps: pd.DataFrame, run_seconds: float, folder: Path) -> None:
    """steps.csv, and made_on.json as the other results have it."""
    folder.mkdir(parents=True, exist_ok=True)
    steps.to_csv(folder / "steps.csv", index=False, float_format="%.4g")
    versions_here = versions() | {"ezkl": version("ezkl"), "python": platform.python_version()}
    record = Record("snark", {}, "finished", None, {}, run_seconds, versions=versions_here)
    facts = made_on([record]) | {"runs": len(steps)}
    write_text_whole(folder / "made_on.json", json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    start = time.perf_counter()
    table = measured_steps()
    publish_steps(table, time.perf_counter() - start, published("snark"))
