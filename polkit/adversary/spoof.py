"""What the attacks share: the plan of a spoof, its limits, and writing it in the very format of a proof."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from polkit.adversary.path import at_rest, on_the_path, perturbation, sorted_initialisation
from polkit.adversary.perturb import Batch
from polkit.calibration import Calibration
from polkit.checkpoints import tensor_shapes, write_checkpoint
from polkit.cost import Cost, Meter
from polkit.data import Points, derive_seed, epoch_batches, training_points
from polkit.distance import distances
from polkit.models import buffer_decays, build_model
from polkit.progress import Progress, reported
from polkit.proof import Proof, cache_folder, fresh_folder, needs_points, open_proof, publish, seal
from polkit.prover import augmentation_order, signatures_of
from polkit.replay import run_jobs
from polkit.task import Task
from polkit.training import (
    PARTS,
    Checkpoint,
    Conditions,
    Learner,
    applied,
    load,
    make_learner,
    snapshot,
    unit_costs,
    update,
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """All that an adversary decides before it computes a gradient, and the meter of what it spends.

    first: W_0 · final: f_{W_T} · batches: int32 (T', B), indices into points · seeds: int64 (T',), one per
    step's augmentation · limits: γ, how far one update may move the weights, in each distance · off_path: how far the
    first checkpoints leave the straight path, as a share of the weights' own size; the last ones do not · pace: knots
    (share of the steps, share of the path); none: evenly.
    """

    task: Task
    seed: int
    conditions: Conditions
    first: Checkpoint
    final: Checkpoint
    points: Points
    batches: np.ndarray
    seeds: np.ndarray
    limits: Mapping[str, float]
    meter: Meter
    off_path: float = 0.0
    pace: tuple[tuple[float, float], ...] = ()

    @property
    def starts(self) -> range:
        return range(0, len(self.batches), self.task.checkpoint_interval)

    def weights_at(self, step: int) -> dict[str, torch.Tensor]:
        share = step / len(self.batches)
        straight = on_the_path(self.first, self.final, float(np.interp(share, *zip(*self.pace, strict=True)))
                               if self.pace else share)  # fmt: skip
        if not self.off_path or share in (0, 1):
            return straight
        away = perturbation(self.final.weights, self.seed)
        return {name: value + self.off_path * (1 - share) * away[name] for name, value in straight.items()}

    def batch(self, step: int) -> Batch:
        """The original batch of a step, on the conditions' device."""
        points = self.points.take(self.batches[step]).to(self.conditions.device)
        return Batch(points, int(self.seeds[step]))

    def over_limit(self, reached: Mapping[str, torch.Tensor], origin: Mapping[str, torch.Tensor]) -> float:
        """How far the weights moved, as a multiple of γ in the distance where that is largest."""
        moved = distances(reached, origin)
        return max(moved[name] / limit for name, limit in self.limits.items())

    def facts(self) -> dict:
        """What tells this plan from another, for the cache."""
        digest = hashlib.sha256()
        for part in (self.final.weights, self.final.buffers):
            for name, value in part.items():
                digest.update(name.encode())
                digest.update(value.contiguous().numpy())
        return {"task": self.task.to_json(), "seed": self.seed, "conditions": self.conditions.to_json(),
                "spoof_steps": len(self.batches), "limits": dict(self.limits), "off_path": self.off_path,
                "weights": digest.hexdigest(), **({"pace": self.pace} if self.pace else {})}  # fmt: skip


@dataclass(frozen=True)
class Forged:
    """One interval as an attack made it. batches: the k batches to publish, or none to leave the data as it is ·
    buffers: the normalisation buffers that a replay of them ends with · trace: a row per optimisation."""

    batches: list[Batch]
    buffers: dict[str, torch.Tensor]
    trace: list[dict] = field(default_factory=list)


