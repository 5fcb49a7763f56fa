"""Calibrating the verification threshold δ: max ε_repr < δ < d_ref, before any proof is judged (Section II-D)."""

import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from polkit.proof import Proof, cache_folder, made_alone, read_json, shown, tensor_shapes, write_whole
from polkit.proof.storage import require_writable
from polkit.prover import train
from polkit.training import DISTANCES, PARTS, Checkpoint, Conditions, Points, Task, applied, distances, training_points
from polkit.training.conditions import require_machine
from polkit.training.cost import Cost, Meter, unit_costs
from polkit.training.data import derive_seed
from polkit.training.jobs import Progress, run_jobs
from polkit.training.task import whole
from polkit.verifier.inspection import check_files
from polkit.verifier.regime import STRICT, Regime
from polkit.verifier.replay import Table, compared, interval_jobs, looked_up

MOST_ELEMENTS = 2 * 10**9  # of a checkpoint; a ResNet-50's has 47 million
RATES = ("margin", "replays", "false_rejection_rate", "interval_false_rejection_rate")
Reference = tuple[Checkpoint, float]  # an independently trained model, and the seconds that it took


@dataclass(frozen=True)
class Calibration:
    """What a verifier knows before it sees a proof. Tables: part -> distance -> value; the paper's are the weights'."""

    task: Task
    regime: Regime  # the rules that the thresholds belong to
    conditions: Conditions  # of the verifier's own replays
    thresholds: Table  # δ; ∞ where none exists for a distance of the buffers, which then decides nothing
    honest_maximum: Table  # max_t ε_repr(t) over all replays
    reference: Table  # d_ref, the distance between two models that were trained independently
    margin: float  # δ is the honest maximum times this
    replays: int  # how often each interval was replayed
    false_rejection_rate: float  # the share of replays that a δ calibrated on the others alone would reject
    interval_false_rejection_rate: float  # the share of their intervals
    cost: Cost

    def normalised(self, values: Mapping[str, float], part: str = "weights") -> dict[str, float]:
        """Each distance divided by d_ref: the paper's normalised reproduction error."""
        return {name: values[name] / self.reference[part][name] for name in values}

    def scaled(self, factor: float) -> "Calibration":
        """The same calibration with every δ multiplied by `factor`."""
        scaled = {part: {name: each * factor for name, each in own.items()} for part, own in self.thresholds.items()}
        return replace(self, thresholds=scaled)

    def save(self, file: str | Path) -> None:
        values = asdict(self) | {name: getattr(self, name).to_json() for name in ("task", "regime", "conditions")}
        buffers = values["thresholds"]["buffers"]
        buffers |= {name: None for name, value in buffers.items() if math.isinf(value)}  # JSON has no ∞
        save_settings(file, values)


def save_settings(file: str | Path, values: dict) -> None:
    """Writes what a verifier has measured as JSON."""
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    write_whole(Path(file), json.dumps(values, indent=1, allow_nan=False))


def load_settings(file: str | Path, wanted: str, read: Callable[[dict], Any]) -> Any:
    """What `read` makes of a file that somebody else may have written; ValueError, in one sentence, if it cannot."""
    try:
        return read(read_json(file, 2**20))  # ours have 3 kB
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(shown(f"{file} {wanted} ({error})")) from error


def load_calibration(file: str | Path) -> Calibration:
    """Raises ValueError, in one sentence, if the file is not a calibration; it may come from somebody else."""
    return load_settings(file, "is not a calibration that `polkit calibrate` wrote", _read_calibration)


def _read_calibration(values: dict) -> Calibration:
    task, buffers = Task.from_json(values["task"]), values["thresholds"]["buffers"]
    if sum(shape.numel() for shape in tensor_shapes(task).values()) > MOST_ELEMENTS:
        raise ValueError(f"the model of task {task.name} has more than {MOST_ELEMENTS} numbers")
    buffers |= {name: math.inf for name, value in buffers.items() if value is None}
    read = {name: read_table(name, values[name], PARTS) for name in ("thresholds", "honest_maximum", "reference")}
    read |= {name: read_number(name, values[name]) for name in RATES}
    read |= {"task": task, "regime": Regime.from_json(values["regime"])}
    read["conditions"] = read_conditions(values["conditions"])
    if read["regime"].conditions(read["conditions"]) != read["conditions"]:
        raise ValueError(f"its conditions are not those of its regime {read['regime'].name!r}")
    read["cost"] = Cost(**{meter: read_number(meter, value) for meter, value in values["cost"].items()})
    return Calibration(**values | read)


