"""The measurement of proofs of computation, published, and carried to the paper's training.

`python -m polkit.reproduce.snark` measures and writes data/results/snark anew (`make snark`).
"""

import json
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from polkit.circuit import Circuit
from polkit.places import versions
from polkit.proving_cost import WAYS, YEAR, measured_step, seconds_per_operation
from polkit.reproduce.claims import paper_data
from polkit.reproduce.records import machine
from polkit.reproduce.summary import made_on, published
from polkit.whole import write_text_whole

CIRCUITS = tuple(
    Circuit(features, batch_size, freivalds=freivalds)
    for freivalds in (False, True) for features, batch_size in ((16, 4), (64, 4), (64, 16), (64, 64))
)  # fmt: skip


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
    record = {"status": "finished", "run_seconds": run_seconds, "machine": machine(),
              "versions": versions() | {"ezkl": version("ezkl"), "python": platform.python_version()},
              "ended": datetime.now(UTC).isoformat(timespec="seconds")}  # fmt: skip
    facts = made_on({"snark": record}) | {"runs": len(steps)}
    write_text_whole(folder / "made_on.json", json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


def read_steps(folder: Path | None = None) -> pd.DataFrame:
    """The published measurement, a row per circuit. Raises FileNotFoundError if there is none."""
    file = (folder or published("snark")) / "steps.csv"
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing: `make snark` writes it")
    return pd.read_csv(file)


def extrapolation(steps: pd.DataFrame, operations: int, training_steps: int = 78_000) -> pd.DataFrame:
    """What proving a training would take, beside published provers: a row per prover.

    operations: of one step of the training · training_steps: T. Columns: step_seconds, years (for all steps, one
    after another, on one machine), proof_bytes and verify_seconds of what the verifier gets for one step.

    Our rows assume that proving is linear in operations with the slope measured on small steps; that the machine is
    the same and its memory has no end; and that ReLU, normalisation, momentum and all rounding cost nothing. The
    published rows take another model of 10 million parameters, as its authors measured it, for the paper's. Proof and
    verification of our rows are those of the largest step measured: both grow with the columns, not with the rows.
    """
    rows = []
    for freivalds, mine in steps.groupby("freivalds"):
        largest = mine.loc[mine["operations"].idxmax()]
        rows.append({"prover": f"ezkl, {WAYS[bool(freivalds)]}", "model": "ResNet-20", "batch_size": 128,
                     "step_seconds": seconds_per_operation(mine) * operations,
                     "proof_bytes": largest["proof_bytes"], "verify_seconds": largest["verify_seconds"],
                     "source": "extrapolated from data/results/snark"})  # fmt: skip
    table = pd.concat([pd.DataFrame(rows), paper_data("verifiable_computation")], ignore_index=True)
    table.insert(4, "years", table["step_seconds"] * training_steps / YEAR)
    return table


if __name__ == "__main__":
    start = time.perf_counter()
    table = measured_steps()
    publish_steps(table, time.perf_counter() - start, published("snark"))
