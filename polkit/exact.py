"""Proofs that another machine reproduces to the last bit, so that δ = 0: each step in float64, rounded, and logged."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import save
from torch import Tensor

from polkit.checkpoints import write_checkpoint
from polkit.cost import Meter
from polkit.data import Points, augment, derive_seed, training_points
from polkit.defences.checks import Finding
from polkit.distance import distances
from polkit.places import cache_folder, fresh_folder
from polkit.progress import Progress, reported
from polkit.proof import ROUNDING_LOG, Proof, needs_points, open_proof, publish, seal
from polkit.prover import augmentation_order, batch_order, signatures_of
from polkit.reading import ProofError
from polkit.replay import Recorded, recorded_data
from polkit.rounding import ALLOWED, NEAR, flat, log_tensors, read_log, round_and_log, round_by_log, unflat
from polkit.task import Task
from polkit.training import (
    Checkpoint,
    Conditions,
    Learner,
    applied,
    initial_checkpoint,
    load,
    make_learner,
    snapshot,
    unit_costs,
    unit_pixels,
    update,
)  # fmt: skip
from polkit.whole import made_alone, write_whole

COLUMNS = ["start", "end", "logged", "turned", "weights", "buffers", "momentum"]
STEERED = 0.75 * ALLOWED  # an adversary logs whatever the verifier will take; the rest is for two machines to differ


def prove_exactly(task: Task, seed: int = 0, *, out: str | Path | None = None, conditions: Conditions = Conditions(),
                  towards: Checkpoint | None = None, progress: Progress = False) -> Proof:  # fmt: skip
    """Algorithm 1, with a log of the roundings beside it: a proof in the folder `out`, or in the cache.

    Each update is computed in float64 from a float32 state, and the state it leaves (weights, buffers, momentum)
    rounded to float32. Srivastava et al. round after each operation; after each step is enough here, since what two
    machines differ by has no time to grow within one. The folder is a proof like any other, of float32 checkpoints,
    and `verify` takes it too. Unlike `prove` it does not go on where it was interrupted.
    towards: an adversary's: it rounds whatever is open to doubt towards this model.
    """
    conditions = conditions.replace(precision="float64")
    facts = {"task": task.to_json(), "seed": seed, "conditions": conditions.to_json(), "near": NEAR}
    if towards is not None:
        facts["towards"] = [float(flat(towards).sum()), float(flat(towards).square().sum())]
    folder = Path(out) if out else cache_folder("exact", **facts)
    with made_alone(folder), applied(conditions):
        if folder.exists() and not out:
            return open_proof(folder)
        if folder.exists():
            raise FileExistsError(f"{folder} exists already: choose another folder for the proof")
        return _made(folder, task, seed, conditions, towards, progress)


def _made(folder: Path, task: Task, seed: int, conditions: Conditions, towards: Checkpoint | None,
          progress: Progress) -> Proof:  # fmt: skip
    meter, points = Meter(unit_costs(task, ["update"])), training_points(task)
    batches, seeds = batch_order(task, seed), augmentation_order(task, seed, task.steps)
    data = Recorded(points.to(conditions.device), batches, seeds)
    partial, log, state = fresh_folder(folder), [], initial_checkpoint(task, seed)
    learner = make_learner(task, conditions)
    write_checkpoint(partial, 0, state)
    for step in reported(range(task.steps), total=task.steps, title="training", unit="step", progress=progress):
        values = stepped(learner, state, data, step)
        near, aim = (NEAR, None) if towards is None else (STEERED, _aimed(values, towards))
        rounded, entries = round_and_log(values, near, aim)
        state = unflat(rounded, state)
        log.append(entries)
        if (step + 1) % task.checkpoint_interval == 0 or step + 1 == task.steps:
            write_checkpoint(partial, step + 1, state)
    write_whole(partial / ROUNDING_LOG, save(log_tensors(log)), durable=False)
    seal(partial, task=task, checkpoint_interval=task.checkpoint_interval, seed=seed, conditions=conditions,
         batches=batches, signatures=signatures_of(points, batches), augmentation_seeds=seeds,
         points=points if needs_points(task) else None)  # fmt: skip
    meter.charge("update", task.steps)
    return publish(partial, folder, meter.cost(), meter.counts, trace=[])


def _aimed(values: Tensor, towards: Checkpoint) -> Tensor:
    """Where each value should go so that the weights come nearer to a model; a momentum, to the side that pushes."""
    model = flat(Checkpoint(towards.weights, towards.buffers, {}))
    count = len(values) - len(model)  # of weights, and of their momenta
    return torch.cat([model, values[-count:] + (values[:count] - model[:count])])


def stepped(learner: Learner, state: Checkpoint, data: Recorded, step: int, reordered: int | None = None) -> Tensor:
    """float64 (n,): the state that update `step` makes of this one, before any rounding.

    reordered: a seed by which the samples of a batch change places, so that all sums over it run in another order, as
    they may on another machine.
    """
    batch, seed = data.points.take(data.batches[step]), int(data.augmentation_seeds[step])
    images = augment(learner.task, unit_pixels(learner, batch.images), seed)
    if reordered is not None:
        generator = torch.Generator().manual_seed(derive_seed(reordered, "order", step))
        places = torch.randperm(len(batch), generator=generator).to(images.device)
        images, batch = images[places], Points(batch.images, batch.labels[places])
    load(learner, state)
    update(learner, Points(images, batch.labels), step=step, augmentation_seed=None)
    return flat(snapshot(learner))


def replay_exactly(proof: Proof, task: Task, conditions: Conditions, starts: Sequence[int] | None = None, *,
                   use_log: bool = True, reordered: int | None = None) -> pd.DataFrame:  # fmt: skip
    """What other Conditions make of the intervals from `starts` (default: all), rounded as the log says.

    One row per interval: start, end, logged (entries of its log), turned (values that without it would have been
    rounded the other way), and the error in l2 of weights, buffers and momentum; all three are exactly 0 if the proof
    is honest. use_log: False rounds everything to the nearest · reordered: as in `stepped`.
    Raises ProofError if the log or another file is not what it must be.
    """
    conditions = conditions.replace(precision="float64", augmentation="replay")
    data, rows = recorded_data(proof, conditions), []
    log = read_log(proof, len(flat(proof.checkpoint(0, task)))) if use_log else None
    with applied(conditions):
        learner = make_learner(task, conditions)
        for start in proof.checkpoint_steps[:-1] if starts is None else starts:
            end = min(start + proof.checkpoint_interval, proof.steps)
            state, claimed, logged, turned = proof.checkpoint(start, task), proof.checkpoint(end, task), 0, 0
            for step in range(start, end):
                values = stepped(learner, state, data, step, reordered)
                entries = log[step] if log else torch.empty(0, dtype=torch.int32)
                rounded, changed = round_by_log(values, entries)
                state, logged, turned = unflat(rounded, state), logged + len(entries), turned + changed
            errors = {part: distances(claimed.parts()[part], value)["l2"] for part, value in state.parts().items()}
            rows.append({"start": start, "end": end, "logged": logged, "turned": turned} | errors)
    return pd.DataFrame(rows, columns=COLUMNS)


def reproduced_exactly(proof: Proof, task: Task, conditions: Conditions, starts: Sequence[int] | None = None, *,
                       reordered: int | None = None) -> list[Finding]:  # fmt: skip
    """δ = 0: every part of the state must come out bit for bit, momentum included. Arguments as in `replay_exactly`."""
    try:
        rows = replay_exactly(proof, task, conditions, starts, reordered=reordered)
    except ProofError as error:
        return [Finding("exact", str(error))]
    return [
        Finding("exact", f"steps {row.start} to {row.end}: the {part} end {error:.3g} away, not 0", row.start)
        for row in rows.itertuples()
        for part, error in (("weights", row.weights), ("buffers", row.buffers), ("momentum", row.momentum))
        if not error <= 0  # NaN is not 0
    ]