def read_table(name: str, values: Table, parts: Sequence[str]) -> Table:
    """part -> distance -> number, with all these parts and distances and no others."""
    if set(values) != set(parts) or any(set(values[part]) != set(DISTANCES) for part in parts):
        raise ValueError(f"{name} must have the parts {', '.join(parts)}, each with {', '.join(DISTANCES)}")
    return {part: {each: read_number(name, value) for each, value in values[part].items()} for part in parts}


def read_number(name: str, value: object) -> float:
    """A number that is not negative: no bool, and no whole number that a float cannot hold."""
    if type(value) not in (int, float) or not (0 <= value <= sys.float_info.max or value == math.inf):
        raise ValueError(f"{name} holds {value!r}, where a number from 0 up must be")
    return value


def read_conditions(values: dict) -> Conditions:
    conditions, types = Conditions(**values), {field.name: field.type for field in fields(Conditions)}
    if {name: type(value) for name, value in asdict(conditions).items()} != types:
        raise ValueError(f"its conditions must be {', '.join(types)}, each of its own type")
    if not re.fullmatch(r"cpu|mps|(cuda|xpu)(:\d{1,3})?", conditions.device) or conditions.threads > 4096:
        require_machine(conditions)  # of others only at a replay: another verifier may have them
    return conditions


