"""Algorithm 2: one verifier that judges every proof, real or forged, from what is on disk."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from polkit.proof import Proof, ProofError, open_proof
from polkit.training import DISTANCES, PARTS, Cost, Meter, Progress, applied, unit_costs
from polkit.verifier.calibration import Calibration
from polkit.verifier.inspection import (
    OPTIMISER,
    Reason,
    check_checkpoints,
    check_claims,
    check_data,
    check_files,
    check_optimiser,
    replayed_task,
)
from polkit.verifier.replay import replay, select_intervals


@dataclass(frozen=True)
class Verdict:
    """accepted: no reason was found to reject · usable: False if there was no proof to judge at all.

    intervals: one row per replayed interval, part and distance (start, end, epoch, magnitude, part, distance,
    error, normalised_error, threshold, passed) · initialisation: one row per tensor of W_0.
    """

    accepted: bool
    usable: bool
    reasons: tuple[Reason, ...]
    intervals: pd.DataFrame
    initialisation: pd.DataFrame
    cost: Cost

    def largest_errors(self, part: str = "weights") -> dict[str, float]:
        """max_t ‖ε_repr(t)‖ over the replayed intervals in each distance, normalised by d_ref; NaN if one is NaN."""
        chosen = self.intervals[self.intervals["part"] == part]
        errors = chosen.groupby("distance", sort=False)["normalised_error"]
        return {name: float(np.max(values.to_numpy(float))) for name, values in errors}

    def at(self, top_q: int | str) -> "Verdict":
        """The verdict that a smaller Q would have given with the same draws, from the intervals replayed here.

        Its cost is counted, so it has no seconds.
        """
        known = self.intervals.drop_duplicates("start")[["start", "end", "epoch", "magnitude"]]
        selected = select_intervals(known, top_q)
        chosen = set(selected["start"])
        whole = int((known["end"] - known["start"]).sum())
        share = int((selected["end"] - selected["start"]).sum()) / whole if whole else 0.0
        cost = Cost(self.cost.gradient_evaluations * share, round(self.cost.floating_point_operations * share))
        reasons = tuple(reason for reason in self.reasons if reason.kind != "error" or reason.step in chosen)
        intervals = self.intervals[self.intervals["start"].isin(chosen)]
        return replace(self, accepted=not reasons, reasons=reasons, intervals=intervals, cost=cost)

    def under(self, calibration: Calibration) -> "Verdict":
        """The verdict that other thresholds δ would have given on the same errors, in every distance and part."""
        if self.intervals.empty:
            return self
        intervals = judge(self.intervals, calibration)
        reasons = tuple(reason for reason in self.reasons if reason.kind != "error")
        reasons += tuple(error_reasons(intervals))
        return replace(self, accepted=not reasons, reasons=reasons, intervals=intervals)

    def to_json(self) -> dict:
        """The verdict without its tables, as plain JSON: an error that is no finite number is null."""
        errors = self.largest_errors()
        return {
            "accepted": self.accepted,
            "usable": self.usable,
            "reasons": [asdict(reason) for reason in self.reasons],
            "largest_normalised_errors": {name: e if np.isfinite(e) else None for name, e in errors.items()},
            "replayed_intervals": int(self.intervals["start"].nunique()),
            "cost": asdict(self.cost),
        }

    def __str__(self) -> str:
        word = "accepted" if self.accepted else "rejected" if self.usable else "not a usable proof"
        shown = [f"  {reason}" for reason in self.reasons[:8]]
        if len(self.reasons) > 8:
            shown.append(f"  and {len(self.reasons) - 8} more")
        return "\n".join([f"{word} ({self.intervals['start'].nunique()} intervals replayed)", *shown])


INTERVAL_COLUMNS = [
    "start",
    "end",
    "epoch",
    "magnitude",
    "part",
    "distance",
    "error",
    "normalised_error",
    "threshold",
    "passed",
]


def verify(
    proof: Proof | str | Path,
    calibration: Calibration,
    *,
    top_q: int | str = 1,
    distances: Sequence[str] = DISTANCES,
    parts: Sequence[str] = PARTS,
    seed: int = 0,
    workers: int = 1,
    remember: bool = False,
    prover_decides: Sequence[str] = (),
    progress: Progress = False,
) -> Verdict:
    """PoL verification (Algorithm 2) under the calibration's task, Conditions and thresholds δ.

    top_q: Q, how many of each epoch's largest updates are replayed, or "all" · distances, parts: those that must
    stay within δ; the paper's verifier compares the weights alone, this one the running means and variances of
    the normalisation layers too · seed: the verifier's own draws · remember: do not replay again what was replayed
    before from these very files under the same Conditions and draws; everything else is checked anyway ·
    prover_decides: those of `OPTIMISER` that the replay takes from the proof in place of the verifier's task. The
    public code of Jia et al. loads the prover's optimiser, and so lets it decide all of them.

    Every file's digest, every checkpoint and the signature of every batch are checked whatever Q is. The printed
    algorithm never replays the last epoch, and checks only the first signature of an interval; this one does both.
    What is hashed is what is used: the manifest is read once, and a file with other bytes than it names is refused at
    each reading. `proof` itself may be a link; nothing inside may.

    Never raises on a bad proof. Raises ValueError on a caller's mistake, FileNotFoundError if the claimed data set
    is not on this machine.
    """
    if top_q != "all" and (type(top_q) is not int or top_q < 1):
        raise ValueError(f"top_q is {top_q!r}: Q is a whole number of intervals per epoch from 1 up, or 'all'")
    if not distances or set(distances) - set(DISTANCES):
        raise ValueError(f"distances is {list(distances)}: choose from {', '.join(DISTANCES)}")
    if not parts or set(parts) - set(PARTS):
        raise ValueError(f"parts is {list(parts)}: choose from {', '.join(PARTS)}")
    if set(prover_decides) - set(OPTIMISER):
        raise ValueError(f"prover_decides is {list(prover_decides)}: choose from {', '.join(OPTIMISER)}")
    # The checks too: with two threads, the path of 440 checkpoints took 27 s where one thread took 1 s, while two other
    # processes had the cores.
    with applied(calibration.conditions):
        return _verified(proof, calibration, top_q, distances, parts, seed, workers, remember, prover_decides, progress)


def _verified(
    proof: Proof | str | Path,
    calibration: Calibration,
    top_q: int | str,
    distances: Sequence[str],
    parts: Sequence[str],
    seed: int,
    workers: int,
    remember: bool,
    prover_decides: Sequence[str],
    progress: Progress,
) -> Verdict:
    task, meter = calibration.task, Meter(unit_costs(calibration.task, ["update"]))
    intervals, initial, usable = pd.DataFrame(columns=INTERVAL_COLUMNS), pd.DataFrame(), True
    try:
        proof = open_proof(proof.folder if isinstance(proof, Proof) else proof)
        task = replayed_task(proof, task, prover_decides)
        reasons = check_claims(proof, task) + check_optimiser(task)
    except ProofError as error:
        reasons, usable = [Reason("unusable", str(error))], False
    if not reasons:
        reasons = check_files(proof, task)
        if not malformed(reasons):
            # From here on, no file may change; where one was not what the manifest names, nothing is accepted anyway.
            proof = replace(proof, bound=not reasons)
            magnitudes, initial, found = check_checkpoints(proof, task)
            reasons += check_data(proof, calibration.conditions.augmentation == "replay") + found
        if not malformed(reasons):
            starts = select_intervals(magnitudes, top_q)
            try:
                replayed = replay(
                    proof,
                    task,
                    calibration.conditions,
                    starts["start"].tolist(),
                    seed,
                    workers=workers,
                    progress=progress,
                    remember=remember and not reasons,
                )
            except ProofError as error:  # of a file that changed after it was checked
                reasons.append(Reason("malformed", str(error)))
            else:
                meter.charge("update", int((starts["end"] - starts["start"]).sum()))
                intervals = judge(replayed.merge(starts, on=["start", "end"]), calibration)
                compared = intervals["distance"].isin(distances) & intervals["part"].isin(parts)
                reasons += error_reasons(intervals[compared])
    return Verdict(not reasons, usable, tuple(reasons), intervals, initial, meter.cost())


def malformed(reasons: Sequence[Reason]) -> bool:
    """Whether some file is not of the form that the next check would have to take for granted."""
    return any(reason.kind == "malformed" for reason in reasons)


def judge(replayed: pd.DataFrame, calibration: Calibration) -> pd.DataFrame:
    """Each replayed distance beside its δ; written so that NaN does not pass (line 30)."""
    keys = list(zip(replayed["part"], replayed["distance"], strict=True))
    replayed = replayed.assign(
        threshold=[calibration.thresholds[part][name] for part, name in keys],
        normalised_error=replayed["error"] / [calibration.reference[part][name] for part, name in keys],
    )
    return replayed.assign(passed=replayed["error"] <= replayed["threshold"])[INTERVAL_COLUMNS]


def worst_ratios(verdict: Verdict, calibration: Calibration, parts: Sequence[str] = PARTS) -> pd.DataFrame:
    """One row per replayed interval: its largest error as a multiple of the calibrated δ, and where that was.

    Columns start, end, epoch, ratio, distance, part.
    """
    rows = verdict.intervals[verdict.intervals["part"].isin(parts)]
    keys = list(zip(rows["part"], rows["distance"], strict=True))
    allowed = np.array([calibration.thresholds[part][name] for part, name in keys], dtype=float)
    errors = rows["error"].to_numpy(float)
    without_limit = np.where(np.isnan(errors), math.nan, np.where(errors > 0, math.inf, 0.0))  # where δ is 0
    ratio = np.divide(errors, allowed, out=without_limit, where=allowed > 0)
    rows = rows[["start", "end", "epoch", "distance", "part"]].assign(ratio=ratio)
    # A NaN is the worst of all.
    order = rows.assign(rank=rows["ratio"].fillna(math.inf)).sort_values("rank", ascending=False, kind="stable")
    return order.drop_duplicates("start").sort_values("start")[["start", "end", "epoch", "ratio", "distance", "part"]]


def error_reasons(intervals: pd.DataFrame) -> list[Reason]:
    return [
        Reason(
            "error",
            f"steps {row.start} to {row.end}: {row.distance} of the {row.part} is {row.error:.4g}, "
            f"above δ = {row.threshold:.4g}",
            step=row.start,
        )
        for row in intervals[~intervals["passed"].astype(bool)].itertuples()
    ]
