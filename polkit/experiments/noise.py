"""Where the reproduction error comes from, and how it grows with the number of replayed steps (Section II-D)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd
import torch

from polkit.proof import Proof, remembered
from polkit.training import PARTS, Conditions, Cost, Learner, Progress, applied, distances, unit_costs
from polkit.verifier import Calibration, Verdict, recorded_data
from polkit.verifier.replay import reached_after, replay
from polkit.verifier.verdict import beside_delta

STEPS_REPLAYED = 400  # by `verdict_at_interval`, about


def noise_sources(conditions: Conditions) -> dict[str, Conditions]:
    """Each thing that a verifier may do differently, a GPU too where there is one: name -> its Conditions."""
    exact = conditions.replace(augmentation="replay")
    sources = {
        "nothing": exact,
        "another thread": exact.replace(threads=exact.threads + 1),
        "without oneDNN": exact.replace(onednn=not exact.onednn),
        "bf16": exact.replace(precision="bf16"),
        "redrawn augmentation": conditions.replace(augmentation="redraw"),
    }
    if torch.cuda.is_available() and not conditions.device.startswith("cuda"):
        sources["on a GPU"] = exact.replace(device="cuda")
    return sources


def growth_steps(proof: Proof) -> list[int]:
    """The numbers of steps at which `error_growth` looks by itself: k, and up to 50 where a quarter of T allows."""
    k = proof.checkpoint_interval
    return sorted({k, *(count for count in (1, 2, 5, 10, 20, 50) if count <= max(k, proof.steps // 4))})


def error_growth(proof: Proof, sources: Mapping[str, Conditions], steps: Sequence[int] | None = None) -> pd.DataFrame:
    """d(W_{t+i}, W'_{t+i}) for every source: a row per source, start t, number of steps i, part and distance.

    The starts are W_0 and the checkpoint at a quarter of the training, where errors are largest. The honest W_{t+i}
    between checkpoints are made again under the proof's own Conditions, with the augmentation it recorded; on the
    prover's machine that is exact. Kept in the cache.
    steps: i (default: `growth_steps`)
    Raises ValueError if there are not so many steps after the second start.
    """
    steps = list(steps or growth_steps(proof))
    starts = sorted({0, proof.steps // 4 // proof.checkpoint_interval * proof.checkpoint_interval})
    if starts[-1] + max(steps) > proof.steps:
        raise ValueError(f"a proof of T = {proof.steps} steps has not {max(steps)} of them after step {starts[-1]}")

    def compute() -> pd.DataFrame:
        rows = []
        for start in starts:
            honest = _chain(proof, Conditions(**proof.manifest["conditions"]), start, steps)
            for name, conditions in sources.items():
                for count, reached in _chain(proof, conditions, start, steps).items():
                    for part in PARTS:
                        errors = distances(honest[count][part], reached[part])
                        rows += [(name, start, count, part, distance, error) for distance, error in errors.items()]
        return pd.DataFrame(rows, columns=["source", "start", "steps", "part", "distance", "error"])

    named = {name: conditions.to_json() for name, conditions in sources.items()}
    facts = {"proof": proof.digest, "sources": named, "starts": starts, "steps": steps}
    return remembered(compute, "growth", **facts)


def _chain(proof: Proof, conditions: Conditions, start: int, steps: Sequence[int]) -> dict[int, Mapping[str, Mapping]]:
    with applied(conditions):
        learner, data = Learner(proof.task, conditions), recorded_data(proof, conditions)
        reached = reached_after(learner, proof.checkpoint(start), data, start, steps, seed=0)
    return {count: checkpoint.parts() for count, checkpoint in reached.items()}


def verdict_at_interval(
    verdict: Verdict, proof: Proof, calibration: Calibration, interval: int, *, progress: Progress = False
) -> Verdict:
    """The verdict that the same δ would give if the proof had been recorded with a larger k.

    As many intervals are replayed as STEPS_REPLAYED allow, at least two, evenly spread over the training.
    interval: a multiple of the proof's own k
    Raises ValueError if no checkpoint stands where this k needs one.
    """
    if interval % proof.checkpoint_interval:
        raise ValueError(f"k = {interval} is no multiple of {proof.checkpoint_interval}, the interval of this proof")
    wider, task = replace(proof, checkpoint_interval=interval), calibration.task
    starts = wider.checkpoint_steps[:-1]
    count = min(len(starts), max(2, STEPS_REPLAYED // interval))
    chosen = sorted({starts[number * len(starts) // count] for number in range(count)})
    rows = replay(wider, task, calibration.conditions, chosen, progress=progress)
    steps = sum(min(start + interval, proof.steps) - start for start in chosen)
    moved = rows.query("part == 'weights' and distance == 'l2'").set_index("start")["moved"]
    rows = rows.assign(epoch=rows["start"] // task.steps_per_epoch, magnitude=rows["start"].map(moved))
    cost = Cost(steps, steps * unit_costs(task, ["update"])["update"].floating_point_operations)
    found = replace(verdict, intervals=beside_delta(rows, calibration), cost=cost, replayed=steps / task.steps)
    return found.under(calibration)


def calibration_for_interval(calibration: Calibration, growth: pd.DataFrame, interval: int) -> Calibration:
    """The calibration as it would be for another k: every δ times the measured growth of the honest error.

    growth: from `error_growth`, of one source, with rows for the calibrated k and for `interval`. An estimate from
    the few starts in it; `calibrate` on a proof with that k is the measurement.
    """
    largest = growth.groupby(["steps", "part", "distance"])["error"].agg(lambda errors: errors.max(skipna=False))
    factors = largest[interval] / largest[calibration.task.checkpoint_interval]

    def scaled(table: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
        return {p: {name: value * float(factors[p, name]) for name, value in row.items()} for p, row in table.items()}

    return replace(
        calibration,
        task=calibration.task.replace(checkpoint_interval=interval),
        thresholds=scaled(calibration.thresholds),
        honest_maximum=scaled(calibration.honest_maximum),
    )