def make_plan(final: Checkpoint, task: Task, *, spoof_steps: int, seed: int, conditions: Conditions = Conditions(),
              calibration: Calibration | None = None, movement_limit: float = 0.1,
              off_path: float = 0.0, pace: Sequence[tuple[float, float]] = ()) -> Plan:  # fmt: skip
    """spoof_steps: T' · movement_limit: γ as a share of δ, in every distance · off_path, pace: as in `Plan`.

    Without a calibration the adversary does not know δ and takes for it the spacing of its own path, the least
    δ that could ever accept it. Raises ValueError, in one sentence, on a budget that no spoof can have.
    """
    interval, meter = task.checkpoint_interval, Meter(unit_costs(task))
    if spoof_steps < interval:
        raise ValueError(f"T' = {spoof_steps} steps are fewer than one checkpoint interval of k = {interval}")
    if spoof_steps % interval:
        raise ValueError(f"T' = {spoof_steps} is not a multiple of the checkpoint interval k = {interval}")
    if movement_limit >= 1:
        raise ValueError(f"γ = {movement_limit} · δ: one update must move less than δ, so the share lies below 1")
    if movement_limit <= 0:
        raise ValueError(f"γ = {movement_limit} · δ: no update can move less than nothing, so the share lies above 0")
    if calibration is not None and (odd := calibration.task.differs(task)):
        mine, other = (getattr(known, odd[0]) for known in (task, calibration.task))
        raise ValueError(f"the calibration is not for this task: its {odd[0]} is {other}, the spoof's {mine}")
    if pace and (tuple(pace[0]) != (0, 0) or tuple(pace[-1]) != (1, 1) or sorted(pace) != list(pace)):
        raise ValueError(f"the pace {list(pace)} is no way from W_0 to W_T: its knots must rise from (0, 0) to (1, 1)")
    check_weights(final, task)
    seed = derive_seed(seed, "adversary")  # an adversary who picks the prover's number must not draw the same
    first = sorted_initialisation(task, final, seed)
    if calibration is None:
        known = distances(first.weights, on_the_path(first, final, interval / spoof_steps))
    else:
        known = calibration.thresholds["weights"]
    return Plan(
        task=task, seed=seed, conditions=conditions, first=first, final=final, points=training_points(task),
        batches=_drawn_batches(task, spoof_steps, seed),
        seeds=augmentation_order(task, seed, spoof_steps),
        limits={name: movement_limit * value for name, value in known.items()}, meter=meter, off_path=off_path,
        pace=tuple(pace),
    )  # fmt: skip


def original_batches(task: Task, steps: int, seed: int) -> np.ndarray:
    """int32 (T', B): which training images the adversary of this seed takes for each step, before any noise."""
    return _drawn_batches(task, steps, derive_seed(seed, "adversary"))


