"""Calibrating the verification threshold δ: max ε_repr < δ < d_ref, before any proof is judged (Section II-D)."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from polkit.checkpoints import write_text_whole
from polkit.cost import Cost, Meter
from polkit.data import derive_seed, training_points
from polkit.distance import DISTANCES, distances
from polkit.proof import Proof, cache_folder
from polkit.prover import train
from polkit.replay import replay, run_jobs
from polkit.task import Task
from polkit.training import PARTS, Checkpoint, Conditions, unit_costs

Table = Mapping[str, Mapping[str, float]]  # part -> distance -> value


@dataclass(frozen=True)
class Calibration:
    """What a verifier knows before it sees a proof: the task, its own Conditions, and δ in each distance.

    thresholds: δ · honest_maximum: max_t ε_repr(t) over all replays · reference: d_ref, the distance between
    two models trained independently; each part -> distance -> value. The weights' tables are the paper's; the
    buffers' hold the running means and variances of the normalisation layers to the same standard.
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

    def save(self, file: str | Path) -> None:
        values = asdict(self) | {"task": self.task.to_json(), "conditions": self.conditions.to_json()}
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        write_text_whole(Path(file), json.dumps(values, indent=1))


def load_calibration(file: str | Path) -> Calibration:
    """Raises ValueError, in one sentence, if the file is not a calibration."""
    try:
        values = json.loads(Path(file).read_text())
        for name in ("thresholds", "honest_maximum", "reference"):
            numbers = [values[name][part][distance] for part in PARTS for distance in DISTANCES]
            if not all(math.isfinite(number) and number >= 0 for number in numbers):
                raise ValueError(f"{name} holds something other than distances")
        if not all(math.isfinite(values[name]) for name in ("margin", "replays", "false_rejection_rate")):
            raise ValueError("its margin, replays and false-rejection rate must be numbers")
        return Calibration(
            **values
            | {
                "task": Task.from_json(values["task"]),
                "conditions": Conditions(**values["conditions"]),
                "cost": Cost(**values["cost"]),
            }
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} is not a calibration that `polkit calibrate` wrote ({error})") from error


def calibrate(proof: Proof, *, conditions: Conditions = Conditions(augmentation="redraw"), replays: int = 4,
              margin: float = 1.5, seed: int = 1, workers: int | None = None, out: str | Path | None = None,
              progress: bool = True) -> Calibration:  # fmt: skip
    """δ for the task of an honest proof, as its verifier's own Conditions make it.

    Replays every interval `replays` times with independent draws, trains two models from other seeds for
    d_ref, and sets δ = margin · max ε_repr in each distance. Kept in the cache, or in `out`.
    workers: processes to spread the work over (default: one per core).
    Raises ValueError if replays < 2, margin <= 1, or if some δ would not lie below d_ref.
    """
    if replays < 2:
        raise ValueError(f"{replays} replay cannot show a false rejection: use at least 2")
    if margin <= 1:
        raise ValueError(f"the margin is {margin}: δ lies above the honest errors only if it is greater than 1")
    facts = {"proof": proof.digest, "conditions": conditions.to_json(), "replays": replays, "margin": margin,
             "seed": seed}  # fmt: skip
    file = Path(out) if out else cache_folder("calibrations", **facts).with_suffix(".json")
    if not out and file.exists():
        return load_calibration(file)
    task, meter = proof.task, Meter(unit_costs(proof.task))
    starts = proof.checkpoint_steps[:-1]
    references = [(_reference, (task, derive_seed(seed, "reference", number), conditions)) for number in (0, 1)]
    repeats = [(replay, (proof, task, conditions, starts, derive_seed(seed, "replay", n))) for n in range(replays)]
    workers = workers or max(1, (os.cpu_count() or 1) // conditions.threads)
    first, second, *replayed = run_jobs(references + repeats, workers, "calibrating", progress)
    meter.charge("update", (2 + replays) * task.steps)
    reference = {part: distances(first.parts()[part], second.parts()[part]) for part in PARTS}
    calibration = _calibration(task, conditions, reference, replayed, margin, meter.cost())
    calibration.save(file)
    return calibration


def _reference(task: Task, seed: int, conditions: Conditions) -> Checkpoint:
    """W_T of another training: other initial weights, other batches."""
    return train(task, seed, conditions, training_points(task))


def _calibration(task: Task, conditions: Conditions, reference: Table, replayed: list[pd.DataFrame], margin: float,
                 cost: Cost) -> Calibration:  # fmt: skip
    errors = pd.concat(replayed, keys=range(len(replayed)), names=["replay"]).reset_index("replay")
    maxima = errors.groupby(["replay", "part", "distance"])["error"].max()
    honest = maxima.groupby(["part", "distance"]).max()
    thresholds = honest * margin
    for part in PARTS:
        for name in DISTANCES:
            if not thresholds[part, name] < reference[part][name]:
                raise ValueError(
                    f"no threshold exists for the {part} in {name}: the honest errors reach "
                    f"{honest[part, name]:.3g}, times {margin} that is not below d_ref = {reference[part][name]:.3g}"
                )
    rejected_runs, rejected_intervals = [], []
    for held_out in range(len(replayed)):
        others = maxima.drop(index=held_out, level="replay").groupby(["part", "distance"]).max() * margin
        tested = errors[errors["replay"] == held_out].set_index(["part", "distance"])
        above = tested["error"] > others.reindex(tested.index)
        rejected_runs.append(bool(above.any()))
        rejected_intervals.append(above.groupby(tested["start"].to_numpy()).any().mean())

    def table(values: pd.Series) -> dict[str, dict[str, float]]:
        return {part: {name: float(values[part, name]) for name in DISTANCES} for part in PARTS}

    return Calibration(
        task=task, conditions=conditions, thresholds=table(thresholds), honest_maximum=table(honest),
        reference=reference, margin=margin, replays=len(replayed),
        false_rejection_rate=float(pd.Series(rejected_runs).mean()),
        interval_false_rejection_rate=float(pd.Series(rejected_intervals).mean()), cost=cost,
    )  # fmt: skip
