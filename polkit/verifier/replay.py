"""Replaying a proof: from the recorded W_t through k updates to W'_{t+k}, and how far that is from W_{t+k}."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from polkit.proof import Proof, ProofError, proof_points, remembered
from polkit.training import (
    DISTANCES,
    PARTS,
    Checkpoint,
    Conditions,
    Learner,
    Points,
    Progress,
    Task,
    applied,
    derive_seed,
    distances,
    run_jobs,
)

PIECE = 20  # intervals replayed by one job, at most
PIECES = 4  # at least, for workers to share


@dataclass(frozen=True)
class Recorded:
    """What a replay takes from a proof besides its checkpoints: the points, on the replay's device, 𝕀, and the
    augmentation seeds if the prover recorded them."""

    points: Points
    batches: np.ndarray
    augmentation_seeds: np.ndarray | None


def recorded_data(proof: Proof, conditions: Conditions) -> Recorded:
    """Raises ProofError if these Conditions replay an augmentation that the proof did not record."""
    data = Recorded(proof_points(proof).to(conditions.device), proof.batches(), proof.augmentation_seeds())
    if conditions.augmentation == "replay" and data.augmentation_seeds is None:
        raise ProofError("augmentation.npy is missing, and these conditions replay the recorded augmentation")
    return data


def reached_after(
    learner: Learner,
    proof: Proof,
    data: Recorded,
    start: int,
    steps: Sequence[int],
    seed: int,
    begun: Checkpoint | None = None,
) -> dict[int, Checkpoint]:
    """i -> W'_{t+i} for each i of `steps`, by updates from the recorded W_t, t = start (Algorithm 2, lines 25-29).

    begun: the recorded W_t, if it has been read already ·
    seed: the verifier's own, from which a `redraw` draws its augmentation.
    """
    # All of them at once: a copy at every step would make a GPU wait for the CPU.
    batches = torch.as_tensor(data.batches[start : start + max(steps)]).to(learner.conditions.device)
    replayed = learner.conditions.augmentation == "replay"
    learner.load(begun or proof.checkpoint(start, learner.task))
    reached = {}
    for step in range(start, start + max(steps)):
        drawn = int(data.augmentation_seeds[step]) if replayed else derive_seed(seed, "redraw", step)
        learner.update(data.points.take(batches[step - start]), step=step, augmentation_seed=drawn)
        if step + 1 - start in steps:
            reached[step + 1 - start] = learner.snapshot()
    return reached


def interval_errors(proof: Proof, task: Task, conditions: Conditions, starts: Sequence[int], seed: int) -> list[dict]:
    """ε_repr(t) = d(W_{t+k}, W'_{t+k}) of each interval (Algorithm 2, lines 25-30), in every distance.

    One row per interval, part (weights, buffers) and distance: start, end, part, distance, error.
    seed: the verifier's own, from which a `redraw` draws its augmentation.
    """
    data = recorded_data(proof, conditions)
    rows = []
    claimed: dict[int, Checkpoint] = {}
    with applied(conditions):
        learner = Learner(task, conditions)
        for start in starts:
            end = min(start + proof.checkpoint_interval, proof.steps)
            # Where one interval ends the next begins, if it is replayed too.
            begun = claimed.get(start)
            reached = reached_after(learner, proof, data, start, [end - start], seed, begun)[end - start]
            claimed = {end: proof.checkpoint(end, task)}
            for part in PARTS:
                errors = distances(claimed[end].parts()[part], reached.parts()[part])
                rows += [
                    {"start": start, "end": end, "part": part, "distance": name, "error": error}
                    for name, error in errors.items()
                ]
    return rows


def interval_jobs(proof: Proof, task: Task, conditions: Conditions, starts: Sequence[int], seed: int) -> list[tuple]:
    """`interval_errors` of many intervals, each independent of the rest, in jobs for `run_jobs`."""
    size = max(1, min(PIECE, -(-len(starts) // PIECES)))
    pieces = [list(starts[i : i + size]) for i in range(0, len(starts), size)]
    return [(interval_errors, (proof, task, conditions, piece, seed)) for piece in pieces]


def select_intervals(magnitudes: pd.DataFrame, top_q: int | str) -> pd.DataFrame:
    """The Q intervals of each epoch, the last included, whose updates are largest (lines 7-12); NaN is largest."""
    if top_q == "all":
        return magnitudes
    ranked = magnitudes.sort_values("magnitude", ascending=False, na_position="first", kind="stable")
    return ranked.groupby("epoch", sort=False).head(top_q).sort_index()


def replay(
    proof: Proof,
    task: Task,
    conditions: Conditions,
    starts: Sequence[int],
    seed: int,
    *,
    workers: int = 1,
    progress: Progress = False,
    remember: bool = False,
) -> pd.DataFrame:
    """`interval_errors` of many intervals, each independent of the rest, in order; workers: threads or processes.

    remember: keep the errors in the cache, and read them from there if these files (by the manifest's digests, which
    the caller must have checked), Conditions, intervals and draws were replayed before.
    """

    def compute() -> pd.DataFrame:
        jobs = interval_jobs(proof, task, conditions, starts, seed)
        with applied(conditions):
            rows = [row for found in run_jobs(jobs, workers, "replaying", progress) for row in found]
        return pd.DataFrame(rows, columns=["start", "end", "part", "distance", "error"])

    if not remember:
        return compute()
    return remembered(
        compute,
        "replays",
        proof=proof.digest,
        task=task.to_json(),
        conditions=conditions.to_json(),
        interval=proof.checkpoint_interval,
        starts=list(map(int, starts)),
        seed=seed,
    )


STATE = (*PARTS, "momentum")  # all that an interval begins with
COLUMNS = ["start", "end", "part", "distance", "error", "moved", "replay_moved", "seconds"]


@dataclass(frozen=True)
class Evidence:
    """What a verifier has seen of a proof under its own Conditions.

    intervals: one row per replayed interval, part (weights, buffers, momentum) and distance: error
    d(W_{t+k}, W'_{t+k}), moved d(W_t, W_{t+k}) as recorded, replay_moved d(W_t, W'_{t+k}), seconds of its
    replay.
    """

    proof: Proof
    task: Task
    conditions: Conditions
    intervals: pd.DataFrame

    @property
    def starts(self) -> list[int]:
        return sorted({int(start) for start in self.intervals["start"]})

    @property
    def seconds(self) -> float:
        """What the replays took, each counted as when it was made."""
        return float(self.intervals.drop_duplicates("start")["seconds"].sum())

    def at(self, starts: Collection[int]) -> "Evidence":
        """What a verifier has seen who replayed these intervals alone."""
        return replace(self, intervals=self.intervals[self.intervals["start"].isin(list(starts))])


def gather(
    proof: Proof,
    task: Task,
    conditions: Conditions,
    starts: Sequence[int] | None = None,
    *,
    seed: int = 0,
    workers: int = 1,
    remember: bool = False,
    progress: Progress = False,
) -> Evidence:
    """Replays the intervals from `starts` (default: all) of a proof that `verify` has found well formed.

    task: the verifier's, or with the optimiser that it lets the prover decide · seed: of redrawn augmentation ·
    remember: as in `verify`. Raises ProofError if a file is not what it must be.
    """
    starts = list(proof.checkpoint_steps[:-1] if starts is None else starts)

    def compute() -> pd.DataFrame:
        pieces = [starts[number : number + 5] for number in range(0, len(starts), 5)]
        jobs = [(_rows, (proof, task, conditions, piece, seed)) for piece in pieces]
        with applied(conditions):
            found = run_jobs(jobs, workers, "replaying", progress, threads=True)
            return pd.DataFrame([row for rows in found for row in rows], columns=COLUMNS)

    if not remember:
        return Evidence(proof, task, conditions, compute())
    facts = {
        "proof": proof.digest,
        "task": task.to_json(),
        "conditions": conditions.to_json(),
        "interval": proof.checkpoint_interval,
        "starts": list(map(int, starts)),
        "seed": seed,
    }
    return Evidence(proof, task, conditions, remembered(compute, "evidence", **facts))


def _rows(proof: Proof, task: Task, conditions: Conditions, starts: Sequence[int], seed: int) -> list[tuple]:
    data, rows = recorded_data(proof, conditions), []
    with applied(conditions):
        learner = Learner(task, conditions)
        for start in starts:
            end = min(start + proof.checkpoint_interval, proof.steps)
            begun = time.perf_counter()
            reached = reached_after(learner, proof, data, start, [end - start], seed)
            there = reached[end - start].parts()
            seconds = time.perf_counter() - begun
            left, claimed = proof.checkpoint(start, proof.task).parts(), proof.checkpoint(end, proof.task).parts()
            for part in STATE:
                found = [distances(a[part], b[part]) for a, b in ((claimed, there), (claimed, left), (there, left))]
                rows += [(start, end, part, name, *(values[name] for values in found), seconds) for name in DISTANCES]
    return rows


def spread_starts(proof: Proof, early: int = 20, late: int = 10) -> list[int]:
    """Where to look at an honest proof for its largest errors: `early` intervals evenly over the first eighth of
    the training, `late` over the rest."""
    starts = proof.checkpoint_steps[:-1]
    edge = max(1, len(starts) // 8)
    return sorted({*_evenly(starts[:edge], early), *_evenly(starts[edge:], late)})


def _evenly(values: Sequence[int], count: int) -> list[int]:
    count = min(count, len(values))
    return [values[number * len(values) // count] for number in range(count)]
