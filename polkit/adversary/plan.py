"""What an adversary decides before it computes a gradient: the plan of a spoof, and its limits."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from polkit.adversary.path import on_the_path, perturbation, sorted_initialisation
from polkit.adversary.perturb import Batch
from polkit.proof import tensor_shapes
from polkit.training import (
    PARTS,
    Checkpoint,
    Conditions,
    Meter,
    Points,
    Task,
    augmentation_order,
    derive_seed,
    distances,
    epoch_batches,
    training_points,
    unit_costs,
)
from polkit.verifier import Calibration


@dataclass(frozen=True)
class Plan:
    """All that an adversary decides before it computes a gradient, and the meter of what it spends.

    first: W_0 · final: f_{W_T} · batches: int32 (T', B), indices into points · seeds: int64 (T',), one per
    step's augmentation · limits: γ, how far one update may move the weights, in each distance · off_path: how far the
    first checkpoints leave the straight path, as a share of the weights' own size; the last ones do not · pace: knots
    (share of the steps, share of the path); none: evenly · begun: the step at which the straight path begins; `first`
    is where it does.
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
    begun: int = 0

    @property
    def starts(self) -> range:
        return range(self.begun, len(self.batches), self.task.checkpoint_interval)

    def weights_at(self, step: int) -> dict[str, torch.Tensor]:
        share = (step - self.begun) / (len(self.batches) - self.begun)
        straight = on_the_path(
            self.first, self.final, float(np.interp(share, *zip(*self.pace, strict=True))) if self.pace else share
        )
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
        return {
            "task": self.task.to_json(),
            "seed": self.seed,
            "conditions": self.conditions.to_json(),
            "spoof_steps": len(self.batches),
            "limits": dict(self.limits),
            "off_path": self.off_path,
            "weights": digest.hexdigest(),
            **({"pace": self.pace} if self.pace else {}),
        }


def make_plan(
    final: Checkpoint,
    task: Task,
    *,
    spoof_steps: int,
    seed: int,
    conditions: Conditions = Conditions(),
    calibration: Calibration | None = None,
    movement_limit: float = 0.1,
    off_path: float = 0.0,
    pace: Sequence[tuple[float, float]] = (),
) -> Plan:
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
        task=task,
        seed=seed,
        conditions=conditions,
        first=first,
        final=final,
        points=training_points(task),
        batches=_drawn_batches(task, spoof_steps, seed),
        seeds=augmentation_order(task, seed, spoof_steps),
        limits={name: movement_limit * value for name, value in known.items()},
        meter=meter,
        off_path=off_path,
        pace=tuple(pace),
    )


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
