"""What a verifier finds out about one folder for its checks: one inspection, and one replay of all they look at."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from polkit.defences.checks import random_starts
from polkit.defences.commitment import CommittedData
from polkit.defences.standards import Standards, stretched
from polkit.proof import Proof
from polkit.training import DISTANCES, Checkpoint, Cost, applied, training_points, unit_costs
from polkit.verifier import STATE, Calibration, Inspection, Reason, Verdict, inspect_proof, select_intervals
from polkit.verifier.replay import COLUMNS, looked_up, replay

REDRAWN, RECORDED, STRETCHED = "redrawn", "recorded", "stretched"  # the three ways to replay
NOTHING = pd.DataFrame(columns=["replay", *COLUMNS, "normalised_error"])


@dataclass(frozen=True)
class Dispute:
    """What the parties of a dispute have put on the table."""

    model: Checkpoint  # weights and buffers of the model in question
    revealed_seed: int  # the prover's, to which its manifest commits
    verifier_seed: int = 0  # of the verifier's draws, chosen after the proof was handed in


@dataclass(frozen=True)
class Check:
    """One question of a verifier to a folder, and what it must look at to answer it."""

    name: str
    find: Callable[["Evidence", pd.DataFrame], list[Reason]]  # what is wrong, from the evidence and the replayed rows
    replay: str = ""  # how these are replayed: REDRAWN, RECORDED, or STRETCHED over several intervals; empty: no replay
    starts: Callable[["Evidence"], list[int]] = lambda seen: []  # where the replayed intervals begin
    samples: Callable[["Evidence"], int] = lambda seen: 0  # how many it runs forward through a model

    def over(self, replay: str, starts: Callable[["Evidence"], list[int]]) -> "Check":
        """The same question about other intervals."""
        return replace(self, replay=replay, starts=starts)


@dataclass(frozen=True)
class Evidence:
    """What a verifier has found out about one folder."""

    inspection: Inspection
    calibration: Calibration
    standards: Standards
    dispute: Dispute
    replays: dict[str, pd.DataFrame] = field(default_factory=dict)  # way to replay -> rows of `replay`, whole state

    @property
    def proof(self) -> Proof:
        return self.inspection.proof

    @cached_property
    def tree(self) -> CommittedData:
        """By which the owner of the committed data opens them."""
        return CommittedData(training_points(self.calibration.task))

    def every_interval(self) -> list[int]:
        return self.proof.checkpoint_steps[:-1]

    def largest_of_each_epoch(self) -> list[int]:
        """What Algorithm 2 picks at Q = 1."""
        return select_intervals(self.inspection.magnitudes, 1)["start"].tolist()

    def largest(self, count: int) -> list[int]:
        return sorted(self.inspection.magnitudes.nlargest(count, "magnitude")["start"])

    def random(self, count: int) -> list[int]:
        """So many random intervals, or all if there are no more."""
        return random_starts(self.proof, min(count, len(self.every_interval())), self.dispute.verifier_seed)

    def rows(self, check: Check) -> pd.DataFrame:
        known = self.replays.get(check.replay, NOTHING)
        return known[known["start"].isin(check.starts(self))]

    def verdict(self, checks: Sequence[Check], preset: str = "") -> Verdict:
        """What a verifier with only these checks says. Its cost is theirs and their replays', not of reading files."""
        begun, reasons, looked_at, samples = time.perf_counter(), list(self.inspection.reasons), [], 0
        for each in [] if reasons else checks:
            if each.replay and each.replay not in self.replays:
                reasons.append(Reason("recorded", "augmentation.npy is missing: no replay can be exact without it"))
                continue
            rows = self.rows(each)
            reasons += each.find(self, rows)
            looked_at.append(rows.assign(replay=each.replay))
            samples += each.samples(self)
        seconds = time.perf_counter() - begun
        # Of a rejected claim, such as a batch of 10^18 images, nothing was computed.
        task = (self.calibration if self.inspection.reasons else self.inspection).task
        rows = pd.concat([rows for rows in looked_at if len(rows)] or [NOTHING])
        rows = rows.drop_duplicates(["replay", "start", "part", "distance"], ignore_index=True)
        apart = {**self.calibration.reference, "momentum": dict.fromkeys(DISTANCES, math.nan)}
        rows["normalised_error"] = rows["error"] / looked_up(apart, rows)
        intervals = rows.drop_duplicates(["replay", "start"])
        updates, forwards = int((intervals["end"] - intervals["start"]).sum()), -(-samples // task.batch_size)
        update, forward = (unit.floating_point_operations for unit in unit_costs(task, ["update", "forward"]).values())
        seconds += float(intervals["seconds"].sum())
        cost = Cost(updates, updates * update + forwards * forward, seconds)
        known = self.calibration.task
        share = updates * task.batch_size / (known.steps * known.batch_size)
        reasons, initial = tuple(dict.fromkeys(reasons)), self.inspection.initialisation
        return Verdict(not reasons, self.proof is not None, reasons, rows, initial, cost, share, preset)


def gather(
    proof: Proof | str | Path,
    checks: Sequence[Check],
    calibration: Calibration,
    standards: Standards,
    dispute: Dispute,
    *,
    prover_decides: Sequence[str] = (),
    workers: int = 1,
) -> Evidence:
    """Inspects a folder and, if nothing speaks against it, replays once each interval that one of the checks looks at.

    prover_decides: as in `verify`. Raises ProofError if a file changes after it was inspected.
    """
    own, seed = calibration.conditions, dispute.verifier_seed
    with applied(own):
        found = inspect_proof(proof, calibration.task, prover_decides)
    seen, replays = Evidence(found, calibration, standards, dispute), {}
    if found.reasons:
        return seen
    ways = {REDRAWN: (found.proof, own), STRETCHED: (stretched(found.proof, standards.stretch), own)}
    if found.proof.augmentation_seeds() is not None:
        ways[RECORDED] = (found.proof, standards.conditions)
    for way, (folder, conditions) in ways.items():
        starts = sorted({start for each in checks if each.replay == way for start in each.starts(seen)})
        replays[way] = replay(folder, found.task, conditions, starts, seed, parts=STATE, workers=workers)
    return replace(seen, replays=replays)
