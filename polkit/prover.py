"""Algorithm 1: train, and record W_0, W_k, …, W_T, the batch indices, and the signature of every batch."""

import hashlib
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch

from polkit.background import in_background
from polkit.checkpoints import checkpoint_name, read_checkpoint, write_checkpoint, write_text_whole
from polkit.cost import Cost, Meter
from polkit.data import Points, derive_seed, epoch_batches, signature, training_points
from polkit.progress import Progress, reported
from polkit.proof import (
    Proof,
    cache_folder,
    fresh_folder,
    made_alone,
    needs_points,
    open_proof,
    partial_path,
    publish,
    seal,
    seed_commitment,
    versions,
)  # fmt: skip
from polkit.task import Task
from polkit.training import (
    Checkpoint,
    Conditions,
    applied,
    initial_checkpoint,
    load,
    make_learner,
    snapshot,
    unit_costs,
    update,
)  # fmt: skip


def batch_order(task: Task, seed: int) -> np.ndarray:
    """𝕀: int32 (T, B), the batches of all epochs (Algorithm 1, lines 3-4)."""
    return np.concatenate([epoch_batches(task, seed, epoch) for epoch in range(task.epochs)])


def augmentation_order(task: Task, seed: int, steps: int) -> np.ndarray:
    """int64 (T,): one seed per step, from which that batch's shifts and flips are drawn."""
    return np.array([derive_seed(seed, "augmentation", step) for step in range(steps)], dtype=np.int64)


def train(task: Task, seed: int, conditions: Conditions, points: Points, *, start: int = 0,
          state: Checkpoint | None = None, record: Callable[[int, Checkpoint], None] | None = None,
          progress: Progress = False) -> Checkpoint:  # fmt: skip
    """Lines 2-7: updates `start` … T-1 from `state` (default: W_0 of the seed); returns W_T.

    record(t, W_t) is called at each multiple of k and at T.
    """
    batches, seeds = batch_order(task, seed), augmentation_order(task, seed, task.steps).tolist()
    # All indices at once: a copy at every step would make a GPU wait for the CPU.
    points, batches = points.to(conditions.device), torch.from_numpy(batches).to(conditions.device)
    with applied(conditions):
        learner = make_learner(task, conditions)
        load(learner, state or initial_checkpoint(task, seed))
        steps = range(start, task.steps)
        for step in reported(steps, initial=start, total=task.steps, title="training", unit="step", progress=progress):
            update(learner, points.take(batches[step]), step=step, augmentation_seed=seeds[step])
            done = step + 1
            if record and (done % task.checkpoint_interval == 0 or done == task.steps):
                record(done, snapshot(learner))
        return snapshot(learner)


def prove(task: Task, seed: int = 0, *, out: str | Path | None = None, conditions: Conditions = Conditions(),
          progress: Progress = True) -> Proof:  # fmt: skip
    """PoL creation (Algorithm 1): a proof in the folder `out`, or in the cache.

    A proof that is there already is returned as it is; one that was interrupted, at whatever step, goes on
    from its last checkpoint and ends with the same bytes as if it had never stopped. The printed algorithm
    appends W_t after the update that made W_{t+1}; as the text says, we record W_0, W_k, W_2k, ….
    Raises FileExistsError if `out` holds something else, FileNotFoundError if the data set is missing.
    """
    folder = Path(out) if out else cached_proof(task, seed, conditions)
    with nullcontext() if out else made_alone(folder), applied(conditions):
        return _made(folder, task, seed, conditions, progress)


def _made(folder: Path, task: Task, seed: int, conditions: Conditions, progress: Progress) -> Proof:
    facts = {"task": task.to_json(), "seed": seed, "conditions": conditions.to_json()}
    if folder.exists():
        return _finished(folder, task, seed, conditions)
    points = training_points(task)
    meter = Meter(unit_costs(task))
    partial, notes = partial_path(folder), folder.with_name(folder.name + ".progress.json")
    identity = hashlib.sha256(json.dumps(facts | versions(), sort_keys=True).encode()).hexdigest()
    start, seconds_before = _resume_point(partial, notes, identity)

    def record(step: int, checkpoint: Checkpoint) -> None:
        write_checkpoint(partial, step, checkpoint)
        spent = {"identity": identity, "wall_seconds": seconds_before + meter.elapsed()}
        write_text_whole(notes, json.dumps(spent))

    if start is None:
        notes.unlink(missing_ok=True)  # of a folder that was removed
        fresh_folder(folder)
        record(0, initial_checkpoint(task, seed))
        start = 0
    state = read_checkpoint(partial / checkpoint_name(start), task)
    with in_background(record) as recorded:
        train(task, seed, conditions, points, start=start, state=state, record=recorded, progress=progress)
    batches = batch_order(task, seed)
    seal(
        partial, task=task, checkpoint_interval=task.checkpoint_interval, seed=seed, conditions=conditions,
        batches=batches, signatures=signatures_of(points, batches),
        augmentation_seeds=augmentation_order(task, seed, task.steps),
        points=points if needs_points(task) else None,
    )  # fmt: skip
    meter.charge("update", task.steps)
    proof = publish(partial, folder, meter.cost() + Cost(wall_seconds=seconds_before), meter.counts, trace=[])
    notes.unlink()
    return proof


def cached_proof(task: Task, seed: int, conditions: Conditions) -> Path:
    """Where `prove` keeps the proof of these settings, whether it stands there or not."""
    return cache_folder("proofs", task=task.to_json(), seed=seed, conditions=conditions.to_json())


def signatures_of(points: Points, batches: np.ndarray) -> np.ndarray:
    """ℍ: uint8 (T, 32), the signature of each batch (Algorithm 1, line 9)."""
    return np.stack([np.frombuffer(signature(points.take(batch)), np.uint8) for batch in batches])


def _finished(folder: Path, task: Task, seed: int, conditions: Conditions) -> Proof:
    proof = open_proof(folder)
    same = (task, seed_commitment(seed), conditions.to_json())
    if (proof.task, proof.manifest["seed_commitment"], proof.manifest["conditions"]) != same:
        raise FileExistsError(f"{folder} holds the proof of another task or seed, or of other conditions")
    return proof


def _resume_point(partial: Path, notes: Path, identity: str) -> tuple[int | None, float]:
    """The step of the last whole checkpoint and the seconds spent so far, or (None, 0) for a fresh start."""
    if not notes.is_file() or not partial.is_dir():
        return None, 0.0
    noted = json.loads(notes.read_text())
    if noted["identity"] != identity:
        raise FileExistsError(f"{partial} holds an unfinished proof of other settings: remove it")
    for unfinished in partial.rglob("*.unfinished"):
        unfinished.unlink()
    return max(int(file.stem) for file in (partial / "checkpoints").iterdir()), noted["wall_seconds"]
