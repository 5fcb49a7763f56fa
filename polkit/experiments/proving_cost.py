"""What a proof of one training step costs beside the step itself: seconds, bytes and how they grow."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from polkit.defences.circuit import (
    Batch,
    Circuit,
    Keys,
    compile_step,
    load_ezkl,
    make_keys,
    pixel_batch,
    read_keys,
    to_fixed,
)
from polkit.defences.snark import ProvenStep, make_witness, proof_holds, prove_step
from polkit.experiments.published import paper_data
from polkit.training import training_points
from polkit.training.task import task

YEAR = 365.25 * 86400
WAYS = {False: "every multiplication proved", True: "products checked at random points (Freivalds)"}


@dataclass(frozen=True)
class StepCost:
    """One step of a linear classifier, natively and with a proof; seconds of elapsed time on one machine.

    native_seconds: the same step in torch, float32 · srs_seconds, setup_seconds: once for all steps ·
    witness_seconds: of the witness alone, which proving makes again · proof_bytes: without the public values, 32
    bytes each.
    """

    features: int
    classes: int
    batch_size: int
    freivalds: bool
    operations: int
    rows: int
    logrows: int
    native_seconds: float
    srs_seconds: float
    srs_bytes: int
    setup_seconds: float
    proving_key_bytes: int
    witness_seconds: float
    prove_seconds: float
    proof_bytes: int
    public_values: int
    verify_seconds: float


def measured_step(circuit: Circuit, seed: int = 0) -> StepCost:
    """Proves one step on a batch of `digits` from random weights, with an SRS and keys made for it in a folder that
    is then thrown away. Raises RuntimeError if the proof does not verify."""
    weights, batch = first_step(circuit, seed)
    with TemporaryDirectory() as name:
        folder = Path(name)
        logrows = compile_step(circuit, folder)
        srs_seconds, _ = timed(lambda: load_ezkl().gen_srs(str(folder / "srs"), logrows))
        setup_seconds, _ = timed(lambda: make_keys(folder))
        keys = read_keys(circuit, folder)
        witness_seconds, _ = timed(lambda: make_witness(keys, weights, batch, folder / "witness.json"))
        prove_seconds, proven = timed(lambda: prove_step(keys, weights, batch))
        verify_seconds = statistics.median(timed(lambda: held(keys, proven))[0] for _ in range(5))
        return StepCost(
            circuit.features,
            circuit.classes,
            circuit.batch_size,
            circuit.freivalds,
            circuit.operations,
            keys.rows,
            keys.logrows,
            native_seconds(circuit, weights, batch),
            srs_seconds,
            (folder / "srs").stat().st_size,
            setup_seconds,
            (folder / "proving.key").stat().st_size,
            witness_seconds,
            prove_seconds,
            len(proven.proof),
            2 * circuit.weights + circuit.batch_size * (circuit.features + circuit.classes),
            verify_seconds,
        )


def first_step(circuit: Circuit, seed: int = 0) -> tuple[np.ndarray, Batch]:
    """Random weights of deviation 0.1 in fixed point, and a random batch of `digits`, both drawn from `seed`."""
    generator = np.random.default_rng(seed)
    weights = to_fixed(generator.normal(scale=0.1, size=(circuit.features, circuit.classes)))
    points = training_points(task("digits"))
    chosen = generator.choice(len(points), circuit.batch_size, replace=False)
    return weights, pixel_batch(points.take(chosen), side=round(circuit.features**0.5))


def held(keys: Keys, proven: ProvenStep) -> None:
    if not proof_holds(keys, proven.proof, proven.before, proven.batch, proven.after):
        raise RuntimeError(f"the proof of an honest step of {keys.circuit} does not verify")


def native_seconds(circuit: Circuit, weights: np.ndarray, batch: Batch, steps: int = 500) -> float:
    """Of one step in torch, float32: the median of five times `steps` steps."""
    w, x = torch.tensor(weights / 2**16).float(), torch.tensor(batch.images / 16).float()
    y = F.one_hot(torch.tensor(batch.labels), circuit.classes).float()
    rate = circuit.learning_rate / circuit.batch_size

    def train() -> None:
        moved = w.clone()
        for _ in range(steps):
            moved -= rate * (x.T @ (x @ moved - y))

    return statistics.median(timed(train)[0] for _ in range(5)) / steps


def timed(work: Callable):
    """Seconds that passed, and what came of it."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def seconds_per_operation(steps: pd.DataFrame) -> float:
    """What one operation more costs the prover: the slope of prove_seconds over operations, by least squares, for the
    sizes with the most weights. What a batch costs whatever its size (each weight's rounding) is left out."""
    same = steps[steps["features"] == steps["features"].max()]
    if same["operations"].nunique() < 2:
        raise ValueError("a slope needs steps of one model with two sizes of batch")
    return float(np.polyfit(same["operations"], same["prove_seconds"], 1)[0])


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
        rows.append(
            {
                "prover": f"ezkl, {WAYS[bool(freivalds)]}",
                "model": "ResNet-20",
                "batch_size": 128,
                "step_seconds": seconds_per_operation(mine) * operations,
                "proof_bytes": largest["proof_bytes"],
                "verify_seconds": largest["verify_seconds"],
                "source": "extrapolated from data/results/snark",
            }
        )
    table = pd.concat([pd.DataFrame(rows), paper_data("verifiable_computation")], ignore_index=True)
    table.insert(4, "years", table["step_seconds"] * training_steps / YEAR)
    return table
