"""Where the reproduction error comes from, and how it grows with the number of replayed steps (Section II-D)."""

from collections.abc import Mapping, Sequence

import pandas as pd
import torch

from polkit.calibration import Calibration
from polkit.checkpoints import ProofError
from polkit.data import derive_seed
from polkit.distance import DISTANCES, distances
from polkit.progress import Progress, reported
from polkit.proof import Proof
from polkit.replay import proof_points
from polkit.training import PARTS, Checkpoint, Conditions, applied, load, make_learner, snapshot, update


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


def error_growth(proof: Proof, sources: Mapping[str, Conditions], starts: Sequence[int],
                 steps: Sequence[int] = (1, 2, 5, 10, 20, 50), seed: int = 0,
                 progress: Progress = False) -> pd.DataFrame:  # fmt: skip
    """d(W_{t+i}, W'_{t+i}) after each number of `steps` i, from the checkpoints at `starts`, for every source.

    One row per source, start, i, part and distance. The honest W_{t+i} between checkpoints are made again under the
    proof's own Conditions, with the augmentation that it recorded; on the prover's machine that is exact.
    Raises ValueError if a start is no checkpoint or has too few steps after it.
    """
    for start in starts:
        if start not in proof.checkpoint_steps or start + max(steps) > proof.steps:
            raise ValueError(
                f"step {start} is no checkpoint with {max(steps)} steps after it in a proof of T = {proof.steps} "
                f"steps with k = {proof.checkpoint_interval}"
            )
    own = Conditions(**proof.manifest["conditions"])
    rows = []
    for start in reported(starts, total=len(starts), title="replaying", progress=progress):
        honest = _chain(proof, own, start, steps, seed)
        for name, conditions in sources.items():
            for count, reached in _chain(proof, conditions, start, steps, seed).items():
                for part in PARTS:
                    errors = distances(honest[count].parts()[part], reached.parts()[part])
                    rows += [(name, start, count, part, distance, error) for distance, error in errors.items()]
    return pd.DataFrame(rows, columns=["source", "start", "steps", "part", "distance", "error"])


def _chain(proof: Proof, conditions: Conditions, start: int, steps: Sequence[int], seed: int) -> dict[int, Checkpoint]:
    points, batches = proof_points(proof).to(conditions.device), proof.batches()
    recorded = proof.augmentation_seeds()
    if recorded is None:
        raise ProofError("augmentation.npy is missing: the steps between checkpoints cannot be made again")
    reached = {}
    with applied(conditions):
        learner = make_learner(proof.task, conditions)
        load(learner, proof.checkpoint(start))
        for step in range(start, start + max(steps)):
            replayed = conditions.augmentation == "replay"
            drawn = int(recorded[step]) if replayed else derive_seed(seed, "redraw", step)
            update(learner, points.take(batches[step]), step=step, augmentation_seed=drawn)
            if step + 1 - start in steps:
                reached[step + 1 - start] = snapshot(learner)
    return reached


def calibration_for_interval(calibration: Calibration, growth: pd.DataFrame, interval: int) -> Calibration:
    """The calibration as it would be for another k: every δ times the measured growth of the honest error.

    growth: from `error_growth`, of one source, with rows for the calibrated k and for `interval`. An estimate from
    the few starts in it; `calibrate` on a proof with that k is the measurement.
    """
    largest = growth.groupby(["part", "distance", "steps"])["error"].max()
    factors = {
        part: {name: largest[part, name, interval] / largest[part, name, calibration.task.checkpoint_interval]
               for name in DISTANCES}
        for part in PARTS
    }  # fmt: skip

    def scaled(table):
        return {part: {name: value * factors[part][name] for name, value in table[part].items()} for part in PARTS}

    changed = {
        "task": calibration.task.replace(checkpoint_interval=interval),
        "thresholds": scaled(calibration.thresholds),
        "honest_maximum": scaled(calibration.honest_maximum),
    }
    return Calibration(**calibration.__dict__ | changed)