def calibrate(
    proof: Proof,
    *,
    regime: Regime = STRICT,
    conditions: Conditions = Conditions(),
    replays: int = 4,
    first_epochs: int | None = None,
    margin: float = 1.5,
    seed: int = 1,
    workers: int | None = None,
    out: str | Path | None = None,
    progress: Progress = True,
    reference: Iterator[Reference] | None = None,
) -> Calibration:
    """δ = margin · max ε_repr in each distance, over replays of an honest proof by a verifier of this regime.

    d_ref is the distance to a second model, from another seed. A δ of the buffers that is not below it becomes ∞.

    regime: decides the augmentation of the replays, and their precision
    conditions: of the verifier's machine in all else
    replays: of each interval, with independent draws; where nothing is drawn, one stands for all
    first_epochs: replay the intervals of these alone, where errors are largest
    seed: of the draws and of the second model
    workers: threads or processes to spread the work over (default: one per core)
    out: the file to keep it in (default: one in the cache, read if it is there)
    reference: gives the second model, if somebody else trains it

    Raises ValueError if a file is not the proof's own, replays < 2, first_epochs < 1, margin <= 1, or some δ of the
    weights would not be below d_ref.
    """
    _require(proof, regime, margin)
    replays, seed = whole("replays", replays, 2), whole("the seed", seed)
    first_epochs = None if first_epochs is None else whole("first_epochs", first_epochs, 1)
    own, conditions = conditions, regime.conditions(conditions)
    workers = max(1, (os.cpu_count() or 1) // own.threads) if workers is None else whole("workers", workers, 1)
    facts = {"replays": replays, "first_epochs": first_epochs, "margin": margin, "seed": seed}
    facts |= {"regime": regime.to_json(), "proof": proof.digest, "conditions": conditions.to_json()}
    facts |= {} if own.precision == conditions.precision else {"reference_precision": own.precision}
    file = Path(out) if out else cache_folder("calibrations", ".json", **facts)
    if not out and file.exists():
        return replace(load_calibration(file), task=proof.task)  # whose folder of images may have moved
    require_writable(file, file=True)
    with made_alone(file):
        if not out and file.exists():  # another process has made it meanwhile
            return replace(load_calibration(file), task=proof.task)
        task, meter = proof.task, Meter(unit_costs(proof.task, ["update"]))
        last = task.steps if first_epochs is None else first_epochs * task.steps_per_epoch
        starts = [start for start in proof.checkpoint_steps[:-1] if start < last]
        jobs = [] if reference else [(train_reference, (task, seed, own, proof.points()))]
        different = replays if regime.augmentation == "redrawn" else 1
        for number in range(different):
            jobs += interval_jobs(proof, task, conditions, starts, derive_seed(seed, "replay", number))
        with applied(conditions):
            found = list(run_jobs(jobs, workers, "calibrating", progress))
        replayed = sum(min(start + proof.checkpoint_interval, proof.steps) - start for start in starts)
        meter.charge("update", different * replayed + task.steps)
        second, seconds = next(reference) if reference else found.pop(0)
        errors = pd.DataFrame([row for rows in found * (replays // different) for row in rows])
        errors["replay"] = np.arange(replays).repeat(len(errors) // replays)
        once = errors[errors["replay"] < different].drop_duplicates(["start", "replay"])
        cost = replace(meter.cost(), wall_seconds=seconds + float(once["seconds"].sum()))  # of all workers
        with applied(conditions):  # with more threads, the sums of a distance are rounded in another order
            first, other = proof.checkpoint(proof.steps).parts(), second.parts()
            apart = {part: distances(first[part], other[part]) for part in PARTS}
        made = Calibration(task, regime, conditions, margin=margin, cost=cost, **thresholds_of(errors, apart, margin))
        made.save(file)
        return made


def _require(proof: Proof, regime: Regime, margin: float) -> None:
    if margin <= 1:
        raise ValueError(f"the margin is {margin}: δ lies above honest errors only if greater than 1")
    if regime.task(proof.task) != proof.task:
        raise ValueError(f"the regime {regime.name!r} has no augmentation: prove regime.task(task)")
    if wrong := check_files(proof, proof.task):
        raise ValueError(f"{proof.folder} is no whole proof to calibrate on: {wrong[0]}")


def train_reference(task: Task, seed: int, conditions: Conditions, points: Points | None = None) -> Reference:
    """W_T of a training with other initial weights and batches. points: the honest proof's, if they travel with it."""
    begun = time.perf_counter()
    points = training_points(task) if points is None else points
    return train(task, derive_seed(seed, "reference"), conditions, points), time.perf_counter() - begun


def thresholds_of(errors: pd.DataFrame, reference: Table, margin: float) -> dict:
    """The fields of a Calibration that follow from d_ref and from `interval_errors` with a column `replay`."""
    apart = pd.Series({(part, name): reference[part][name] for part in PARTS for name in DISTANCES})
    largest = errors.groupby(["part", "distance", "replay"])["error"].agg(lambda found: found.max(skipna=False))
    maxima = largest.unstack("replay").loc[apart.index]
    highest = maxima.max(axis=1, skipna=False)
    undecided = ~(highest * margin < apart)
    for part, name in undecided.index[undecided]:
        if part == "weights":
            raise ValueError(
                f"no threshold exists for the weights in {name}: the honest errors reach {highest[part, name]:.3g}, "
                f"times {margin} that is not below d_ref = {apart[part, name]:.3g}"
            )
    rejected = []
    for held_out, rows in errors.groupby("replay"):
        others = maxima.drop(columns=held_out).max(axis=1, skipna=False) * margin
        passed = compared(rows, looked_up(_table(others.mask(undecided, math.inf)), rows))["passed"]
        rejected.append((~passed).groupby(rows["start"]).any())
    return {
        "thresholds": _table((highest * margin).mask(undecided, math.inf)),
        "honest_maximum": _table(highest),
        "reference": reference,
        "replays": len(rejected),
        "false_rejection_rate": float(np.mean([each.any() for each in rejected])),
        "interval_false_rejection_rate": float(np.mean([each.mean() for each in rejected])),
    }


def _table(values: pd.Series) -> Table:
    return {part: {name: float(values[part, name]) for name in DISTANCES} for part in PARTS}