def _drawn_batches(task: Task, steps: int, seed: int) -> np.ndarray:
    epochs = -(-steps // task.steps_per_epoch)
    return np.concatenate([epoch_batches(task, seed, epoch) for epoch in range(epochs)])[:steps]


def original_batch(task: Task, step: int, seed: int) -> Points:
    """The batch of a step as the adversary of this seed found it in the data."""
    return training_points(task).take(original_batches(task, step + 1, seed)[step])


def check_weights(final: Checkpoint, task: Task) -> None:
    """ValueError unless these are the weights and buffers of the task's model."""
    wanted = {key: tuple(shape) for key, shape in tensor_shapes(task).items() if not key.startswith("momentum.")}
    named = [(f"{part}.{name}", value) for part in PARTS for name, value in final.parts()[part].items()]
    found = {key: tuple(value.shape) for key, value in named}
    if wanted != found:
        odd = min(key for key in wanted | found if wanted.get(key) != found.get(key))
        raise ValueError(
            f"these are not the weights of task {task.name}: {odd} has shape {found.get(odd)}, "
            f"its model needs {wanted.get(odd)}"
        )


def forge(plan: Plan, attack: str, forge_interval: Callable[..., Forged], settings: dict, *, out: str | Path | None,
          workers: int, progress: Progress) -> Proof:  # fmt: skip
    """Algorithms 4 and 5, lines 1-18: W_0 by sorting, W_k, W_2k, … on the straight path, the data forged to fit.

    forge_interval(learner, plan, start, W_start, **settings) makes the data of one interval. Intervals do not depend
    on each other, so that `workers` can share them.
    """
    folder = spoof_folder(plan, attack, settings, out)
    if folder.exists():
        return open_proof(folder)
    partial, interval = fresh_folder(folder), plan.task.checkpoint_interval
    write_checkpoint(partial, 0, plan.first)
    decays = buffer_decays(build_model(plan.task))
    buffers, published, trace = plan.first.buffers, [], []
    jobs = [(_forge_alone, (plan, forge_interval, start, settings)) for start in plan.starts]
    with applied(plan.conditions):
        made = plan.meter.collect(run_jobs(jobs, workers, attack, progress, threads=True))
        for start, forged in zip(plan.starts, made, strict=True):
            buffers = chained_buffers(plan.first.buffers, buffers, forged.buffers, decays, interval)
            # The last checkpoint must be the model that is claimed, with the buffers that model has.
            shown = plan.final.buffers if start == plan.starts[-1] else buffers
            weights = plan.weights_at(start + interval)
            write_checkpoint(partial, start + interval, Checkpoint(weights, shown, at_rest(weights)))
            published += forged.batches
            trace += forged.trace
    return write_spoof(plan, partial, folder, published, trace)


def _forge_alone(plan: Plan, forge_interval: Callable[..., Forged], start: int,
                 settings: dict) -> tuple[Forged, Cost, Counter[str]]:  # fmt: skip
    """One interval by itself, as if the normalisation buffers began with it, and what it took."""
    alone = replace(plan, meter=Meter(plan.meter.units))
    weights = plan.weights_at(start)
    with applied(plan.conditions):
        learner = make_learner(plan.task, plan.conditions)
        forged = forge_interval(learner, alone, start, Checkpoint(weights, plan.first.buffers, at_rest(weights)),
                                **settings)  # fmt: skip
    return forged, alone.meter.cost(), alone.meter.counts


def chained_buffers(assumed: Mapping[str, torch.Tensor], before: Mapping[str, torch.Tensor],
                    reached: Mapping[str, torch.Tensor], decays: Mapping[str, float],
                    steps: int) -> dict[str, torch.Tensor]:  # fmt: skip
    """Where an interval's buffers end that begin at `before`, if from `assumed` they `reached` what they did.

    In r ← (1 - m) r + m · (the batch's statistic), another beginning differs by (1 - m)^k of itself at the end; what
    the batches add is the same.
    """
    return {name: reached[name] + decay**steps * (before[name] - assumed[name]) for name, decay in decays.items()}


def replayed_buffers(
    learner: Learner, plan: Plan, start: int, checkpoint: Checkpoint, batches: list[Batch]
) -> dict[str, torch.Tensor]:
    """The normalisation buffers that a verifier's replay of these batches ends with.

    Forward passes at W_{t-k} alone would cost a third, but the weights move a little on the way: in the first
    interval of `digits` that put the cosine distance of the buffers above δ in one spoof of three.
    """
    load(learner, checkpoint)
    for step, batch in enumerate(batches, start):
        update(learner, batch.points, step=step, augmentation_seed=batch.augmentation_seed)
        plan.meter.charge("update")
    return snapshot(learner).buffers


def spoof_folder(plan: Plan, attack: str, settings: dict, out: str | Path | None) -> Path:
    """`out`, which must not exist yet, or the spoof's place in the cache."""
    if out is None:
        return cache_folder("spoofs", attack=attack, **plan.facts(), **settings)
    if Path(out).exists():
        raise FileExistsError(f"{out} exists already: choose another folder for the spoof")
    return Path(out)


def train_on_the_plan(learner: Learner, plan: Plan, partial: Path, steps: int, title: str, progress: Progress) -> None:
    """The first `steps` updates on the plan's own batches, from its checkpoint 0 on (Algorithm 3, lines 3-11)."""
    for step in reported(range(steps), total=steps, title=title, unit="step", progress=progress):
        batch = plan.batch(step)
        update(learner, batch.points, step=step, augmentation_seed=batch.augmentation_seed)
        plan.meter.charge("update")
        if (step + 1) % plan.task.checkpoint_interval == 0:
            write_checkpoint(partial, step + 1, snapshot(learner))


def write_spoof(plan: Plan, partial: Path, folder: Path, published: list[Batch], trace: list[dict], *,
                relabelled: bool = False) -> Proof:  # fmt: skip
    """Indices, signatures and data of a spoof whose checkpoints are in `partial`.

    relabelled: whether the plan's labels are no longer the data set's own, so that the points must travel along ·
    published: the batches whose images were changed, the last ones of the spoof. Each becomes points of its own:
    writing them back over D, as the printed algorithms do, would undo an earlier batch that shares an image.
    """
    points, batches = plan.points, plan.batches
    if published:
        unchanged = len(batches) - len(published)
        kept = points if unchanged else points.take([])
        changed = [batch.points.to("cpu") for batch in published]
        points = Points(
            torch.cat([kept.images, *(batch.images for batch in changed)]),
            torch.cat([kept.labels, *(batch.labels for batch in changed)]),
        )
        added = np.arange(len(kept), len(points)).reshape(-1, plan.task.batch_size)
        batches = np.concatenate([batches[:unchanged], added])
    seal(
        partial, task=plan.task, checkpoint_interval=plan.task.checkpoint_interval, seed=plan.seed,
        conditions=plan.conditions, batches=batches, signatures=signatures_of(points, batches),
        augmentation_seeds=plan.seeds, points=points if published or relabelled or needs_points(plan.task) else None,
    )  # fmt: skip
    return publish(partial, folder, plan.meter.cost(), plan.meter.counts, trace)
