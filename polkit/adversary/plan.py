"""What an adversary decides before computing a gradient: the plan of a spoof, and its limits."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Required, TypedDict

import numpy as np
import torch

from polkit.adversary.path import on_the_path, perturbation, sorted_initialisation
from polkit.proof import tensor_shapes
from polkit.training import Checkpoint, Conditions, Learner, Meter, Points, Progress, Task, distances, unit_costs, whole
from polkit.training.data import augmentation_order, batch_order, derive_seed, points_facts, training_points
from polkit.training.step import initial_checkpoint
from polkit.verifier import Calibration

LONGEST = 40  # T' / T; no verifier takes more than T steps, and the book shows what one says of T' = 40 k
Pace = Sequence[tuple[float, float]]  # knots of a path: (share of the steps, share of the path)


class Common(TypedDict, total=False):
    """What can be said of every spoof besides f_{W_T} and the task; the defaults are those of `make_plan`."""

    spoof_steps: Required[int]  # T', a multiple of k
    seed: int  # the adversary's own; they never draw the numbers of a prover with the same seed
    keep_normalisation: bool  # W_0 keeps the trained weights of normalisation layers, as in the code of Zhang et al.
    conditions: Conditions  # where and how the spoof is computed
    out: str | Path | None  # the folder to write, which must not exist; by default a place in the cache
    progress: Progress  # is told of each checkpoint


@dataclass(frozen=True)
class Batch:
    """One batch as the adversary handles it: its points and the seed of their augmentation."""

    points: Points
    augmentation_seed: int

    def redrawn(self, draw: int) -> "Batch":
        """The batch under another draw of its augmentation; draw 0 is its own."""
        return replace(self, augmentation_seed=derive_seed(self.augmentation_seed, "draw", draw)) if draw else self


@dataclass(frozen=True)
class Plan:
    """All that an adversary decides before computing a gradient, and the meter of what they spend."""

    task: Task
    seed: int
    conditions: Conditions
    first: Checkpoint  # W_0
    final: Checkpoint  # f_{W_T}
    points: Points
    batches: np.ndarray  # int32 (T', B), indices into the points
    seeds: np.ndarray  # int64 (T',), one per step's augmentation
    meter: Meter
    out: Path | None
    progress: Progress
    thresholds: Mapping[str, float] = field(default_factory=dict)  # δ in each distance
    limits: Mapping[str, float] = field(default_factory=dict)  # γ, the most that an update may move the weights by
    linf_weight: float = 0.0  # of the largest entry of a gradient beside its squared length, in the objective
    off_path: float = 0.0  # how far the first checkpoints leave the straight path, as a share of the weights' size
    pace: Pace = ()  # none: evenly
    begun: int = 0  # the step at which the straight path begins, at `first`

    @property
    def starts(self) -> range:
        """The first step of each interval of the path."""
        return range(self.begun, len(self.batches), self.task.checkpoint_interval)

    def learner(self) -> Learner:
        """An eager learner: torch.compile cannot differentiate twice."""
        return Learner(self.task, self.conditions.replace(compiled=False))

    def fresh(self) -> "Plan":
        """The plan from a W_0 that is drawn as a prover draws it, not sorted."""
        return replace(self, first=initial_checkpoint(self.task, self.seed))

    def paced(self, pace: Pace) -> "Plan":
        """The plan on a path that is not evenly divided. Raises ValueError unless its knots rise."""
        rising = all(low <= high for pair in pairwise(pace) for low, high in zip(*pair, strict=True))  # no NaN does
        if pace and not (rising and tuple(pace[0]) == (0, 0) and tuple(pace[-1]) == (1, 1)):
            raise ValueError(f"the pace {list(pace)} does not lead to W_T: its knots must rise from (0, 0) to (1, 1)")
        return replace(self, pace=tuple(map(tuple, pace)))

    def limited(
        self, calibration: Calibration | None, share: float = 1.0, updates: int = 1, weigh_linf: bool = False
    ) -> "Plan":
        """The plan with γ, the most that one update may move the weights by: so many `updates` together, `share` · δ.

        The cosine distance grows with the square of a move, so that there the square of `updates` divides.
        weigh_linf: have l2 and l∞ of a gradient count in the objective as their δ compare
        The task may claim what the calibration's regime leaves to the prover, such as another learning rate.
        Without a calibration the adversary takes for δ the spacing of the even path, the least that could accept it.
        Raises ValueError if no update can keep the limit, or the calibration is another task's.
        """
        if not 0 < share <= 1:
            raise ValueError(f"γ = {share} · δ: an update must move less than δ, by a share above 0 and up to 1")
        if calibration is None:
            spacing = self.task.checkpoint_interval / len(self.batches)
            known = distances(self.first.weights, on_the_path(self.first, self.final, spacing))
        else:
            known, left_to_prover = calibration.thresholds["weights"], calibration.regime.prover_decides
            if odd := [name for name in calibration.task.differs(self.task) if name not in left_to_prover]:
                mine, other = (getattr(task, odd[0]) for task in (self.task, calibration.task))
                raise ValueError(f"the calibration is not for this task: its {odd[0]} is {other}, the spoof's {mine}")
        if shut := [name for name, limit in known.items() if not limit > 0]:
            raise ValueError(f"δ is {known[shut[0]]} in {shut[0]}: no update can keep to a share of it")
        linf_weight = (known["l2"] / known["linf"]) ** 2 if weigh_linf else 0.0
        limits = {name: share * limit / (updates**2 if name == "cos" else updates) for name, limit in known.items()}
        return replace(self, thresholds=known, limits=limits, linf_weight=linf_weight)

    def weights_at(self, step: int) -> dict[str, torch.Tensor]:
        """W_t: on the straight path, or as far beside it as `off_path` says."""
        share = (step - self.begun) / (len(self.batches) - self.begun)
        gone = float(np.interp(share, *zip(*self.pace, strict=True))) if self.pace else share
        straight = on_the_path(self.first, self.final, gone)
        if not self.off_path or share in (0, 1):
            return straight
        away = perturbation(self.final.weights, self.seed)
        return {name: value + self.off_path * (1 - share) * away[name] for name, value in straight.items()}

    def batch(self, step: int, attempt: int = 0) -> Batch:
        """The original batch of a step, on the conditions' device; of a later attempt at it, a fresh one."""
        chosen = fresh_batch(self.batches[step], len(self.points), self.seed, step, attempt)
        return Batch(self.points.take(chosen).to(self.conditions.device), int(self.seeds[step]))

    def interval(self, start: int, attempt: int = 0) -> list[Batch]:
        """The k original batches from a step on."""
        return [self.batch(step, attempt) for step in range(start, start + self.task.checkpoint_interval)]

    def over_limit(self, reached: Mapping[str, torch.Tensor], origin: Mapping[str, torch.Tensor]) -> float:
        """How far the weights moved, as a multiple of γ in the distance where that is largest."""
        moved = distances(reached, origin)
        return max(moved[name] / limit for name, limit in self.limits.items())

    def facts(self) -> dict:
        """What tells this plan from another, for the cache."""
        digest = hashlib.sha256()
        for part in (self.first.weights, self.final.weights, self.final.buffers):
            for name, value in part.items():
                digest.update(name.encode() + value.contiguous().numpy().tobytes())
        names = ("seed", "thresholds", "limits", "linf_weight", "off_path", "pace")
        known = points_facts(self.task, self.points) | {name: getattr(self, name) for name in names}
        known |= {"task": self.task.to_json(), "conditions": self.conditions.to_json()}
        return known | {"spoof_steps": len(self.batches), "weights": digest.hexdigest()}


