"""Proofs that another machine reproduces to the last bit, so that δ = 0: each step in float64, rounded, and logged."""

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import save
from torch import Tensor

from polkit.proof import (
    ROUNDING_LOG,
    Proof,
    ProofError,
    cache_folder,
    fresh_folder,
    made_alone,
    most_logged,
    needs_points,
    open_proof,
    publish,
    seal,
    write_checkpoint,
    write_whole,
)
from polkit.training import (
    Checkpoint,
    Conditions,
    Learner,
    Meter,
    Points,
    Progress,
    Task,
    applied,
    augment,
    augmentation_order,
    batch_order,
    derive_seed,
    distances,
    initial_checkpoint,
    reported,
    signatures_of,
    training_points,
    unit_costs,
)
from polkit.verifier import Reason, Recorded, recorded_data

COLUMNS = ["start", "end", "logged", "turned", "weights", "buffers", "momentum"]


def prove_exactly(
    task: Task,
    seed: int = 0,
    *,
    out: str | Path | None = None,
    conditions: Conditions = Conditions(),
    towards: Checkpoint | None = None,
    progress: Progress = False,
) -> Proof:
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


def _made(
    folder: Path, task: Task, seed: int, conditions: Conditions, towards: Checkpoint | None, progress: Progress
) -> Proof:
    meter, points = Meter(unit_costs(task, ["update"])), training_points(task)
    batches, seeds = batch_order(task, seed), augmentation_order(task, seed, task.steps)
    data = Recorded(points.to(conditions.device), batches, seeds)
    partial, log, state = fresh_folder(folder), [], initial_checkpoint(task, seed)
    learner = Learner(task, conditions)
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
    seal(
        partial,
        task=task,
        checkpoint_interval=task.checkpoint_interval,
        seed=seed,
        conditions=conditions,
        batches=batches,
        signatures=signatures_of(points, batches),
        augmentation_seeds=seeds,
        points=points if needs_points(task) else None,
    )
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
    images = augment(learner.task, learner.unit_pixels(batch.images), seed)
    if reordered is not None:
        generator = torch.Generator().manual_seed(derive_seed(reordered, "order", step))
        places = torch.randperm(len(batch), generator=generator).to(images.device)
        images, batch = images[places], Points(batch.images, batch.labels[places])
    learner.load(state)
    learner.update(Points(images, batch.labels), step=step, augmentation_seed=None)
    return flat(learner.snapshot())


def replay_exactly(
    proof: Proof,
    task: Task,
    conditions: Conditions,
    starts: Sequence[int] | None = None,
    *,
    use_log: bool = True,
    reordered: int | None = None,
) -> pd.DataFrame:
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
        learner = Learner(task, conditions)
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


def reproduced_exactly(
    proof: Proof,
    task: Task,
    conditions: Conditions,
    starts: Sequence[int] | None = None,
    *,
    reordered: int | None = None,
) -> list[Reason]:
    """δ = 0: every part of the state must come out bit for bit, momentum included. Arguments as in `replay_exactly`."""
    try:
        rows = replay_exactly(proof, task, conditions, starts, reordered=reordered)
    except ProofError as error:
        return [Reason("exact", str(error))]
    return [
        Reason("exact", f"steps {row.start} to {row.end}: the {part} end {error:.3g} away, not 0", row.start)
        for row in rows.itertuples()
        for part, error in (("weights", row.weights), ("buffers", row.buffers), ("momentum", row.momentum))
        if not error <= 0  # NaN is not 0
    ]


# How near to a middle a value is logged, in units of the grid. Two machines of ours differ by up to 5e-4 units in one
# step of `digits` (one thread against two), so 2e-3 leaves room for others; 0.4 % of all values are that near.
NEAR = 2.0**-9
# A verifier finds a logged value elsewhere than the prover did, by what two machines differ.
ALLOWED = 2 * NEAR
STEERED = 0.75 * ALLOWED  # an adversary logs whatever the verifier will take; the rest is for two machines to differ
# The grid is float32's, but nowhere finer than 2^-44: a value near zero is what larger ones have left, and errs as they
# do. Without this, float32's neighbours of a momentum of 1e-10 lie nearer to each other than two machines' values.
FINEST = -44


def flat(state: Checkpoint) -> Tensor:
    """float64 (n,): all weights, buffers and momenta one behind the other."""
    parts = state.parts().values()
    return torch.cat([value.flatten().double() for part in parts for value in part.values()])


