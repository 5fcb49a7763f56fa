"""Calibrating the verification threshold δ: max ε_repr < δ < d_ref, before any proof is judged (Section II-D)."""

import json
import math
import os
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd

from polkit.proof import Proof, cache_folder, made_alone, read_json, shown, tensor_shapes, write_text_whole
from polkit.prover import cached_proof, prove, train
from polkit.training import (
    DISTANCES,
    PARTS,
    Checkpoint,
    Conditions,
    Cost,
    Meter,
    Points,
    Progress,
    Task,
    applied,
    derive_seed,
    distances,
    run_jobs,
    training_points,
    unit_costs,
)
from polkit.verifier.replay import interval_jobs

CALIBRATION_BYTES = 2**20  # ours have 3 kB
NUMBERS = ("margin", "replays", "false_rejection_rate", "interval_false_rejection_rate")
LARGEST = sys.float_info.max
CONDITION_TYPES = {field.name: field.type for field in fields(Conditions)}
DEVICES = re.compile(r"cpu|mps|(cuda|xpu)(:\d{1,3})?")
MOST_THREADS = 4096
MOST_ELEMENTS = 2 * 10**9  # of a checkpoint; a ResNet-50's has 47 million
Table = Mapping[str, Mapping[str, float]]  # part -> distance -> value


@dataclass(frozen=True)
class Calibration:
    """What a verifier knows before it sees a proof: the task, its own Conditions, and δ in each distance.

    thresholds: δ; ∞ where no δ exists for a distance of the buffers, which then decides nothing ·
    honest_maximum: max_t ε_repr(t) over all replays · reference: d_ref, the distance between two models trained
    independently; each part -> distance -> value. The weights' tables are the paper's; the buffers' hold the running
    means and variances of the normalisation layers to the same standard.
    margin: δ is the honest maximum times this · false_rejection_rate: the share of replays that would be
    rejected by a δ calibrated on the other replays alone · interval_false_rejection_rate: likewise, of intervals.
    """

    task: Task
    conditions: Conditions
    thresholds: Table
    honest_maximum: Table
    reference: Table
    margin: float
    replays: int
    false_rejection_rate: float
    interval_false_rejection_rate: float
    cost: Cost

    def normalised(self, values: Mapping[str, float], part: str = "weights") -> dict[str, float]:
        """Each distance divided by d_ref: the paper's normalised reproduction error."""
        return {name: values[name] / self.reference[part][name] for name in values}

    def scaled(self, factor: float) -> "Calibration":
        """The same calibration with every δ multiplied by `factor`."""
        thresholds = {
            part: {name: value * factor for name, value in table.items()} for part, table in self.thresholds.items()
        }
        return Calibration(**{**self.__dict__, "thresholds": thresholds})

    @property
    def undecided(self) -> list[str]:
        """The distances of the buffers that have no δ, because honest replays come as far as d_ref."""
        return [name for name, value in self.thresholds["buffers"].items() if math.isinf(value)]

    def save(self, file: str | Path) -> None:
        values = asdict(self) | {"task": self.task.to_json(), "conditions": self.conditions.to_json()}
        # JSON has no ∞.
        values["thresholds"]["buffers"] |= dict.fromkeys(self.undecided)
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        write_text_whole(Path(file), json.dumps(values, indent=1, allow_nan=False))


def load_calibration(file: str | Path) -> Calibration:
    """Raises ValueError, in one sentence, if the file is not a calibration; it may come from somebody else."""
    try:
        values = read_json(file, CALIBRATION_BYTES)
        buffers = values["thresholds"]["buffers"]
        undecided = [name for name in DISTANCES if buffers[name] is None]
        buffers |= dict.fromkeys(undecided, 0.0)
        tables = {name: values[name] for name in ("thresholds", "honest_maximum", "reference")}
        for name, table in tables.items():
            if set(table) != set(PARTS) or any(set(table[part]) != set(DISTANCES) for part in PARTS):
                raise ValueError(f"{name} must have the parts {', '.join(PARTS)}, each with {', '.join(DISTANCES)}")
            if not all(_is_number(number) for part in PARTS for number in table[part].values()):
                raise ValueError(f"{name} holds something other than distances")
        if not all(_is_number(values[name]) for name in NUMBERS) or not all(map(_is_number, values["cost"].values())):
            raise ValueError("its margin, replays, rates and cost must be numbers")
        buffers |= dict.fromkeys(undecided, math.inf)
        task, conditions = Task.from_json(values["task"]), Conditions(**values["conditions"])
        if {name: type(value) for name, value in asdict(conditions).items()} != CONDITION_TYPES:
            raise ValueError(f"its conditions must be {', '.join(CONDITION_TYPES)}, each of its own type")
        if not DEVICES.fullmatch(conditions.device) or conditions.threads > MOST_THREADS:
            raise ValueError(f"it asks for {conditions.threads} threads on {conditions.device!r}")
        if sum(shape.numel() for shape in tensor_shapes(task).values()) > MOST_ELEMENTS:
            raise ValueError(f"the model of task {task.name} has more than {MOST_ELEMENTS} numbers")
        return Calibration(**values | {"task": task, "conditions": conditions, "cost": Cost(**values["cost"])})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        text = f"{file} is not a calibration that `polkit calibrate` wrote ({error})"
        raise ValueError(shown(text)) from error