def make_plan(
    final: Checkpoint,
    task: Task,
    *,
    spoof_steps: int,
    seed: int = 0,
    keep_normalisation: bool = False,
    conditions: Conditions = Conditions(),
    out: str | Path | None = None,
    progress: Progress = True,
) -> Plan:
    """The plan of a spoof of f_{W_T} from a sorted W_0, without limits; arguments as in `Common`.

    Raises ValueError on a T' that no spoof can have, or on weights of another model.
    """
    spoof_steps = spoof_length(task, spoof_steps)
    check_weights(final, task)
    own = derive_seed(seed, "adversary")  # an adversary who picks the prover's number must not draw the same
    return Plan(
        task=task,
        seed=own,
        conditions=conditions,
        meter=Meter(unit_costs(task)),
        first=sorted_initialisation(task, final, own, keep_normalisation),
        final=final,
        points=training_points(task),
        batches=original_batches(task, spoof_steps, seed),
        seeds=augmentation_order(own, spoof_steps),
        out=Path(out) if out else None,
        progress=progress,
    )


def spoof_length(task: Task, spoof_steps: int) -> int:
    """T', if a spoof of this task can have it. Raises ValueError if not."""
    k, spoof_steps = task.checkpoint_interval, whole("T'", spoof_steps)
    if spoof_steps < k or spoof_steps % k:
        raise ValueError(f"T' = {spoof_steps} is no multiple of the checkpoint interval k = {k}, from k up")
    if spoof_steps > (most := LONGEST * task.steps):
        raise ValueError(f"T' = {spoof_steps} is far above T = {task.steps}: {most} steps are the most that are forged")
    return spoof_steps


def original_batches(task: Task, steps: int, seed: int) -> np.ndarray:
    """int32 (T', B): which training images the adversary of this seed takes for each step, before any noise."""
    return batch_order(task, derive_seed(seed, "adversary"), steps)


def fresh_batch(planned: np.ndarray, points: int, own: int, step: int, attempt: int) -> np.ndarray:
    """Which of so many points an attempt at a step takes: the planned ones first, then as many drawn anew."""
    if not attempt:
        return planned
    return np.random.default_rng(derive_seed(own, "attempt", step, attempt)).choice(points, len(planned), False)


def original_batch(task: Task, step: int, seed: int, attempt: int = 0) -> Points:
    """The batch of a step as the adversary of this seed found it in the data."""
    points, planned = training_points(task), original_batches(task, step + 1, seed)[step]
    return points.take(fresh_batch(planned, len(points), derive_seed(seed, "adversary"), step, attempt))


def check_weights(final: Checkpoint, task: Task) -> None:
    """ValueError unless these are the weights and buffers of the task's model."""
    wanted = {key: tuple(shape) for key, shape in tensor_shapes(task).items() if not key.startswith("momentum.")}
    parts = {"weights": final.weights, "buffers": final.buffers}
    found = {f"{part}.{name}": tuple(value.shape) for part, named in parts.items() for name, value in named.items()}
    if wanted != found:
        odd = min(key for key in wanted | found if wanted.get(key) != found.get(key))
        raise ValueError(
            f"these are not the weights of task {task.name}: {odd} has shape {found.get(odd)}, "
            f"its model needs {wanted.get(odd)}"
        )