def unflat(values: Tensor, like: Checkpoint) -> Checkpoint:
    """The checkpoint whose `flat` these values are, in their dtype."""
    parts, used = [], 0
    for part in like.parts().values():
        named = {}
        for name, value in part.items():
            named[name] = values[used : used + value.numel()].view_as(value)
            used += value.numel()
        parts.append(named)
    return Checkpoint(*parts)


def units(values: Tensor) -> Tensor:
    """float64 (n,): the distance between the two neighbours on the grid that each value lies between."""
    exponents = torch.frexp(values).exponent - 24
    return torch.ldexp(torch.ones_like(values), exponents.clamp(min=FINEST))


def _placed(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The unit of each value, its lower neighbour in units, and how far above that it lies, 0 … 1."""
    unit = units(values)
    scaled = values / unit  # exact: a unit is a power of two
    low = scaled.floor()
    return unit, low, scaled - low


def nearness(values: Tensor) -> Tensor:
    """float64 (n,): how far each value lies from the middle between its two neighbours, in units, 0 to 0.5."""
    return (_placed(values)[2] - 0.5).abs()


def round_and_log(values: Tensor, near: float = NEAR, towards: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The prover's side: float32 (n,) on the grid, and the log int32 (m,) of one step.

    values: float64 (n,) · an entry of the log is twice the position, plus one if that value was rounded up ·
    towards: float64 (n,), an adversary's: to which side values near a middle go in place of the nearer one.
    """
    unit, low, share = _placed(values)
    up, doubtful = share > 0.5, (share - 0.5).abs() <= near
    if towards is not None:
        up = torch.where(doubtful, towards > values, up)
    positions = doubtful.nonzero().flatten()
    return ((low + up) * unit).float(), (2 * positions + up[positions]).int()


def round_by_log(values: Tensor, entries: Tensor) -> tuple[Tensor, int]:
    """The verifier's side: its own values rounded as the log says, and how many would have gone the other way.

    Raises ProofError if the log rounds a value that is not near a middle: it may settle a doubt and nothing else.
    """
    unit, low, share = _placed(values)
    up, positions, logged = share > 0.5, entries.long() >> 1, (entries & 1).bool()
    far = ~((share[positions] - 0.5).abs() <= ALLOWED)  # NaN is far
    if bool(far.any()):
        first = int(positions[far][0])
        raise ProofError(
            f"{ROUNDING_LOG} rounds value {first}, which lies {share[first] - 0.5:+.3g} units from a "
            f"middle: at most {ALLOWED:.3g} is open to doubt"
        )
    turned = int((up[positions] != logged).sum())
    up[positions] = logged
    return ((low + up) * unit).float(), turned


def read_log(proof: Proof, values: int) -> list[Tensor]:
    """For each step its entries, int32. values: n, in the state of the task's model.

    Raises ProofError if there is no log, or one that is larger than chance could make it, or not what a log must be.
    """
    if not os.path.lexists(proof.folder / ROUNDING_LOG):
        raise ProofError(f"{ROUNDING_LOG} is missing: without it no two machines round alike")
    most = most_logged(proof.task)
    tensors = proof.tensors(ROUNDING_LOG, {"ends": torch.int64, "entries": torch.int32})
    ends, entries = tensors["ends"], tensors["entries"]
    if ends.shape != (proof.steps,) or entries.dim() != 1:
        raise ProofError(
            f"{ROUNDING_LOG}: ends has shape {tuple(ends.shape)} and entries {tuple(entries.shape)}, "
            f"they must be ({proof.steps},) and (m,)"
        )
    counts = ends.diff(prepend=ends.new_zeros(1))
    if int(ends[-1]) != len(entries) or not 0 <= int(counts.min()) <= int(counts.max()) <= most:
        raise ProofError(f"{ROUNDING_LOG}: ends must rise to {len(entries)} by 0 to {most} a step")
    steps = list(entries.split(counts.tolist()))
    for step, logged in enumerate(steps):
        positions = logged >> 1
        rising = bool((positions.diff() > 0).all())
        if len(logged) and not (rising and int(positions[0]) >= 0 and int(positions[-1]) < values):
            raise ProofError(f"{ROUNDING_LOG}: the positions of step {step} must rise from 0 to below {values}")
    return steps


def log_tensors(entries: list[Tensor]) -> dict[str, Tensor]:
    """The two tensors of the file: where each step's entries end, int64 (T,), and all of them, int32 (m,)."""
    lengths = torch.tensor([len(logged) for logged in entries], dtype=torch.int64)
    return {"ends": lengths.cumsum(0), "entries": torch.cat(entries)}
