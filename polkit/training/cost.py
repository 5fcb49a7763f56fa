"""What a party spends, in four meters (Section III, "Cost comparison")."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from polkit.training.conditions import Conditions
from polkit.training.step import Learner
from polkit.training.task import Task

Result = TypeVar("Result")


@dataclass(frozen=True)
class Cost:
    """gradient_evaluations: in the paper's currency, where an `update` is 1, one evaluation of the adversarial
    objective is 3, and a joint gradient over k batches counts as one · floating_point_operations: of
    convolutions and matrix products, counted per shape by torch, the same on every machine · wall_seconds:
    elapsed, and of work that several workers shared the sum of theirs · stored_bytes: of the folder that was written.
    """

    gradient_evaluations: float = 0.0
    floating_point_operations: int = 0
    wall_seconds: float = 0.0
    stored_bytes: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        mine, theirs = asdict(self), asdict(other)
        return Cost(**{meter: mine[meter] + theirs[meter] for meter in mine})

    def relative_to(self, other: "Cost") -> dict[str, float]:
        """Each meter as a fraction of `other`'s; NaN where the other spent nothing."""
        mine, theirs = asdict(self), asdict(other)
        return {meter: mine[meter] / theirs[meter] if theirs[meter] else float("nan") for meter in mine}


class Meter:
    """Counts what one party computes, from the moment it is made.

    units: the Cost of one batch's `forward`, `update` and `objective` (see `training.unit_costs`).
    """

    def __init__(self, units: Mapping[str, Cost]):
        self.units = units
        self.counts: Counter[str] = Counter()
        self._spent = Cost()
        self._start = time.perf_counter()

    def charge(self, kind: str, times: int = 1, batches: int = 1) -> None:
        """`times` computations of one kind, each jointly over `batches` batches."""
        unit = self.units[kind]
        self.counts[kind] += times
        operations = unit.floating_point_operations * times * batches
        self._spent += Cost(unit.gradient_evaluations * times, operations)

    def collect(self, made: Iterable[tuple[Result, Cost, Counter[str]]]) -> Iterator[Result]:
        """What workers made, one by one; what each of them spent and counted is charged here.

        Their own seconds count in place of those that went by while waiting: two workers are no cheaper than one.
        """
        results = iter(made)
        while True:
            asked = time.perf_counter()
            found = next(results, None)
            self._spent += Cost(wall_seconds=asked - time.perf_counter())
            if found is None:
                return
            result, spent, counts = found
            self.counts += counts
            self._spent += spent
            yield result

    def elapsed(self) -> float:
        return time.perf_counter() - self._start

    def cost(self) -> Cost:
        return self._spent + Cost(wall_seconds=self.elapsed())


# What the paper counts for each (Section III-B, "Cost comparison").
GRADIENTS = {"forward": 0, "update": 1, "objective": 3, "difference": 2}


def unit_costs(task: Task, kinds: Sequence[str] = tuple(GRADIENTS)) -> dict[str, Cost]:
    """The computation of one batch's `forward` pass, `update`, and adversarial `objective`: by a double backward, or
    by the `difference` of two gradients in the images."""
    alike = task.replace(data="", half="", epochs=1, checkpoint_interval=1)
    return {kind: _counted_cost(alike, kind) for kind in kinds}


@lru_cache(maxsize=64)
def _counted_cost(task: Task, kind: str) -> Cost:
    """Counted by running it once on torch's `meta` device, which computes shapes only: 1 s for all of `digits`."""
    from torch.utils.flop_counter import FlopCounterMode  # takes 0.07 s to import, by way of triton

    with torch.device("meta"):
        learner = Learner(task, Conditions(device="meta"))
    images = torch.empty((task.batch_size, *task.image_shape), device="meta", requires_grad=True)
    labels = torch.zeros(task.batch_size, dtype=torch.int64, device="meta")
    weights = list(learner.model.parameters())

    def forward() -> Tensor:
        # The counter cannot hook a leaf that is a module's own input.
        return F.cross_entropy(learner.model(images.clone()), labels)

    def objective() -> None:
        gradient = torch.autograd.grad(forward(), weights, create_graph=True)
        torch.autograd.grad(sum((part**2).sum() for part in gradient), images)

    def difference() -> None:
        torch.autograd.grad(forward(), [*weights, images])
        torch.autograd.grad(forward(), images)

    runs = {
        "forward": forward,
        "update": lambda: torch.autograd.grad(forward(), weights),
        "objective": objective,
        "difference": difference,
    }
    with FlopCounterMode(display=False) as counter:
        runs[kind]()
    return Cost(GRADIENTS[kind], counter.get_total_flops())
