"""What a proof of one training step costs, carried from the measured steps to the paper's training."""

import numpy as np
import pandas as pd

from polkit.defences.circuit import CLASSES, Batch, Circuit, pixel_batch, to_fixed
from polkit.experiments.published import paper_data
from polkit.training import training_points
from polkit.training.task import CIFAR10, task

YEAR = 365.25 * 86400
WAYS = {False: "every multiplication proved", True: "products checked at random points (Freivalds)"}


def first_step(circuit: Circuit, seed: int = 0) -> tuple[np.ndarray, Batch]:
    """Random weights of deviation 0.1 in fixed point, and a random batch of `digits`, both drawn from `seed`."""
    generator = np.random.default_rng(seed)
    weights = to_fixed(generator.normal(scale=0.1, size=(circuit.features, CLASSES)))
    points = training_points(task("digits"))
    chosen = generator.choice(len(points), circuit.batch_size, replace=False)
    return weights, pixel_batch(points.take(chosen), side=round(circuit.features**0.5))


def seconds_per_operation(steps: pd.DataFrame) -> float:
    """What one operation more costs the prover: the slope of prove_seconds over operations, by least squares.

    steps: the published "snark/steps", of which the rows with the most weights are taken. What a batch costs at any
        size (the rounding of each weight) is left out.
    """
    same = steps[steps["features"] == steps["features"].max()]
    if same["operations"].nunique() < 2:
        raise ValueError("a slope needs steps of one model with two sizes of batch")
    return float(np.polyfit(same["operations"], same["prove_seconds"], 1)[0])


def extrapolation(steps: pd.DataFrame, operations: int) -> pd.DataFrame:
    """What proving the paper's training would take, beside published provers: a row per prover.

    Our rows assume that proving is linear in operations with the slope measured on small steps; that the machine is
    the same and its memory has no end; and that ReLU, normalisation, momentum and all rounding cost nothing. The
    published rows take another model of 10 million parameters, as its authors measured it, for the paper's. Proof and
    verification of our rows are those of the largest step measured: both grow with the columns, not with the rows.

    operations: of one step of the training
    Columns: step_seconds; years (all steps, one after another, on one machine); proof_bytes and verify_seconds of one
    step.
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
    table.insert(4, "years", table["step_seconds"] * CIFAR10.steps / YEAR)
    return table
