"""Replaying a proof: from the recorded W_t through k updates to W'_{t+k}, and how far that is from W_{t+k}."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from polkit.proof import Proof, ProofError, proof_points, remembered
from polkit.training import Conditions, Points, Progress, Task, applied, derive_seed, distances, run_jobs
from polkit.training.step import PARTS, Checkpoint, Learner
from polkit.training.task import whole
from polkit.verifier.regime import checked_q

PIECE, PIECES = 20, 4  # intervals of one job at most; jobs at least, for workers to share
STATE = (*PARTS, "momentum")  # all that an interval begins with
COLUMNS = ["start", "end", "part", "distance", "error", "moved", "replay_moved", "seconds"]
Table = Mapping[str, Mapping[str, float]]  # part -> distance -> value


@dataclass(frozen=True)
class Recorded:
    """What a replay takes from a proof besides its checkpoints."""

    points: Points  # on the replay's device
    batches: np.ndarray  # 𝕀, int32 (T, B)
    augmentation_seeds: np.ndarray | None  # int64 (T,), if the prover recorded them


def recorded_data(proof: Proof, conditions: Conditions) -> Recorded:
    """Raises ProofError if these Conditions replay an augmentation that the proof did not record."""
    data = Recorded(proof_points(proof).to(conditions.device), proof.batches(), proof.augmentation_seeds())
    if conditions.augmentation == "replay" and data.augmentation_seeds is None:
        raise ProofError("augmentation.npy is missing, and these conditions replay the recorded augmentation")
    return data


def reached_after(
    learner: Learner, begun: Checkpoint, data: Recorded, start: int, steps: Sequence[int], seed: int
) -> dict[int, Checkpoint]:
    """i -> W'_{t+i} for each i of `steps`, by updates from the recorded W_t (Algorithm 2, lines 25-29).

    begun, start: the recorded W_t, and t
    seed: the verifier's own, from which a `redraw` draws its augmentation
    """
    # All of them at once: a copy at every step would make a GPU wait for the CPU.
    batches = torch.as_tensor(data.batches[start : start + max(steps)]).to(learner.conditions.device)
    replayed = learner.conditions.augmentation == "replay"
    learner.load(begun)
    reached = {}
    for step in range(start, start + max(steps)):
        drawn = int(data.augmentation_seeds[step]) if replayed else derive_seed(seed, "redraw", step)
        learner.update(data.points.take(batches[step - start]), step=step, augmentation_seed=drawn)
        if step + 1 - start in steps:
            reached[step + 1 - start] = learner.snapshot()
    return reached


def interval_errors(
    proof: Proof, task: Task, conditions: Conditions, starts: Sequence[int], seed: int, parts: Sequence[str] = PARTS
) -> list[dict]:
    """ε_repr(t) of the intervals from `starts` (Algorithm 2, lines 25-30): a row per interval, part and distance.

    parts: of the state, to compare (`PARTS` or `STATE`)

    Each row (`COLUMNS`) has the error d(W_{t+k}, W'_{t+k}), how far the interval moved, d(W_{t+k}, W_t) as recorded and
    d(W'_{t+k}, W_t) as replayed, and the seconds of its replay.
    """
    data, rows, claimed = recorded_data(proof, conditions), [], {}
    with applied(conditions):
        learner = Learner(task, conditions)
        for start in starts:
            end = min(start + proof.checkpoint_interval, proof.steps)
            begun = time.perf_counter()
            # Where one interval ends the next begins, if it is replayed too.
            before = claimed.get(start) or proof.checkpoint(start, task)
            reached = reached_after(learner, before, data, start, [end - start], seed)[end - start]
            seconds = time.perf_counter() - begun
            claimed = {end: proof.checkpoint(end, task)}
            for part in parts:
                left, right, replayed = (each.parts()[part] for each in (before, claimed[end], reached))
                found = [distances(right, replayed), distances(right, left), distances(replayed, left)]
                for name in found[0]:
                    values = [start, end, part, name, *(each[name] for each in found), seconds]
                    rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def interval_jobs(proof: Proof, task: Task, conditions: Conditions, starts: Sequence[int], *settings) -> list[tuple]:
    """`interval_errors` of many intervals, each independent of the rest, in jobs for `run_jobs`."""
    size = max(1, min(PIECE, -(-len(starts) // PIECES)))
    pieces = [starts[first : first + size] for first in range(0, len(starts), size)]
    return [(interval_errors, (proof, task, conditions, piece, *settings)) for piece in pieces]


def replay(
    proof: Proof,
    task: Task,
    conditions: Conditions,
    starts: Sequence[int] | None = None,
    seed: int = 0,
    *,
    parts: Sequence[str] = PARTS,
    workers: int = 1,
    progress: Progress = False,
    remember: bool = False,
) -> pd.DataFrame:
    """The rows of `interval_errors` for the intervals from `starts` (default: all) of a well-formed proof, in order.

    task: the verifier's, or with the optimiser that it lets the prover decide
    workers: threads or processes that share the intervals
    remember: keep the rows in the cache; the caller must have checked the digests in the manifest

    Raises ProofError if a file is not what it must be.
    """
    starts = [int(start) for start in (proof.checkpoint_steps[:-1] if starts is None else starts)]
    seed = whole("the seed", seed)

    def compute() -> pd.DataFrame:
        jobs = interval_jobs(proof, task, conditions, starts, seed, parts)
        with applied(conditions):
            rows = [row for found in run_jobs(jobs, workers, "replaying", progress) for row in found]
        return pd.DataFrame(rows, columns=COLUMNS)

    facts = {"proof": proof.digest, "task": task.to_json(), "conditions": conditions.to_json()}
    facts |= {"interval": proof.checkpoint_interval, "starts": starts, "seed": seed, "parts": list(parts)}
    return remembered(compute, "replays", **facts) if remember else compute()


def select_intervals(magnitudes: pd.DataFrame, top_q: int | str) -> pd.DataFrame:
    """The Q intervals of each epoch, the last included, whose updates are largest (lines 7-12); NaN is largest."""
    if (top_q := checked_q(top_q)) == "all":
        return magnitudes
    ranked = magnitudes.sort_values("magnitude", ascending=False, na_position="first", kind="stable")
    return ranked.groupby("epoch", sort=False).head(top_q).sort_index()


def looked_up(table: Table, rows: pd.DataFrame) -> np.ndarray:
    """The table's value for the part and the distance of each row."""
    return np.array([table[part][name] for part, name in zip(rows["part"], rows["distance"], strict=True)], float)


def compared(rows: pd.DataFrame, allowed: Sequence[float]) -> pd.DataFrame:
    """Each replayed error beside what is allowed (line 30): adds threshold, ratio = error / threshold, and passed.

    allowed: a number for each row. A NaN does not pass. Where it is 0 the ratio of an error of 0 is 0, of any other ∞.
    """
    allowed, errors = np.asarray(allowed, float), rows["error"].to_numpy(float)
    without_limit = np.where(np.isnan(errors), np.nan, np.where(errors > 0, np.inf, 0.0))
    ratio = np.divide(errors, allowed, out=without_limit, where=allowed > 0)
    return rows.assign(threshold=allowed, ratio=ratio, passed=errors <= allowed)
