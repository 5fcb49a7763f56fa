"""What one run of an experiment leaves behind: plain numbers under dotted names, which `polkit reproduce` collects."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from polkit.adversary import original_batches
from polkit.experiments.matrix import Matrix
from polkit.proof import Proof
from polkit.training import DISTANCES, Conditions, Points, Task, accuracy, test_points, training_points
from polkit.verifier import Calibration, Verdict

MEASUREMENT_TYPE = "application/vnd.polkit.measurement+json"
SHARES = tuple(number / 10 for number in range(11))


@dataclass(frozen=True)
class Measurement:
    """values: name -> number, truth value or text; shows itself in a notebook and can be read out of the copy."""

    values: dict[str, float | bool | str | None]

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {"text/plain": str(self), MEASUREMENT_TYPE: self.values}

    def __str__(self) -> str:
        width = max(map(len, self.values))
        shown = {name: f"{v:.5g}" if isinstance(v, float) else str(v) for name, v in self.values.items()}
        return "\n".join(f"{name:{width}}  {value}" for name, value in shown.items())


def levels_of_q(task: Task) -> dict[str, int | str]:
    """The Q of the paper's experiments (Section IV-A): 1 and ⌊S/k⌋, and every interval."""
    return {"one": 1, "most": max(1, task.steps_per_epoch // task.checkpoint_interval), "all": "all"}


def verdict_values(verdict: Verdict, levels: Mapping[str, int | str]) -> dict:
    """Verdict and largest normalised errors at each Q, read off one with more intervals.

    accepted: by this verifier · within: by the paper's, which compares the errors of the weights with δ and no more.
    """
    values = {}
    for name, top_q in levels.items():
        judged = verdict.at(top_q)
        values[f"accepted.{name}"] = judged.accepted
        weights = judged.intervals[judged.intervals["part"] == "weights"]
        values[f"within.{name}"] = bool(len(weights)) and bool(weights["passed"].all())
        for part in ("weights", "buffers"):
            errors = judged.largest_errors(part)
            values |= {f"{part}.{name}.{distance}": finite(errors.get(distance)) for distance in DISTANCES}
    values["reasons"] = ", ".join(sorted({reason.kind for reason in verdict.reasons}))
    return values


def cost_values(proof: Proof, other: Proof | None = None) -> dict:
    """The four meters, and what they are beside another proof's."""
    values: dict = {f"cost.{meter}": value for meter, value in asdict(proof.cost()).items()}
    if other is not None:
        values |= {f"share.{meter}": finite(v) for meter, v in proof.cost().relative_to(other.cost()).items()}
    return values


def accuracy_values(proof: Proof, conditions: Conditions, points: Points) -> dict:
    """Figure 10: the share of test images that the intermediate models get right, at 0, 0.1, …, 1 of the steps."""
    known = proof.checkpoint_steps
    values = {}
    for share in SHARES:
        step = known[round(share * (len(known) - 1))]
        values[f"accuracy.{share:.1f}"] = accuracy(proof.task, proof.checkpoint(step), points, conditions)
    return values


def honest_measurement(proof: Proof, calibration: Calibration, verdict: Verdict, conditions: Conditions) -> Measurement:
    """An honest proof before its verifier. verdict: at Q = ⌊S/k⌋ or more."""
    task = proof.task
    levels = {name: top_q for name, top_q in levels_of_q(task).items() if name != "all"}
    values: dict = {"steps": proof.steps, "interval": proof.checkpoint_interval}
    values |= verdict_values(verdict, levels) | cost_values(proof)
    for part, thresholds in calibration.thresholds.items():
        normalised = calibration.normalised(thresholds, part)
        values |= {f"threshold.{part}.{distance}": finite(value) for distance, value in normalised.items()}
    values["false_rejection_rate"] = calibration.false_rejection_rate
    return Measurement(values | accuracy_values(proof, conditions, test_points(task)))


def spoof_measurement(
    spoof: Proof, verdict: Verdict, proof: Proof, *, seed: int, conditions: Conditions
) -> Measurement:
    """A spoof before the same verifier. verdict: with every interval replayed · seed: the adversary's."""
    values: dict = {"steps": spoof.steps, "interval": spoof.checkpoint_interval}
    values |= verdict_values(verdict, levels_of_q(proof.task)) | cost_values(spoof, proof)
    values |= trace_values(spoof.trace()) | image_values(spoof, seed)
    return Measurement(values | accuracy_values(spoof, conditions, test_points(proof.task)))


def matrix_measurement(matrix: Matrix, proof: Proof, spoofs: Mapping[str, Proof]) -> Measurement:
    """Spoofs against defences: `accepted.FOLDER.DEFENCE`, `errors.FOLDER.LIMIT`, and each spoof's cost."""
    accepted = matrix.accepted
    values: dict = {
        f"accepted.{folder}.{defence}": bool(accepted.loc[folder, defence])
        for folder in accepted.index
        for defence in accepted.columns
    }
    values |= {
        f"errors.{name}.{limit}": finite(value)
        for name, found in matrix.errors.items()
        for limit, value in found.items()
    }
    for name, spoof in spoofs.items():
        shares = spoof.cost().relative_to(proof.cost())
        values[f"steps.{name}"] = spoof.steps
        values |= {f"share.{name}.{meter}": finite(value) for meter, value in shares.items()}
    return Measurement(values)


def presets_measurement(rulings: pd.DataFrame, proof: Proof) -> Measurement:
    """An honest proof before every verifier, from `honest_verdicts`: `CONDITIONS.VERIFIER.…`, costs as shares of the
    proof's."""
    values: dict = {"steps": proof.steps}
    spent = proof.cost()
    for row in rulings.itertuples():
        place = f"{row.conditions}.{row.verifier}"
        values[f"{place}.accepted"] = bool(row.accepted)
        values[f"{place}.floating_point_operations"] = row.operations / spent.floating_point_operations
        values[f"{place}.wall_seconds"] = row.seconds / spent.wall_seconds
        known = {name: finite(getattr(row, name)) for name in ("loose", "tight", "above_tight")}
        values |= {f"{place}.{name}": value for name, value in known.items() if value is not None}
    return Measurement(values)


def trace_values(trace: pd.DataFrame) -> dict:
    """Table II: mean and deviation of loss and squared gradient norm over the treated batches, before and after."""
    if "missed_after" in trace:  # Attack I optimises one batch, and towards W_T
        row = trace.iloc[0]
        return {"missed_before": float(row["missed_before"]), "missed_after": float(row["missed_after"])}
    if "evaluations" not in trace:
        return {}
    treated = trace[trace["evaluations"] > 0]
    values: dict = {
        "batches.treated": len(treated),
        "batches.all": len(trace),
        "evaluations": int(trace["evaluations"].sum()),
    }
    for quantity in ("loss", "gradient_squared"):
        for when in ("before", "after"):
            column = treated[f"{quantity}_{when}"]
            values[f"{quantity}.{when}"] = finite(column.mean())
            values[f"{quantity}.{when}.deviation"] = finite(column.std(ddof=0))
    return values


def image_values(spoof: Proof, seed: int) -> dict:
    """Figure 12 in numbers: how far the pixels of a spoof lie from the data set's own, in grey levels of 255."""
    points = spoof.points()
    if points is None:
        return {}
    original = training_points(spoof.task)
    planned = original_batches(spoof.task, spoof.steps, seed)
    changes = []
    for step, batch in enumerate(spoof.batches()):
        shown, source = points.take(batch).images, original.take(planned[step]).images
        changes.append((shown.int() - source.int()).abs().float())
    worst = max(float(change.max()) for change in changes)
    return {"grey_levels.mean": float(np.mean([float(c.mean()) for c in changes])), "grey_levels.largest": worst}


def finite(value: float | None) -> float | None:
    """A number as JSON can hold it: None for one that is missing, NaN or infinite."""
    return None if value is None or not np.isfinite(value) else float(value)
