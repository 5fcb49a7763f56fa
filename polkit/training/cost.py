"""What a party spends, in four meters (Section III, "Cost comparison")."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F

from polkit.training.conditions import Conditions
from polkit.training.step import Learner
from polkit.training.task import Task

# Gradient evaluations, as the paper counts them: of one update, and of one evaluation of the adversarial objective.
GRADIENTS = {"forward": 0, "update": 1, "objective": 3}


@dataclass(frozen=True)
class Cost:
    """What was spent."""

    gradient_evaluations: float = 0.0  # as in GRADIENTS; a joint gradient over k batches counts as one
    floating_point_operations: int = 0  # of convolutions and matrix products, the same on every machine
    wall_seconds: float = 0.0  # elapsed; of work that several workers shared, the sum of theirs
    stored_bytes: int = 0  # of the folder that was written

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    def relative_to(self, other: "Cost") -> dict[str, float]:
        """Each meter as a fraction of `other`'s; NaN where the other spent nothing."""
        theirs = asdict(other)
        return {meter: mine / (theirs[meter] or float("nan")) for meter, mine in asdict(self).items()}


class Meter:
    """Counts what one party computes, from the moment it is made."""

    def __init__(self, units: Mapping[str, Cost]):
        self.units = units  # kind of computation -> Cost of one batch, see `unit_costs`
        self.counts: Counter[str] = Counter()  # how often each kind was made
        self._spent = Cost()
        self._start = time.perf_counter()

    def charge(self, kind: str, times: int = 1, batches: int = 1) -> None:
        """`times` computations of one kind, each jointly over `batches` batches."""
        unit = self.units[kind]
        self.counts[kind] += times
        self._spent += Cost(unit.gradient_evaluations * times, unit.floating_point_operations * times * batches)

    def collect(self, made: Iterable[tuple[Any, Cost, Counter[str]]]) -> Iterator[Any]:
        """What workers made, one by one; what each spent is charged here, its seconds in place of the wait for it."""
        asked = self.elapsed()
        for result, spent, counts in made:
            self._spent += spent + Cost(wall_seconds=asked - self.elapsed())
            self.counts += counts
            yield result
            asked = self.elapsed()

    def elapsed(self) -> float:
        """Seconds since the meter was made."""
        return time.perf_counter() - self._start

    def cost(self) -> Cost:
        return self._spent + Cost(wall_seconds=self.elapsed())


def unit_costs(task: Task, kinds: Sequence[str] = tuple(GRADIENTS)) -> dict[str, Cost]:
    """What one batch costs: a `forward` pass, an `update`, the adversarial `objective` with its gradient."""
    alike = task.replace(data="", half="", epochs=1, checkpoint_interval=1)
    return {kind: _counted_cost(alike, kind) for kind in kinds}


@lru_cache(maxsize=64)
def _counted_cost(task: Task, kind: str) -> Cost:
    """Counted, per shape, by running it once on torch's `meta` device, which computes shapes only."""
    from torch.utils.flop_counter import FlopCounterMode  # imports triton, which no other part of polkit waits for

    with torch.device("meta"):
        learner = Learner(task, Conditions(device="meta"))
    images = torch.empty((task.batch_size, *task.image_shape), device="meta", requires_grad=True)
    labels = torch.zeros(task.batch_size, dtype=torch.int64, device="meta")
    with FlopCounterMode(display=False) as counter:
        # A clone, since the counter cannot hook a leaf that is a module's own input.
        loss = F.cross_entropy(learner.model(images.clone()), labels)
        if kind != "forward":
            gradient = torch.autograd.grad(loss, [*learner.model.parameters()], create_graph=kind == "objective")
        if kind == "objective":
            torch.autograd.grad(sum((part**2).sum() for part in gradient), images)
    return Cost(GRADIENTS[kind], counter.get_total_flops())
