"""Proofs that another machine reproduces to the last bit, so that δ = 0: each step in float64, rounded, and logged.

A float32 state is updated in float64 and rounded to float32. Two machines round alike, unless a value lies near the
middle between two neighbours; there a log says which way the prover went. Srivastava et al. round each operation.
"""

import os
from collections.abc import Sequence

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
    publish,
    seal,
    write_checkpoint,
)
from polkit.proof.folder import most_logged
from polkit.proof.storage import write_whole
from polkit.prover import proof_facts, reopened
from polkit.training import Checkpoint, Conditions, Learner, Meter, Points, Task, applied, distances, unit_costs, whole
from polkit.training.data import augment, augmentation_order, batch_order, derive_seed, training_points
from polkit.training.step import initial_checkpoint
from polkit.verifier import Reason, Recorded, recorded_data

# How near to a middle a value is logged, in units of the grid: two machines of ours differ by up to 1.1e-3 in a step.
NEAR = 2.0**-9
ALLOWED = 2 * NEAR  # a verifier finds a logged value elsewhere than the prover did, by what two machines differ
FINEST = -44  # float32's grid, but nowhere finer than 2^-44: a value near zero is what larger ones left, and errs so


def flat(state: Checkpoint) -> Tensor:
    """float64 (n,): all weights, buffers and momenta one behind the other."""
    return torch.cat([value.flatten().double() for part in state.parts().values() for value in part.values()])


def unflat(values: Tensor, like: Checkpoint) -> Checkpoint:
    """The checkpoint whose `flat` these values are, in their dtype."""
    parts = like.parts().values()
    pieces = iter(values.split([value.numel() for part in parts for value in part.values()]))
    return Checkpoint(*({name: next(pieces).view_as(value) for name, value in part.items()} for part in parts))