def _is_number(value: object) -> bool:
    """A finite one that is not negative: no bool, and no whole number that a float cannot hold."""
    return type(value) in (int, float) and 0 <= value <= LARGEST


def calibrate(
    proof: Proof,
    *,
    conditions: Conditions = Conditions(augmentation="redraw"),
    replays: int = 4,
    first_epochs: int | None = None,
    margin: float = 1.5,
    seed: int = 1,
    workers: int | None = None,
    out: str | Path | None = None,
    progress: Progress = True,
) -> Calibration:
    """δ for the task of an honest proof, as its verifier's own Conditions make it.

    Replays every interval (or those of the `first_epochs`, where errors are largest) `replays` times with
    independent draws, trains a second model from another seed for d_ref, its distance to the proof's, and sets
    δ = margin · max ε_repr in each distance. Kept in the cache, or in `out`.
    workers: threads or processes to spread the work over (default: one per core).
    A δ that would not lie below d_ref decides nothing: that of a distance of the buffers becomes ∞.
    Raises ValueError if replays < 2, margin <= 1, or if some δ of the weights would not lie below d_ref.
    """
    settings = {"replays": replays, "first_epochs": first_epochs, "margin": margin, "seed": seed}
    file = _calibration_file(proof, conditions, settings, out)
    if not out and file.exists():
        return load_calibration(file)
    with made_alone(file):
        if not out and file.exists():
            return load_calibration(file)
        return _measure(proof, conditions, **settings, workers=workers, file=file, progress=progress)


def prepare(
    task: Task,
    seed: int = 0,
    *,
    conditions: Conditions = Conditions(),
    replays: int = 4,
    workers: int | None = None,
    progress: Progress = True,
) -> tuple[Proof, Calibration]:
    """What every chapter after the second starts from: `prove`, then `calibrate` with redrawn augmentation.

    So that an empty cache costs a reader about a minute on two cores, the model for d_ref is trained in a second
    process while the proof is being made, and only the first 25 epochs are replayed. A shortcut: in
    six trainings of `digits`, other replays of the later epochs reached 0.66 δ at most, and the largest error of the
    first 25 lies at δ / 1.5 = 0.67 δ.
    """
    redrawn = conditions.replace(augmentation="redraw")
    settings = {"replays": replays, "first_epochs": 25, "margin": 1.5, "seed": 1}
    if cached_proof(task, seed, conditions).exists() or workers == 1:
        proof = prove(task, seed, conditions=conditions, progress=progress)
        return proof, calibrate(proof, conditions=redrawn, workers=workers, progress=progress, **settings)
    import joblib  # takes 0.03 s to import

    # A process, not a thread: the proof's own seconds must not be those of a shared interpreter.
    beside = joblib.Parallel(n_jobs=2, return_as="generator")(
        [joblib.delayed(_reference)(task, settings["seed"], redrawn)]
    )
    proof = prove(task, seed, conditions=conditions, progress=progress)
    file = _calibration_file(proof, redrawn, settings, out=None)
    with made_alone(file):
        if file.exists():  # another process has made both meanwhile
            return proof, load_calibration(file)
        return proof, _measure(
            proof, redrawn, **settings, workers=workers, file=file, progress=progress, reference=next(beside)
        )


