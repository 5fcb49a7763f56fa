"""Algorithm 1: train, and record W_0, W_k, …, W_T, the batch indices, and the signature of every batch."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from polkit.proof import (
    Proof,
    cache_folder,
    checkpoint_name,
    checkpoint_steps,
    file_digest,
    fresh_folder,
    journal_path,
    made_alone,
    needs_points,
    open_proof,
    partial_path,
    publish,
    read_checkpoint,
    seal,
    seed_commitment,
    stands,
    versions,
    write_checkpoint,
    write_text_whole,
)
from polkit.training import (
    Checkpoint,
    Conditions,
    Cost,
    Learner,
    Meter,
    Points,
    Progress,
    Task,
    applied,
    augmentation_order,
    batch_order,
    in_background,
    initial_checkpoint,
    reported,
    signatures_of,
    training_points,
    unit_costs,
)


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
    """Lines 2-7: updates `start` … T-1 from `state` (default: W_0 of the seed); returns W_T.

    record(t, W_t) is called at each multiple of k and at T.
    Raises Diverged, before anything that is not finite is recorded. It is looked for where checkpoints are due: at
    every step it would make a GPU wait for the CPU.
    """
    batches, seeds = batch_order(task, seed), augmentation_order(task, seed, task.steps).tolist()
    # All indices at once: a copy at every step would make a GPU wait for the CPU.
    points, batches = points.to(conditions.device), torch.from_numpy(batches).to(conditions.device)
    good, known = start, state or initial_checkpoint(task, seed)

    def take_step(step: int) -> float | Tensor:
        return learner.update(points.take(batches[step]), step=step, augmentation_seed=seeds[step])

    with applied(conditions):
        learner = Learner(task, conditions)
        learner.load(known)
        steps = range(start, task.steps)
        seen: float | Tensor = 0.0  # NaN as soon as a loss is not finite
        for step in reported(steps, initial=start, total=task.steps, title="training", unit="step", progress=progress):
            seen, done = seen + 0 * take_step(step), step + 1
            if done % task.checkpoint_interval and done < task.steps:
                continue
            reached = learner.snapshot() if record or done == task.steps else None
            if not math.isfinite(seen) or (reached and not reached.is_finite()):
                learner.load(known)
                raise _divergence(learner, range(good, done), take_step)
            if record:
                record(done, reached)
                good, known = done, reached
        return learner.snapshot()


def _divergence(learner: Learner, steps: range, take_step: Callable[[int], float | Tensor]) -> Diverged:
    """What to raise: the steps are repeated from where all was finite, to find the one at which that ended."""
    task = learner.task
    for step in steps:
        loss = float(take_step(step))
        if not (math.isfinite(loss) and learner.snapshot().is_finite()):
            found = f"its loss is {loss:.4g}" + (", its update is not finite" if math.isfinite(loss) else "")
            return Diverged(
                f"the training of {task.name} diverged at step {step} of {task.steps}, with a learning rate of "
                f"{task.learning_rate_at(step):g}: {found}; a smaller learning rate may hold"
            )
    return Diverged(
        f"the training of {task.name} diverged between the steps {steps.start} and {steps.stop}, with a "
        f"learning rate of {task.learning_rate_at(steps.start):g}, and not when they were repeated: "
        "these conditions do not compute the same twice"
    )


def prove(
    task: Task,
    seed: int = 0,
    *,
    out: str | Path | None = None,
    conditions: Conditions = Conditions(),
    progress: Progress = True,
) -> Proof:
    """PoL creation (Algorithm 1): a proof in the folder `out`, or in the cache.

    A proof that is there already is returned as it is; one that was interrupted, at whatever step, goes on
    from its last checkpoint and ends with the same bytes as if it had never stopped. The printed algorithm
    appends W_t after the update that made W_{t+1}; as the text says, we record W_0, W_k, W_2k, ….
    Raises FileExistsError if `out` holds something else, FileNotFoundError if the data set is missing, Diverged if
    the training does; what was recorded until then waits for nothing but to be removed.
    """
    folder = Path(out) if out else cached_proof(task, seed, conditions)
    if stands(folder):
        return _finished(folder, task, seed, conditions)
    with made_alone(folder), applied(conditions):
        return _made(folder, task, seed, conditions, progress)


def _made(folder: Path, task: Task, seed: int, conditions: Conditions, progress: Progress) -> Proof:
    facts = {"task": task.to_json(), "seed": seed, "conditions": conditions.to_json()}
    journal = journal_of(folder, facts | versions())
    partial = journal.partial
    if folder.exists():  # another process has made it meanwhile, or was killed before it could tidy up
        journal.end()
        return _finished(folder, task, seed, conditions)
    points = training_points(task)
    meter = Meter(unit_costs(task, ["update"]))
    start, seconds_before = journal.resume(checkpoint_steps(task.steps, task.checkpoint_interval))

    def record(step: int, checkpoint: Checkpoint) -> None:
        digest = write_checkpoint(partial, step, checkpoint)
        journal.note(step, digest, seconds_before + meter.elapsed())

    if start is None:
        journal.end()  # of a folder that was removed, or of one whose first checkpoint is lost
        fresh_folder(folder)
        journal.begin()
        record(0, initial_checkpoint(task, seed))
        start = 0
    state = read_checkpoint(partial / checkpoint_name(start), task)
    with in_background(record) as recorded:
        train(task, seed, conditions, points, start=start, state=state, record=recorded, progress=progress)
    batches = batch_order(task, seed)
    seal(
        partial,
        task=task,
        checkpoint_interval=task.checkpoint_interval,
        seed=seed,
        conditions=conditions,
        batches=batches,
        signatures=signatures_of(points, batches),
        augmentation_seeds=augmentation_order(task, seed, task.steps),
        points=points if needs_points(task) else None,
    )
    meter.charge("update", task.steps)
    proof = publish(partial, folder, meter.cost() + Cost(wall_seconds=seconds_before), meter.counts, trace=[])
    journal.end()
    return replace(proof, task=task)


def cached_proof(task: Task, seed: int, conditions: Conditions) -> Path:
    """Where `prove` keeps the proof of these settings, whether it stands there or not."""
    return cache_folder("proofs", task=task.to_json(), seed=seed, conditions=conditions.to_json())


def _finished(folder: Path, task: Task, seed: int, conditions: Conditions) -> Proof:
    proof = open_proof(folder)
    same = (task.without_place(), seed_commitment(seed), conditions.to_json())
    if (proof.task.without_place(), proof.manifest["seed_commitment"], proof.manifest["conditions"]) != same:
        raise FileExistsError(f"{folder} holds the proof of another task or seed, or of other conditions")
    return replace(proof, task=task)  # the caller knows where its folder of images lies


@dataclass(frozen=True)
class Journal:
    """file: a line with the settings' identity, then one per checkpoint in `partial`: its digest, the seconds so far.

    Appended to, not replaced, and synced to the disk only as it begins: a line that a loss of power takes away, or
    a checkpoint that it leaves without its bytes, costs the steps since, and nothing else.
    """

    file: Path
    partial: Path
    identity: str

    def begin(self) -> None:
        write_text_whole(self.file, json.dumps({"identity": self.identity}) + "\n")

    def note(self, step: int, digest: dict, wall_seconds: float) -> None:
        """digest: as `write_checkpoint` gives it."""
        with self.file.open("a") as opened:
            opened.write(json.dumps({"step": step, **digest, "wall_seconds": wall_seconds}) + "\n")

    def resume(self, steps: list[int]) -> tuple[int | None, float]:
        """The step of the last checkpoint up to which all stand as they were noted, and the seconds spent until
        then; (None, 0) for a fresh start. Whatever else is in `partial` goes. steps: of all checkpoints, in order.

        Raises FileExistsError if the folder is the unfinished proof of other settings.
        """
        lines = _lines(self.file) if self.file.is_file() and self.partial.is_dir() else []
        if not lines or set(lines[0]) != {"identity"}:
            return None, 0.0
        if lines[0]["identity"] != self.identity:
            raise FileExistsError(f"{self.partial} holds an unfinished proof of other settings: remove it")
        last, seconds, kept = None, 0.0, set()
        for step, line in zip(steps, lines[1:], strict=False):
            file = self.partial / checkpoint_name(step)
            noted = {name: line.get(name) for name in ("bytes", "sha256")}
            if line.get("step") != step or not file.is_file() or file_digest(file) != noted:
                break
            last, seconds = step, line["wall_seconds"]
            kept.add(file)
        if last is not None:
            for file in self.partial.rglob("*"):
                if file.is_file() and file not in kept:
                    file.unlink()
            text = "".join(json.dumps(line) + "\n" for line in lines[: 1 + len(kept)])
            write_text_whole(self.file, text)
        return last, seconds

    def end(self) -> None:
        if self.file.exists():  # asked first: a read-only folder does not even let a missing file be removed
            self.file.unlink()


def journal_of(folder: Path, facts: dict) -> Journal:
    """The journal of the proof that is to stand at `folder`, made with these settings and no others."""
    identity = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return Journal(journal_path(folder), partial_path(folder), identity)


def _lines(file: Path) -> list[dict]:
    """The whole lines, up to the first that is none."""
    lines = []
    for text in file.read_bytes().split(b"\n")[:-1]:
        try:
            line = json.loads(text)
        except ValueError:
            break
        if not isinstance(line, dict):
            break
        lines.append(line)
    return lines