def placed(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each value, float64 (n,): the grid's unit there, the lower neighbour in units, the share above it, 0 … 1."""
    unit = torch.ldexp(torch.ones_like(values), (torch.frexp(values).exponent - 24).clamp(min=FINEST))
    scaled = values / unit  # exact: a unit is a power of two
    return unit, scaled.floor(), scaled - scaled.floor()


def round_and_log(values: Tensor) -> tuple[Tensor, Tensor]:
    """The prover's side: float32 (n,) on the grid, and the log of one step, int32 (m,).

    An entry of the log is twice the position of a value near a middle, plus one if that value was rounded up.
    """
    unit, low, share = placed(values)
    up, positions = share > 0.5, ((share - 0.5).abs() <= NEAR).nonzero().flatten()
    return ((low + up) * unit).float(), (2 * positions + up[positions]).int()


def round_by_log(values: Tensor, entries: Tensor) -> tuple[Tensor, int]:
    """The verifier's side: its own values rounded as the log says, and how many would have gone the other way.

    Raises ProofError if the log rounds a value that is not near a middle: it may settle a doubt and nothing else.
    """
    unit, low, share = placed(values)
    up, positions, logged = share > 0.5, entries.long() >> 1, (entries & 1).bool()
    far = ~((share[positions] - 0.5).abs() <= ALLOWED)  # NaN is far
    if far.any():
        first = int(positions[far][0])
        found = f"rounds value {first}, which lies {share[first] - 0.5:+.3g} units from a middle"
        raise ProofError(f"{ROUNDING_LOG} {found}: at most {ALLOWED:.3g} is open to doubt")
    turned = int((up[positions] != logged).sum())
    up[positions] = logged
    return ((low + up) * unit).float(), turned


def read_log(proof: Proof, values: int) -> list[Tensor]:
    """The entries of each step, int32 (m,). values: n, in the state of the task's model.

    Raises ProofError if there is no log, if it is larger than chance could make it, or if it is not what it must be.
    """
    if not os.path.lexists(proof.folder / ROUNDING_LOG):
        raise ProofError(f"{ROUNDING_LOG} is missing: without it no two machines round alike")
    most = most_logged(proof.task)
    ends, entries = proof.tensors(ROUNDING_LOG, {"ends": torch.int64, "entries": torch.int32}).values()
    if ends.shape != (proof.steps,) or entries.dim() != 1:
        found = f"ends has shape {tuple(ends.shape)} and entries {tuple(entries.shape)}"
        raise ProofError(f"{ROUNDING_LOG}: {found}, they must be ({proof.steps},) and (m,)")
    counts = ends.diff(prepend=ends.new_zeros(1))
    if int(ends[-1]) != len(entries) or not 0 <= int(counts.min()) <= int(counts.max()) <= most:
        raise ProofError(f"{ROUNDING_LOG}: ends must rise to {len(entries)} by 0 to {most} a step")
    steps = list(entries.split(counts.tolist()))
    for step, logged in enumerate(steps):
        positions = logged >> 1
        if len(logged) and not (positions[0] >= 0 and positions[-1] < values and (positions.diff() > 0).all()):
            raise ProofError(f"{ROUNDING_LOG}: the positions of step {step} must rise from 0 to below {values}")
    return steps


def prove_exactly(task: Task, seed: int = 0, *, conditions: Conditions = Conditions()) -> Proof:
    """Algorithm 1 with a log of its roundings beside float32 checkpoints; made in one go, and kept in the cache."""
    conditions, k, seed = conditions.replace(precision="float64"), task.checkpoint_interval, whole("the seed", seed)
    points = training_points(task)
    folder = cache_folder("exact", **proof_facts(task, seed, conditions, points), near=NEAR)
    if folder.exists():  # also where nothing can be written
        return reopened(folder)
    with made_alone(folder), applied(conditions):
        if folder.exists():
            return reopened(folder)
        meter, learner = Meter(unit_costs(task, ["update"])), Learner(task, conditions)
        batches, seeds = batch_order(task, seed), augmentation_order(seed, task.steps)
        data = Recorded(points.to(conditions.device), batches, seeds)
        partial, log, state = fresh_folder(folder), [], initial_checkpoint(task, seed)
        for step in range(task.steps):
            if step % k == 0:
                write_checkpoint(partial, step, state)
            rounded, entries = round_and_log(stepped(learner, state, data, step))
            state = unflat(rounded, state)
            log.append(entries)
        write_checkpoint(partial, task.steps, state)
        ends = torch.tensor([len(entries) for entries in log], dtype=torch.int64).cumsum(0)
        write_whole(partial / ROUNDING_LOG, save({"ends": ends, "entries": torch.cat(log)}), durable=False)
        seal(partial, task, points, batches, seeds, seed=seed, conditions=conditions)
        meter.charge("update", task.steps)
        return publish(partial, folder, meter.cost(), meter.counts, trace=[])


def stepped(learner: Learner, state: Checkpoint, data: Recorded, step: int, reordered: int | None = None) -> Tensor:
    """float64 (n,): the state after update `step`, not rounded. reordered: a seed that shuffles each batch."""
    batch, seed = data.points.take(data.batches[step]), int(data.augmentation_seeds[step])
    points = Points(augment(learner.task, learner.unit_pixels(batch.images), seed), batch.labels)
    if reordered is not None:
        generator = torch.Generator().manual_seed(derive_seed(reordered, "order", step))
        points = points.take(torch.randperm(len(batch), generator=generator))
    learner.load(state)
    learner.update(points, step=step, augmentation_seed=None)
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
    rounded the other way), and the error in l2 of weights, buffers and momentum, exactly 0 if the proof is honest.
    use_log: False rounds everything to the nearest; reordered: as in `stepped`
    Raises ProofError if the log or another file is not what it must be, IndexError on an index beyond the data.
    """
    conditions = conditions.replace(precision="float64", augmentation="replay")
    data, rows = recorded_data(proof, conditions), []
    log = read_log(proof, len(flat(proof.checkpoint(0, task)))) if use_log else [torch.empty(0).int()] * proof.steps
    with applied(conditions):
        learner = Learner(task, conditions)
        for start in proof.checkpoint_steps[:-1] if starts is None else starts:
            end = min(start + proof.checkpoint_interval, proof.steps)
            state, claimed, turned = proof.checkpoint(start, task), proof.checkpoint(end, task), 0
            for step in range(start, end):
                rounded, changed = round_by_log(stepped(learner, state, data, step, reordered), log[step])
                state, turned = unflat(rounded, state), turned + changed
            logged = sum(map(len, log[start:end]))
            errors = {part: distances(claimed.parts()[part], value)["l2"] for part, value in state.parts().items()}
            rows.append({"start": start, "end": end, "logged": logged, "turned": turned} | errors)
    return pd.DataFrame(rows, columns=["start", "end", "logged", "turned", "weights", "buffers", "momentum"])


def reproduced_exactly(proof: Proof, task: Task, conditions: Conditions) -> list[Reason]:
    """δ = 0: every part of the state must come out bit for bit, momentum included."""
    try:
        rows = replay_exactly(proof, task, conditions)
    except (ProofError, IndexError) as error:  # an index of a batch may be beyond the data
        return [Reason("exact", str(error))]
    long = rows.melt(["start", "end"], ["weights", "buffers", "momentum"], "part", "error")
    return [
        Reason("exact", f"steps {row.start} to {row.end}: the {row.part} end {row.error:.3g} away, not 0", row.start)
        for row in long.sort_values("start", kind="stable").itertuples()
        if not row.error <= 0  # NaN is not 0
    ]