def _calibration_file(proof: Proof, conditions: Conditions, settings: dict, out: str | Path | None) -> Path:
    if settings["replays"] < 2:
        raise ValueError(f"{settings['replays']} replay cannot show a false rejection: use at least 2")
    if settings["margin"] <= 1:
        raise ValueError(f"the margin is {settings['margin']}: δ lies above honest errors only if greater than 1")
    facts = {"proof": proof.digest, "conditions": conditions.to_json(), **settings}
    return Path(out) if out else cache_folder("calibrations", **facts).with_suffix(".json")


def _measure(
    proof: Proof,
    conditions: Conditions,
    *,
    replays: int,
    first_epochs: int | None,
    margin: float,
    seed: int,
    workers: int | None,
    file: Path,
    progress: Progress,
    reference: tuple[Checkpoint, float] | None = None,
) -> Calibration:
    task, meter = proof.task, Meter(unit_costs(proof.task, ["update"]))
    last = task.steps if first_epochs is None else first_epochs * task.steps_per_epoch
    starts = [start for start in proof.checkpoint_steps[:-1] if start < last]
    steps_replayed = sum(min(start + proof.checkpoint_interval, proof.steps) - start for start in starts)
    jobs = [] if reference else [(_reference, (task, seed, conditions, proof.points()))]
    seeds = [derive_seed(seed, "replay", number) for number in range(replays)]
    repeats = [interval_jobs(proof, task, conditions, starts, each) for each in seeds]
    jobs += [job for repeat in repeats for job in repeat]
    workers = workers or max(1, (os.cpu_count() or 1) // conditions.threads)
    with applied(conditions):
        found = list(run_jobs(jobs, workers, "calibrating", progress))
    second, seconds_before = reference or (found.pop(0)[0], 0.0)
    meter.charge("update", replays * steps_replayed + task.steps)
    results = iter(found)
    replayed = [pd.DataFrame([row for _ in repeat for row in next(results)]) for repeat in repeats]
    own = proof.checkpoint(proof.steps)
    d_ref = {part: distances(own.parts()[part], second.parts()[part]) for part in PARTS}
    spent = meter.cost() + Cost(wall_seconds=seconds_before)
    calibration = _calibration(task, conditions, d_ref, replayed, margin, spent)
    calibration.save(file)
    return calibration


def _reference(task: Task, seed: int, conditions: Conditions, points: Points | None = None) -> tuple[Checkpoint, float]:
    """W_T of another training, with other initial weights and other batches, and the seconds that it took.

    points: those of the honest proof, if they travel with it.
    """
    begun = time.perf_counter()
    points = training_points(task) if points is None else points
    return train(task, derive_seed(seed, "reference"), conditions, points), time.perf_counter() - begun


def _calibration(
    task: Task, conditions: Conditions, reference: Table, replayed: list[pd.DataFrame], margin: float, cost: Cost
) -> Calibration:
    errors = pd.concat(replayed, keys=range(len(replayed)), names=["replay"]).reset_index("replay")
    maxima = errors.groupby(["replay", "part", "distance"])["error"].max()
    honest = maxima.groupby(["part", "distance"]).max()
    thresholds = honest * margin
    undecided = []
    for part in PARTS:
        for name in DISTANCES:
            if thresholds[part, name] < reference[part][name]:
                continue
            if part == "weights":
                raise ValueError(
                    f"no threshold exists for the {part} in {name}: the honest errors reach "
                    f"{honest[part, name]:.3g}, times {margin} that is not below d_ref = {reference[part][name]:.3g}"
                )
            undecided.append((part, name))
    thresholds.loc[undecided] = math.inf
    rejected_runs, rejected_intervals = [], []
    for held_out in range(len(replayed)):
        others = maxima.drop(index=held_out, level="replay").groupby(["part", "distance"]).max() * margin
        others.loc[undecided] = math.inf
        tested = errors[errors["replay"] == held_out].set_index(["part", "distance"])
        above = tested["error"] > others.reindex(tested.index)
        rejected_runs.append(bool(above.any()))
        rejected_intervals.append(above.groupby(tested["start"].to_numpy()).any().mean())

    def table(values: pd.Series) -> dict[str, dict[str, float]]:
        return {part: {name: float(values[part, name]) for name in DISTANCES} for part in PARTS}

    return Calibration(
        task=task,
        conditions=conditions,
        thresholds=table(thresholds),
        honest_maximum=table(honest),
        reference=reference,
        margin=margin,
        replays=len(replayed),
        false_rejection_rate=float(pd.Series(rejected_runs).mean()),
        interval_false_rejection_rate=float(pd.Series(rejected_intervals).mean()),
        cost=cost,
    )
