"""One folder before one verifier: what was found out about it so far, and what finding it out took."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import pandas as pd

from polkit.defences.checks import Finding, random_starts
from polkit.defences.commitment import CommittedData, committed_data
from polkit.defences.standards import Standards, stretched
from polkit.proof import Proof
from polkit.training import Checkpoint, Cost, Points, Task, applied, test_points, training_points, unit_costs
from polkit.verifier import (
    Calibration,
    Evidence,
    Reason,
    check_checkpoints,
    check_claims,
    check_data,
    check_files,
    check_optimiser,
    gather,
    replayed_task,
    select_intervals,
)

REDRAWN, RECORDED, STRETCHED = "redrawn", "recorded", "stretched"  # the three kinds of replay


@dataclass(frozen=True)
class Dispute:
    """What the parties of a dispute have put on the table.

    model: weights and buffers of the model in question · revealed_seed: the prover's, to which its manifest commits ·
    lots: seed of the verifier's draws, chosen after the proof was handed in.
    """

    model: Checkpoint
    revealed_seed: int
    lots: int = 0


@dataclass
class Case:
    """task: the verifier's, with what the prover decides of its optimiser · reasons: to refuse the folder, found
    without a replay; if there are any, nothing else may be asked · magnitudes: how far each interval moved, as
    `check_checkpoints` returns it. Replays are made when a check asks for them, each once.
    """

    folder: Proof
    calibration: Calibration
    standards: Standards
    dispute: Dispute
    task: Task
    reasons: list[Reason]
    magnitudes: pd.DataFrame
    workers: int = 1
    remember: bool = False
    _replayed: dict[str, pd.DataFrame] = field(default_factory=dict)
    _asked: dict[str, set[int]] = field(default_factory=dict)
    _replay_seconds: float = 0.0
    _forwards: int = 0

    @property
    def starts(self) -> list[int]:
        return self.folder.checkpoint_steps[:-1]

    def largest_of_each_epoch(self) -> list[int]:
        """What Algorithm 2 picks at Q = 1."""
        return select_intervals(self.magnitudes, 1)["start"].tolist()

    def largest(self, count: int) -> list[int]:
        """The intervals of the `count` largest updates of all."""
        order = self.magnitudes.sort_values("magnitude", ascending=False, kind="stable")
        return sorted(order["start"].head(count).tolist())

    def by_lot(self, count: int) -> list[int]:
        return random_starts(self.folder, min(count, len(self.starts)), self.dispute.lots)

    def replayed(self, kind: str, starts: Collection[int]) -> Evidence:
        """These intervals, replayed with redrawn or recorded augmentation, or stretched: from each of these starts over
        several intervals, with redrawn augmentation."""
        self._asked.setdefault(kind, set()).update(starts)
        known = self._replayed.get(kind)
        missing = sorted(set(starts) - set(() if known is None else known["start"]))
        conditions = self.standards.conditions if kind == RECORDED else self.calibration.conditions
        folder = stretched(self.folder, self.standards.stretch) if kind == STRETCHED else self.folder
        if missing:
            begun = time.perf_counter()
            found = gather(folder, self.task, conditions, missing, workers=self.workers, remember=self.remember)
            self._replayed[kind] = found.intervals if known is None else pd.concat([known, found.intervals])
            self._replay_seconds += time.perf_counter() - begun
        return Evidence(folder, self.task, conditions, self._replayed[kind]).at(starts)

    @cached_property
    def committed(self) -> Points:
        return training_points(self.calibration.task)

    def tests(self) -> Points:
        """Test points, to be shown to one checkpoint."""
        points = test_points(self.calibration.task)
        self.bill_forwards(len(points))
        return points

    def bill_forwards(self, samples: int) -> None:
        """Notes that so many samples are run forward."""
        self._forwards += -(-samples // self.task.batch_size)

    @cached_property
    def _tree(self) -> CommittedData:
        return CommittedData(self.committed)

    def uncommitted(self, starts: Sequence[int]) -> list[Finding]:
        """Points of these intervals that do not lie under the published root, opened by whoever holds the data."""
        return committed_data(self.folder, self._tree, self.standards.commitment, starts)

    def bill(self, check: Callable[["Case"], list]) -> tuple[list, Cost]:
        """What a check finds, and what it would take a verifier who had looked at nothing yet.

        wall_seconds: of its own, and of the replays that it asked for, whoever had them made.
        """
        self._asked, self._forwards, replayed_before = {}, 0, self._replay_seconds
        begun = time.perf_counter()
        found = check(self)
        seconds = time.perf_counter() - begun - (self._replay_seconds - replayed_before)
        units, updates = unit_costs(self.calibration.task, ["forward", "update"]), 0
        for kind, starts in self._asked.items():
            rows = self._replayed[kind]
            asked = rows[rows["start"].isin(starts)].drop_duplicates("start")
            updates += int((asked["end"] - asked["start"]).sum())
            seconds += float(asked["seconds"].sum())
        operations = (
            updates * units["update"].floating_point_operations
            + self._forwards * units["forward"].floating_point_operations
        )
        return found, Cost(updates, operations, seconds)


def open_case(
    proof: Proof,
    calibration: Calibration,
    standards: Standards,
    dispute: Dispute,
    *,
    prover_decides: Sequence[str] = (),
    workers: int = 1,
    remember: bool = False,
) -> Case:
    """All of Algorithm 2 that replays nothing, whose reasons to refuse the folder stand in the case."""
    with applied(calibration.conditions):
        task = replayed_task(proof, calibration.task, prover_decides)
        reasons, magnitudes = check_claims(proof, task) + check_optimiser(task), pd.DataFrame()
        if not reasons and not (reasons := check_files(proof, task)):
            proof = replace(proof, bound=True)
            magnitudes, _, found = check_checkpoints(proof, task)
            reasons = check_data(proof, needs_seeds=False) + found
    return Case(proof, calibration, standards, dispute, task, reasons, magnitudes, workers, remember)
