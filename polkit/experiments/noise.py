"""Where the reproduction error comes from, and how it grows with the number of replayed steps (Section II-D)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from polkit.proof import Proof, remembered
from polkit.training import (
    DISTANCES,
    PARTS,
    Checkpoint,
    Conditions,
    Learner,
    Meter,
    Progress,
    applied,
    distances,
    reported,
    unit_costs,
)
from polkit.verifier import Calibration, Verdict, interval_errors, reached_after, recorded_data


def noise_sources(conditions: Conditions) -> dict[str, Conditions]:
    """Each thing that a verifier may do differently, by itself: name -> its Conditions.

    A GPU is among them where there is one.
    """
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


def error_growth(
    proof: Proof,
    sources: Mapping[str, Conditions],
    starts: Sequence[int] | None = None,
    steps: Sequence[int] | None = None,
    seed: int = 0,
    remember: bool = False,
    progress: Progress = False,
) -> pd.DataFrame:
    """d(W_{t+i}, W'_{t+i}) after each number of `steps` i, from the checkpoints at `starts`, for every source.

    starts: default, W_0 and the checkpoint at a quarter of the training, where errors are largest · steps: default,
    `growth_steps` · remember: as in `verify`. One row per source, start, i, part and distance. The honest W_{t+i}
    between checkpoints are made again under the proof's own Conditions, with the augmentation it recorded; on the
    prover's machine that is exact.
    Raises ValueError if a start is no checkpoint or has too few steps after it.
    """
    steps = steps or growth_steps(proof)
    starts = starts or sorted({0, proof.steps // 4 // proof.checkpoint_interval * proof.checkpoint_interval})
    for start in starts:
        if start not in proof.checkpoint_steps or start + max(steps) > proof.steps:
            raise ValueError(
                f"step {start} is no checkpoint with {max(steps)} steps after it in a proof of T = {proof.steps} "
                f"steps with k = {proof.checkpoint_interval}"
            )
    own = Conditions(**proof.manifest["conditions"])

    def compute() -> pd.DataFrame:
        rows = []
        for start in reported(starts, total=len(starts), title="replaying", progress=progress):
            honest = _chain(proof, own, start, steps, seed)
            for name, conditions in sources.items():
                for count, reached in _chain(proof, conditions, start, steps, seed).items():
                    for part in PARTS:
                        errors = distances(honest[count].parts()[part], reached.parts()[part])
                        rows += [(name, start, count, part, distance, error) for distance, error in errors.items()]
        return pd.DataFrame(rows, columns=["source", "start", "steps", "part", "distance", "error"])

    if not remember:
        return compute()
    named = {name: conditions.to_json() for name, conditions in sources.items()}
    return remembered(
        compute, "growth", proof=proof.digest, sources=named, starts=list(starts), steps=list(steps), seed=seed
    )


def _chain(proof: Proof, conditions: Conditions, start: int, steps: Sequence[int], seed: int) -> dict[int, Checkpoint]:
    data = recorded_data(proof, conditions)
    with applied(conditions):
        return reached_after(Learner(proof.task, conditions), proof, data, start, steps, seed)


def verdict_at_interval(
    verdict: Verdict,
    proof: Proof,
    calibration: Calibration,
    interval: int,
    *,
    steps_to_replay: int = 400,
    seed: int = 0,
    progress: Progress = False,
) -> Verdict:
    """The verdict that the same δ would give if the proof had been recorded with a larger k.

    interval: a multiple of the proof's own k. As many intervals are replayed as `steps_to_replay` allow, at least
    two, evenly spread over the training.
    Raises ValueError if no checkpoint stands where this k needs one.
    """
    if interval % proof.checkpoint_interval:
        raise ValueError(f"k = {interval} is no multiple of {proof.checkpoint_interval}, the interval of this proof")
    wider = replace(proof, checkpoint_interval=interval)
    starts = wider.checkpoint_steps[:-1]
    count = min(len(starts), max(2, steps_to_replay // interval))
    chosen = sorted({starts[number * len(starts) // count] for number in range(count)})
    rows = []
    for start in reported(chosen, total=len(chosen), title="replaying", progress=progress):
        rows += interval_errors(wider, calibration.task, calibration.conditions, [start], seed)
    replayed = pd.DataFrame(rows)
    replayed["epoch"] = replayed["start"] // calibration.task.steps_per_epoch
    with applied(calibration.conditions):
        ends = {start: wider.checkpoint(min(start + interval, proof.steps)) for start in chosen}
        moved = {start: distances(end.weights, wider.checkpoint(start).weights) for start, end in ends.items()}
    replayed["magnitude"] = [moved[start]["l2"] for start in replayed["start"]]
    meter = Meter(unit_costs(calibration.task, ["update"]))
    meter.charge("update", sum(min(start + interval, proof.steps) - start for start in chosen))
    seen = replace(verdict, intervals=replayed.assign(threshold=0.0, passed=False), cost=meter.cost())
    return seen.under(calibration)


def calibration_for_interval(calibration: Calibration, growth: pd.DataFrame, interval: int) -> Calibration:
    """The calibration as it would be for another k: every δ times the measured growth of the honest error.

    growth: from `error_growth`, of one source, with rows for the calibrated k and for `interval`. An estimate from
    the few starts in it; `calibrate` on a proof with that k is the measurement.
    """
    largest = growth.groupby(["part", "distance", "steps"])["error"].agg(
        lambda errors: float(np.max(errors.to_numpy()))
    )
    factors = {
        part: {
            name: largest[part, name, interval] / largest[part, name, calibration.task.checkpoint_interval]
            for name in DISTANCES
        }
        for part in PARTS
    }

    def scaled(table):
        return {part: {name: value * factors[part][name] for name, value in table[part].items()} for part in PARTS}

    changed = {
        "task": calibration.task.replace(checkpoint_interval=interval),
        "thresholds": scaled(calibration.thresholds),
        "honest_maximum": scaled(calibration.honest_maximum),
    }
    return Calibration(**calibration.__dict__ | changed)
