"""One replay for all checks: besides the error of each interval, how far it moved, on paper and in the replay."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from polkit.captured import updates
from polkit.distance import DISTANCES, distances
from polkit.progress import Progress
from polkit.proof import Proof
from polkit.replay import reached_after, recorded_data, remembered, run_jobs
from polkit.task import Task
from polkit.training import PARTS, Conditions, applied, make_learner

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


def gather(proof: Proof, task: Task, conditions: Conditions, starts: Sequence[int] | None = None, *, seed: int = 0,
           workers: int = 1, remember: bool = False, progress: Progress = False) -> Evidence:  # fmt: skip
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
    facts = {"proof": proof.digest, "task": task.to_json(), "conditions": conditions.to_json(),
             "interval": proof.checkpoint_interval, "starts": list(map(int, starts)), "seed": seed}  # fmt: skip
    return Evidence(proof, task, conditions, remembered(compute, "evidence", **facts))


def _rows(proof: Proof, task: Task, conditions: Conditions, starts: Sequence[int], seed: int) -> list[tuple]:
    data, rows = recorded_data(proof, conditions), []
    with applied(conditions):
        learner = make_learner(task, conditions)
        take_step = updates(learner, data.points)
        for start in starts:
            end = min(start + proof.checkpoint_interval, proof.steps)
            begun = time.perf_counter()
            reached = reached_after(learner, proof, data, start, [end - start], seed, take_step=take_step)
            there = reached[end - start].parts()
            seconds = time.perf_counter() - begun
            left, claimed = proof.checkpoint(start, proof.task).parts(), proof.checkpoint(end, proof.task).parts()
            for part in STATE:
                found = [distances(a[part], b[part]) for a, b in
                         ((claimed, there), (claimed, left), (there, left))]  # fmt: skip
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
