"""What a party spends, in four meters (Section III, "Cost comparison")."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TypeVar

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
