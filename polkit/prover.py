"""Algorithm 1: train, and record W_0, W_k, …, W_T, the batch indices, and the signature of every batch."""

import hashlib
import json
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from polkit.proof import Proof, ProofError, open_proof, seal, versions, write_whole
from polkit.proof.checkpoints import checkpoint_name, checkpoint_steps, read_checkpoint, write_checkpoint
from polkit.proof.folder import file_digest, publish, seed_commitment
from polkit.proof.storage import cache_folder, fresh_folder, journal_path, made_alone, partial_path
from polkit.training import Points, augmentation_order, batch_order, signature, training_points
from polkit.training.conditions import Conditions, applied
from polkit.training.cost import Cost, Meter, unit_costs
from polkit.training.data import points_facts, signatures_of
from polkit.training.jobs import Progress, in_background, reported
from polkit.training.step import Checkpoint, Learner, initial_checkpoint
from polkit.training.task import Task, shown_task, whole


class Diverged(ArithmeticError):
    """A training whose loss or state is no longer finite; the text names the step and the learning rate."""


def train(
    task: Task,
    seed: int,
    conditions: Conditions,
    points: Points,
    *,
    start: int = 0,
    state: Checkpoint | None = None,
    record: Callable[[int, Checkpoint], None] | None = None,
    progress: Progress = False,
) -> Checkpoint:
    """Algorithm 1, lines 2-7 and 10-11: trains, and hands over a checkpoint after every k updates. Returns W_T.

    start, state: t and W_t to go on from; default, 0 and the seed's W_0
    record: called with (t, W_t) at each later multiple of k, and at T
    Raises Diverged, before anything that is not finite is recorded.
    """
    k, final = task.checkpoint_interval, task.steps
    known, losses = state or initial_checkpoint(task, seed), []  # line 2
    batches, seeds = batch_order(task, seed), augmentation_order(seed, final).tolist()  # lines 3-4
    # All indices at once: a copy at every step would make a GPU wait for the CPU.
    points, batches = points.to(conditions.device), torch.from_numpy(batches).to(conditions.device)
    steps = reported(range(start, final), initial=start, total=final, title="training", unit="step", progress=progress)

    with applied(conditions):
        learner = Learner(task, conditions)
        learner.load(known)
        for step in steps:  # lines 5-6
            batch = points.take(batches[step])
            losses.append(learner.update(batch, step=step, augmentation_seed=seeds[step]))  # line 7
            done = step + 1
            if done % k == 0 or done == final:  # lines 10-11
                reached = learner.snapshot()
                # Losses are looked at only here: at every step a GPU would wait for the CPU.
                odd = [at for at, loss in enumerate(losses, done - len(losses)) if not math.isfinite(loss)]
                if odd or not reached.is_finite():
                    at, found = (odd[0], "its loss is not finite") if odd else (step, "its update is not finite")
                    raise Diverged(
                        f"the training of {task.name} diverged at step {at} of {final}, with a learning rate of "
                        f"{task.learning_rate_at(at):g}: {found}; a smaller learning rate may hold"
                    )
                if record:
                    record(done, reached)
                known, losses = reached, []
    return known


def prove(
    task: Task,
    seed: int = 0,
    *,
    out: str | Path | None = None,
    conditions: Conditions = Conditions(),
    progress: Progress = True,
) -> Proof:
    """PoL creation (Algorithm 1): a proof in the folder `out`, or in the cache.

    A proof of these images that is there already is returned; one that was interrupted goes on from its last
    checkpoint, and ends with the same bytes as if it had never stopped. The printed algorithm appends W_t after the
    update that made W_{t+1}; as the text says, we record W_0, W_k, W_2k, ….
    Raises FileExistsError or ProofError if `out` holds anything else, FileNotFoundError without the data, Diverged.
    """
    seed, points = whole("the seed", seed), training_points(task)  # first: the name may stand for other images by now
    folder = Path(out) if out else cached_proof(task, seed, conditions, points)
    if folder.exists():
        return _finished(folder, task, seed, conditions, points)
    with made_alone(folder), applied(conditions):
        if folder.exists():  # another process has made it meanwhile
            return _finished(folder, task, seed, conditions, points)
        return _made(folder, task, seed, conditions, points, progress)


def proof_facts(task: Task, seed: int, conditions: Conditions, points: Points) -> dict:
    """What decides the bytes of a proof, beside the versions."""
    known = {"task": task.to_json(), "seed": whole("the seed", seed), "conditions": conditions.to_json()}
    return known | points_facts(task, points)


def cached_proof(task: Task, seed: int, conditions: Conditions, points: Points) -> Path:
    """Where `prove` keeps the proof of these settings, whether it stands there or not."""
    return cache_folder("proofs", **proof_facts(task, seed, conditions, points))


