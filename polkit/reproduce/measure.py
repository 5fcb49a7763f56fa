"""What one run of an experiment leaves behind: plain numbers under dotted names, which `polkit reproduce` collects."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import product

import pandas as pd

from polkit.adversary import original_batch, original_batches
from polkit.defences import accuracy
from polkit.experiments.matrix import Matrix
from polkit.experiments.places import image_change
from polkit.proof import Proof
from polkit.training import DISTANCES, Conditions, Task, test_points, training_points
from polkit.verifier import Calibration, Verdict

MEASUREMENT_TYPE = "application/vnd.polkit.measurement+json"
Values = dict[str, float | bool | str | None]


@dataclass(frozen=True)
class Measurement:
    """Names and their values; shows itself in a notebook and can be read out of the executed copy."""

    values: Values

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {"text/plain": pd.Series(self.values, dtype=object).to_string(), MEASUREMENT_TYPE: self.values}


def honest_measurement(
    proof: Proof, calibration: Calibration, verdict: Verdict | None, conditions: Conditions
) -> Measurement:
    """An honest proof, its δ, and a verdict with every interval replayed, if there is one."""
    values = spent(proof) | (judged(verdict, levels_of_q(proof.task)) if verdict else {})
    values |= accuracies(proof, conditions)
    for part, thresholds in calibration.thresholds.items():
        normalised = calibration.normalised(thresholds, part)
        values |= {f"threshold.{part}.{distance}": finite(value) for distance, value in normalised.items()}
    return Measurement(values | {"false_rejection_rate": calibration.false_rejection_rate})


def spoof_measurement(
    spoof: Proof, verdict: Verdict, proof: Proof, *, seed: int, conditions: Conditions
) -> Measurement:
    """A spoof before the same verifier, with every interval replayed. seed: the adversary's."""
    values = spent(spoof) | shares(spoof, proof, "share") | judged(verdict, levels_of_q(proof.task))
    return Measurement(values | treatment(spoof.trace()) | image_changes(spoof, seed) | accuracies(spoof, conditions))


def matrix_measurement(matrix: Matrix, proof: Proof, spoofs: Mapping[str, Proof]) -> Measurement:
    """Spoofs against defences: `accepted.FOLDER.DEFENCE`, `errors.FOLDER.LIMIT`, and each spoof's cost."""
    values: Values = {}
    for name, row in matrix.accepted.to_dict("index").items():
        values |= {f"accepted.{name}.{defence}": bool(accepted) for defence, accepted in row.items()}
    for name, found in matrix.errors.items():
        values |= {f"errors.{name}.{limit}": finite(value) for limit, value in found.items()}
    for name, spoof in spoofs.items():
        values |= {f"steps.{name}": spoof.steps} | shares(spoof, proof, f"share.{name}")
    return Measurement(values)


def presets_measurement(rulings: pd.DataFrame, proof: Proof) -> Measurement:
    """An honest proof before every verifier, from `honest_verdicts`: `CONDITIONS.VERIFIER.…`."""
    values, cost = {"steps": proof.steps}, proof.cost()
    for row in rulings.itertuples():
        found = {"accepted": bool(row.accepted), "wall_seconds": row.seconds / cost.wall_seconds}
        found["floating_point_operations"] = row.operations / cost.floating_point_operations
        found |= {name: finite(getattr(row, name)) for name in ("loose", "tight", "above_tight")}
        place = f"{row.conditions}.{row.verifier}"
        values |= {f"{place}.{name}": value for name, value in found.items() if value is not None}
    return Measurement(values)


