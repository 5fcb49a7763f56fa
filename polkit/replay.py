"""Replaying a proof: from the recorded W_t through k updates to W'_{t+k}, and how far that is from W_{t+k}."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from polkit.captured import updates
from polkit.data import Points, derive_seed, training_points
from polkit.distance import distances
from polkit.places import cache_folder
from polkit.progress import Progress, reported
from polkit.proof import Proof
from polkit.reading import ProofError
from polkit.task import NAMED_TASKS, Task
from polkit.training import PARTS, Checkpoint, Conditions, Learner, applied, load, make_learner, snapshot
from polkit.whole import made_alone, stands, write_text_whole

PIECE = 20  # intervals replayed by one job, at most
PIECES = 4  # at least, for workers to share
JOBS_FOR_PROCESSES = 10


def proof_points(proof: Proof) -> Points:
    """The data points a proof's indices point into: its own, or those of the named data set it claims.

    Raises ProofError if it names no data set of polkit's and brings no points, FileNotFoundError if the
    named data set is not on this machine.
    """
    points = proof.points()
    if points is not None:
        return points
    if proof.task.data not in NAMED_TASKS:
        raise ProofError(f"points.safetensors is missing, and {proof.task.data!r} is not a named data set")
    try:
        points = training_points(proof.task)
    except ValueError as error:
        raise ProofError(f"manifest.json: {error}") from error
    if points.images.shape[1:] != proof.task.image_shape or int(points.labels.max()) >= proof.task.classes:
        kinds = f"{proof.task.classes} classes of {proof.task.image_shape}"
        raise ProofError(f"manifest.json: the images of {proof.task.name} are not of {kinds}")
    return points


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


def reached_after(learner: Learner, proof: Proof, data: Recorded, start: int, steps: Sequence[int], seed: int,
                  begun: Checkpoint | None = None,
                  take_step: Callable[..., Tensor] | None = None) -> dict[int, Checkpoint]:  # fmt: skip
    """i -> W'_{t+i} for each i of `steps`, by updates from the recorded W_t, t = start (Algorithm 2, lines 25-29).

    begun: the recorded W_t, if it has been read already ·
    seed: the verifier's own, from which a `redraw` draws its augmentation ·
    take_step: `updates(learner, data.points)`, for a caller who replays many intervals.
    """
    take_step = take_step or updates(learner, data.points)
    # All of them at once: a copy at every step would make a GPU wait for the CPU.
    batches = torch.as_tensor(data.batches[start : start + max(steps)]).to(learner.conditions.device)
    replayed = learner.conditions.augmentation == "replay"
    load(learner, begun or proof.checkpoint(start, learner.task))
    reached = {}
    for step in range(start, start + max(steps)):
        drawn = int(data.augmentation_seeds[step]) if replayed else derive_seed(seed, "redraw", step)
        take_step(batches[step - start], step=step, augmentation_seed=drawn)
        if step + 1 - start in steps:
            reached[step + 1 - start] = snapshot(learner)
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
        learner = make_learner(task, conditions)
        take_step = updates(learner, data.points)
        for start in starts:
            end = min(start + proof.checkpoint_interval, proof.steps)
            # Where one interval ends the next begins, if it is replayed too.
            begun = claimed.get(start)
            reached = reached_after(learner, proof, data, start, [end - start], seed, begun, take_step)[end - start]
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


def replay(proof: Proof, task: Task, conditions: Conditions, starts: Sequence[int], seed: int, *,
           workers: int = 1, progress: Progress = False, remember: bool = False) -> pd.DataFrame:  # fmt: skip
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
    return remembered(compute, "replays", proof=proof.digest, task=task.to_json(), conditions=conditions.to_json(),
                      interval=proof.checkpoint_interval, starts=list(map(int, starts)), seed=seed)  # fmt: skip


def remembered(compute: Callable[[], pd.DataFrame], kind: str, **facts) -> pd.DataFrame:
    """The table that `compute` makes, kept in the cache under the facts that decide it."""
    file = cache_folder(kind, **facts).with_suffix(".json")
    if not stands(file):
        with made_alone(file):
            if not file.exists():  # another process may have made it meanwhile
                table = compute()
                columns = table.columns.tolist()
                write_text_whole(file, json.dumps({"data": table.to_numpy(dtype=object).tolist(), "columns": columns}))
                return table
    return pd.DataFrame(**json.loads(file.read_text()))


def run_jobs(jobs: Sequence[tuple], workers: int, title: str, progress: Progress, *,
             threads: bool = False) -> Iterator:  # fmt: skip
    """The result of each job (function, arguments), in the jobs' order, with a progress bar.

    Few jobs share threads, since torch lets go of the interpreter while it computes: on `digits` two threads do 1.6
    times the steps of one. Two processes do 1.9 times as many, but take 5 s to start. threads: never start processes;
    for a job that sends its result back whole, as a forged interval does, they are no faster. Settings that are the
    process's own (`applied`) must be the same for all jobs, and be in force around them: a thread that ends takes back
    its own.
    """
    if workers > 1 and len(jobs) > 1:
        import joblib  # takes 0.03 s to import

        backend = "threading" if threads or len(jobs) < JOBS_FOR_PROCESSES else "loky"
        parallel = joblib.Parallel(n_jobs=min(workers, len(jobs)), backend=backend, return_as="generator")
        results = parallel(joblib.delayed(function)(*arguments) for function, arguments in jobs)
    else:
        results = (function(*arguments) for function, arguments in jobs)
    yield from reported(results, total=len(jobs), title=title, progress=progress)