def _made(folder: Path, task: Task, seed: int, conditions: Conditions, points: Points, progress: Progress) -> Proof:
    partial, journal = partial_path(folder), Journal(folder, proof_facts(task, seed, conditions, points) | versions())
    meter = Meter(unit_costs(task, ["update"]))
    start, seconds_before = journal.resume(checkpoint_steps(task.steps, task.checkpoint_interval))

    def record(step: int, checkpoint: Checkpoint) -> None:
        journal.note(step, write_checkpoint(partial, step, checkpoint), seconds_before + meter.elapsed())

    if start is None:
        journal.begin()
        record(0, initial_checkpoint(task, seed))
        start = 0
    state = read_checkpoint(partial / checkpoint_name(start), task)
    with in_background(record) as recorded:
        train(task, seed, conditions, points, start=start, state=state, record=recorded, progress=progress)
    batches, seeds = batch_order(task, seed), augmentation_order(seed, task.steps)
    seal(partial, task, points, batches, seeds, seed=seed, conditions=conditions)
    meter.charge("update", task.steps)
    publish(partial, folder, meter.cost() + Cost(wall_seconds=seconds_before), meter.counts, trace=[])
    return _finished(folder, task, seed, conditions, points)


def reopened(folder: Path) -> Proof:
    """A proof that stands where one was to be made. ProofError says what to do if its records are damaged."""
    try:
        proof = open_proof(folder)
        proof.batches(), proof.signatures()
        return proof
    except ProofError as error:
        raise ProofError(f"{folder} cannot be used ({error}): remove it, or name another folder") from error


def _finished(folder: Path, task: Task, seed: int, conditions: Conditions, points: Points) -> Proof:
    proof = reopened(folder)
    same = (task.without_place(), seed_commitment(seed), conditions.to_json())
    if (proof.task.without_place(), proof.manifest["seed_commitment"], proof.manifest["conditions"]) != same:
        raise FileExistsError(f"{folder} holds the proof of another task or seed, or of other conditions")
    if not _is_of(proof, points, batch_order(task, seed)):
        now = f"than {shown_task(task.name)} has now"
        raise FileExistsError(f"{folder} holds a proof of other images {now}: choose another folder")
    with suppress(OSError):  # of a read-only folder: it stands whole, and its journal is nothing but litter
        journal_path(folder).unlink(missing_ok=True)
    return replace(proof, task=task)  # the caller knows where its folder of images lies


def _is_of(proof: Proof, points: Points, batches: np.ndarray) -> bool:
    """Whether these points are the proof's own, or, if none travel with it, those that it signed."""
    if (own := proof.points()) is not None:
        return signature(own) == signature(points)
    steps = np.unique(np.unique(batches, return_index=True)[1] // batches.shape[1])  # those that show a point first
    return np.array_equal(signatures_of(points, batches[steps]), proof.signatures()[steps])


class Journal:
    """What an unfinished proof has come to: a line with the settings' identity, then one per recorded checkpoint.

    Synced to the disk only as it begins: what a loss of power takes away costs the steps since, and nothing else.
    """

    def __init__(self, folder: Path, facts: dict):
        self.folder, self.file, self.partial = folder, journal_path(folder), partial_path(folder)
        self.identity = {"identity": hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()}

    def begin(self) -> None:
        self.file.unlink(missing_ok=True)  # of a folder that was removed, or of one whose first checkpoint is lost
        fresh_folder(self.folder)
        write_whole(self.file, json.dumps(self.identity) + "\n")

    def note(self, step: int, digest: dict, wall_seconds: float) -> None:
        with self.file.open("a") as opened:
            opened.write(json.dumps({"step": step, **digest, "wall_seconds": wall_seconds}) + "\n")

    def resume(self, steps: list[int]) -> tuple[int | None, float]:
        """The step up to which the checkpoints of these steps stand as noted, and the seconds spent; else (None, 0).

        What lies in the folder besides goes. Raises FileExistsError if it is the unfinished proof of other settings.
        """
        noted, lines = self.file.is_file() and self.partial.is_dir(), []
        with suppress(ValueError):  # of a line that a loss of power has torn
            for text in self.file.read_bytes().split(b"\n")[:-1] if noted else []:
                lines.append(json.loads(text))
        if lines and lines[0] != self.identity:
            raise FileExistsError(f"{self.partial} holds an unfinished proof of other settings: remove it")
        kept = {}
        for step, line in zip(steps, lines[1:], strict=False):
            file = self.partial / checkpoint_name(step)
            seconds = line.get("wall_seconds")
            if not file.is_file() or line != {"step": step, **file_digest(file), "wall_seconds": seconds}:
                break
            kept[file] = line
        if not kept:
            return None, 0.0
        for file in self.partial.rglob("*"):
            if file.is_file() and file not in kept:
                file.unlink()
        write_whole(self.file, "".join(json.dumps(line) + "\n" for line in [self.identity, *kept.values()]))
        return steps[len(kept) - 1], lines[len(kept)]["wall_seconds"]