def levels_of_q(task: Task) -> dict[str, int | str]:
    """The Q of the paper's experiments (Section IV-A): 1 and ⌊S/k⌋, and every interval."""
    return {"one": 1, "most": max(1, task.steps_per_epoch // task.checkpoint_interval), "all": "all"}


def judged(verdict: Verdict, levels: Mapping[str, int | str]) -> Values:
    """Verdict (`within`: the paper's, by the weights alone) and largest errors at each Q, of a verdict on more."""
    values: Values = {}
    for name, top_q in levels.items():
        at = verdict.at(top_q)
        passed = at.intervals.loc[at.intervals["part"] == "weights", "passed"]
        values |= {f"accepted.{name}": at.accepted, f"within.{name}": bool(len(passed) and passed.all())}
        for part in ("weights", "buffers"):
            errors = at.largest_errors(part)
            values |= {f"{part}.{name}.{distance}": finite(errors.get(distance)) for distance in DISTANCES}
    return values | {"reasons": ", ".join(sorted({reason.kind for reason in verdict.reasons}))}


def spent(proof: Proof) -> Values:
    meters = {f"cost.{meter}": value for meter, value in asdict(proof.cost()).items()}
    return {"steps": proof.steps, "interval": proof.checkpoint_interval} | meters


def shares(spoof: Proof, proof: Proof, name: str) -> Values:
    """The four meters of a spoof, as shares of the proof's."""
    return {f"{name}.{meter}": finite(v) for meter, v in spoof.cost().relative_to(proof.cost()).items()}


def accuracies(proof: Proof, conditions: Conditions) -> Values:
    """Figure 10: the share of test images that the intermediate models get right, at 0, 0.1, …, 1 of the steps."""
    points, known, values = test_points(proof.task), proof.checkpoint_steps, {}
    for tenth in range(11):
        model = proof.checkpoint(known[round(tenth / 10 * (len(known) - 1))])
        values[f"accuracy.{tenth / 10}"] = accuracy(proof.task, model, points, conditions)
    return values


def treatment(trace: pd.DataFrame) -> Values:
    """Table II: mean and deviation of loss and squared gradient norm over the treated batches, before and after.

    `….middle`: the means over the batches between 0.3 and 0.5 of the path, where the model has learned something.
    """
    if "missed_after" in trace:  # Attack I optimises one batch, and towards W_T
        return {name: float(trace[name].iloc[0]) for name in ("missed_before", "missed_after")}
    if "evaluations" not in trace:
        return {}
    counted, last = int(trace["evaluations"].sum()), trace["step"].max()
    treated = trace[trace.get("iterations", trace["evaluations"]) > 0]  # a fresh batch may do as it is
    values: Values = {"batches.treated": len(treated), "batches.all": len(trace), "evaluations": counted}
    for quantity, when in product(("loss", "gradient_squared"), ("before", "after")):
        column = treated.get(f"{quantity}_{when}", pd.Series(dtype=float))  # there is none if all was left as it is
        values[f"{quantity}.{when}"] = finite(column.mean())
        values[f"{quantity}.{when}.deviation"] = finite(column.std(ddof=0))
        values[f"{quantity}.{when}.middle"] = finite(column[treated["step"].between(0.3 * last, 0.5 * last)].mean())
    return values


def image_changes(spoof: Proof, seed: int) -> Values:
    """Figure 12 in numbers: how far the pixels of a spoof lie from the data set's own, in grey levels of 255.

    `psnr.mean`, in dB, is over the batches and their images that were changed; None if none was.
    """
    points, original = spoof.points(), training_points(spoof.task)
    if points is None:
        return {}
    trace, interval, rows = spoof.trace(), spoof.checkpoint_interval, []
    attempts = dict(zip(trace["step"], trace["attempt"].fillna(0), strict=True)) if "attempt" in trace else {}
    batches = zip(spoof.batches(), original_batches(spoof.task, spoof.steps, seed), strict=True)
    for step, (new, planned) in enumerate(batches):
        attempt = attempts.get(step, attempts.get(step - step % interval, 0))  # a row per batch, or per interval
        old = original_batch(spoof.task, step, seed, int(attempt)) if attempt else original.take(planned)
        rows.append(image_change(old.images, points.take(new).images))
    found = pd.DataFrame(rows)
    values = {"grey_levels.mean": found["grey_levels_mean"].mean(), "psnr.mean": found["psnr"].mean()}
    values["grey_levels.largest"] = found["grey_levels_largest"].max()
    return {name: finite(value) for name, value in values.items()}


def finite(value: float | None) -> float | None:
    """A number as JSON can hold it: None for one that is missing, NaN or infinite."""
    return None if value is None or not math.isfinite(value) else float(value)
