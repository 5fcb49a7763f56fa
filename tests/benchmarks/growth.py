"""How the cost of each party grows with T, k, Q, T' and the number of parameters."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from polkit.adversary import attack_2, attack_3, interpolation_only
from polkit.proof.checkpoints import tensor_shapes
from polkit.proof.folder import Proof
from polkit.prover import prove
from polkit.training.conditions import Conditions, applied
from polkit.training.cost import Cost, unit_costs
from polkit.training.step import Learner, initial_checkpoint
from polkit.training.task import DIGITS, Task
from polkit.verifier.calibration import Calibration, calibrate
from polkit.verifier.verdict import verify
from tests.benchmarks.loops import random_points, seconds_of

METERS = ("floating_point_operations", "stored_bytes", "wall_seconds")
MODELS = ("resnet8", "resnet20", "resnet18", "resnet50")
SHORT = DIGITS.replace(epochs=10)  # T = 220


def row(party: str, variable: str, value: int, cost: Cost) -> dict:
    return {"party": party, "variable": variable, "value": value} | {meter: getattr(cost, meter) for meter in METERS}


def made(task: Task, folder: Path) -> tuple[Proof, Calibration]:
    proof = prove(task, out=folder / "proof", progress=False)
    calibration = calibrate(proof, replays=2, margin=2.0, workers=1, out=folder / "calibration.json", progress=False)
    return proof, calibration


def over_length(epochs: tuple[int, ...]) -> Iterator[dict]:
    """Prover, verifier at Q = 1 and all, and calibration over T."""
    for count in epochs:
        with tempfile.TemporaryDirectory() as folder:
            proof, calibration = made(DIGITS.replace(epochs=count), Path(folder))
            yield row("prove", "T", proof.steps, proof.cost())
            yield row("calibrate", "T", proof.steps, calibration.cost)
            for top_q in (1, "all"):
                yield row(f"verify, Q = {top_q}", "T", proof.steps, verify(proof, calibration, top_q=top_q).cost)


def over_interval(intervals: tuple[int, ...], task: Task) -> Iterator[dict]:
    """Prover and verifier over k, at one T."""
    for interval in intervals:
        with tempfile.TemporaryDirectory() as folder:
            proof, calibration = made(task.replace(checkpoint_interval=interval), Path(folder))
            yield row("prove", "k", interval, proof.cost())
            yield row("verify, Q = 1", "k", interval, verify(proof, calibration, top_q=1).cost)


def over_top_q(numbers: tuple[int, ...], task: Task) -> Iterator[dict]:
    with tempfile.TemporaryDirectory() as folder:
        proof, calibration = made(task.replace(checkpoint_interval=1), Path(folder))
        for top_q in numbers:
            yield row("verify", "Q", top_q, verify(proof, calibration, top_q=top_q).cost)


def over_spoof_steps(lengths: tuple[int, ...], task: Task) -> Iterator[dict]:
    """Three adversaries over T'; no stopping test, so that every batch takes its two iterations whatever δ is."""
    with tempfile.TemporaryDirectory() as folder:
        proof, calibration = made(task, Path(folder))
        for steps in lengths:
            for attack in (attack_2, attack_3, interpolation_only):
                effort = {"calibration": calibration, "iterations": 2, "stopping_test": False}
                effort = {} if attack is interpolation_only else effort
                spoof = attack(
                    proof.final_weights(),
                    task,
                    spoof_steps=steps,
                    seed=1,
                    out=Path(folder) / f"{attack.__name__}-{steps}",
                    progress=False,
                    **effort,
                )
                yield row(attack.__name__, "T'", steps, spoof.cost())


def over_parameters(models: tuple[str, ...], steps: int = 2, repeats: int = 3) -> Iterator[dict]:
    """One update, and the bytes of one checkpoint, over the size of the model: 32 images of 3x32x32."""
    conditions = Conditions()
    for model in models:
        task = DIGITS.replace(model=model, image_shape=(3, 32, 32), batch_size=32)
        shapes = tensor_shapes(task)
        parameters = sum(shape.numel() for name, shape in shapes.items() if name.startswith("weights."))
        points = random_points(task, task.batch_size)
        with applied(conditions):
            learner = Learner(task, conditions)
            learner.load(initial_checkpoint(task, 0))
            learner.update(points, step=0, augmentation_seed=0)
            seconds = min(
                seconds_of(lambda: learner.update(points, step=0, augmentation_seed=0))  # noqa: B023
                for _ in range(repeats)
            )
        stored = 4 * sum(shape.numel() for shape in shapes.values())
        operations = unit_costs(task, ["update"])["update"].floating_point_operations
        yield row("one update", "parameters", parameters, Cost(1, operations, seconds, stored))


def growth_table() -> pd.DataFrame:
    """One row per party, variable and value, with the meters; at least a decade of each variable. Two minutes."""
    parts: tuple[Callable[[], Iterator[dict]], ...] = (
        lambda: over_length((1, 3, 10, 30)),
        lambda: over_interval((1, 3, 10, 30, 100), SHORT),
        lambda: over_top_q((1, 2, 5, 10, 20), SHORT),
        lambda: over_spoof_steps((10, 30, 100, 200), SHORT),
        lambda: over_parameters(MODELS),
    )
    return pd.DataFrame([found for part in parts for found in part()])


def slopes(table: pd.DataFrame) -> pd.DataFrame:
    """The exponent of each meter's growth: the slope of a line through the logarithms, and the largest factor by which
    a point lies off it. Meters that are zero are left out."""
    rows = []
    for (party, variable), found in table.groupby(["party", "variable"], sort=False):
        for meter in METERS:
            if len(found) < 2 or not (found[meter] > 0).all():
                continue
            x, y = np.log(found["value"].to_numpy(float)), np.log(found[meter].to_numpy(float))
            slope, constant = np.polyfit(x, y, 1)
            off = float(np.exp(np.abs(slope * x + constant - y).max()))
            rows.append(
                {
                    "party": party,
                    "variable": variable,
                    "meter": meter,
                    "slope": float(slope),
                    "largest_factor_off": off,
                    "least": found["value"].min(),
                    "most": found["value"].max(),
                }
            )
    return pd.DataFrame(rows)
