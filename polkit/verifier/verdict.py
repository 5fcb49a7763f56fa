"""Algorithm 2: one verifier that judges every proof, real or forged, from what is on disk."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from polkit.proof import Proof, ProofError
from polkit.training import PARTS, Cost, Progress, applied, unit_costs, whole
from polkit.verifier.calibration import Calibration
from polkit.verifier.inspection import MAGNITUDES, Reason, inspect_proof
from polkit.verifier.regime import Regime, checked_q
from polkit.verifier.replay import compared, looked_up, replay, select_intervals

INTERVAL_COLUMNS = [*MAGNITUDES, "part", "distance", "error", "normalised_error", "threshold", "passed"]
SHOWN_REASONS = 8


@dataclass(frozen=True)
class Verdict:
    """What a verifier says of a folder."""

    accepted: bool  # whether nothing was found against it
    usable: bool  # False if there was no proof to judge at all
    reasons: tuple[Reason, ...]
    intervals: pd.DataFrame  # a row per replayed interval, part and distance, with `INTERVAL_COLUMNS`
    initialisation: pd.DataFrame  # a row per tensor of W_0, as `test_initialisation` returns them
    cost: Cost  # of the verification
    replayed: float = 0.0  # images replayed, as a share of those that the task's T updates see
    preset: str = ""  # the defences that judged; empty for Algorithm 2

    def largest_errors(self, part: str = "weights") -> dict[str, float]:
        """max_t ‖ε_repr(t)‖ over the replayed intervals in each distance, normalised by d_ref; NaN if one is NaN."""
        chosen = self.intervals[self.intervals["part"] == part]
        errors = chosen.groupby("distance", sort=False)["normalised_error"]
        return {name: float(np.max(values.to_numpy(float))) for name, values in errors}

    def at(self, top_q: int | str) -> "Verdict":
        """The verdict of Algorithm 2 that a smaller Q would have given with the same draws; its cost has no seconds."""
        known = self.intervals.drop_duplicates("start")[MAGNITUDES]
        selected = select_intervals(known, top_q)
        whole, kept = (int((rows["end"] - rows["start"]).sum()) for rows in (known, selected))
        share = kept / whole if whole else 0.0
        cost = Cost(self.cost.gradient_evaluations * share, round(self.cost.floating_point_operations * share))
        chosen = set(selected["start"])
        reasons = tuple(reason for reason in self.reasons if reason.kind != "error" or reason.step in chosen)
        intervals = self.intervals[self.intervals["start"].isin(chosen)]
        changes = {"reasons": reasons, "intervals": intervals, "cost": cost, "replayed": self.replayed * share}
        return replace(self, accepted=not reasons, **changes)

    def under(self, calibration: Calibration) -> "Verdict":
        """The verdict that other thresholds δ would have given on the same errors, in the parts of their regime."""
        intervals = beside_delta(self.intervals, calibration)
        found = error_reasons(intervals[intervals["part"].isin(calibration.regime.parts)])
        reasons = (*(reason for reason in self.reasons if reason.kind != "error"), *found)
        return replace(self, accepted=not reasons, reasons=reasons, intervals=intervals)

    def to_json(self) -> dict:
        """The verdict without its tables, as plain JSON: an error that is no finite number is null."""
        errors = self.largest_errors()
        return {
            **({"preset": self.preset} if self.preset else {}),
            "accepted": self.accepted,
            "usable": self.usable,
            "reasons": [asdict(reason) for reason in self.reasons],
            "largest_normalised_errors": {name: e if np.isfinite(e) else None for name, e in errors.items()},
            "replayed_intervals": int(self.intervals["start"].nunique()),
            "replayed": self.replayed,
            "cost": asdict(self.cost),
        }

    def __str__(self) -> str:
        word = "accepted" if self.accepted else "rejected" if self.usable else "not a usable proof"
        how = f"{self.intervals['start'].nunique()} intervals replayed"
        if self.preset:
            how = f"{self.preset}: {self.replayed:.0%} of the training replayed"
        lines = [f"{word} ({how})", *(f"  {reason}" for reason in self.reasons[:SHOWN_REASONS])]
        more = len(self.reasons) - SHOWN_REASONS
        return "\n".join([*lines, f"  and {more} more"] if more > 0 else lines)


def verify(
    proof: Proof | str | Path,
    calibration: Calibration,
    *,
    regime: Regime | None = None,
    top_q: int | str | None = None,
    seed: int = 0,
    workers: int = 1,
    remember: bool = False,
    progress: Progress = False,
) -> Verdict:
    """PoL verification (Algorithm 2) under the calibration's task, Conditions and thresholds δ.

    proof: the folder itself may be a link; nothing inside may
    regime: what the prover decides and which parts must stay within δ (default: as the calibration)
    top_q: Q, how many of each epoch's largest updates are replayed, or "all" (default: the regime's)
    seed: of the verifier's own draws; nobody may foresee it before the proof is handed in
    workers: threads or processes that share the replay
    remember: take the replay from the cache if these very files were replayed before with these Conditions and draws

    Every file's digest, every checkpoint and the signature of every batch are checked whatever Q is. The printed
    algorithm never replays the last epoch, and checks only the first signature of an interval; this one does both.
    An interval that crosses the end of an epoch counts for the epoch in which it starts.

    Never raises on a bad proof. Raises ValueError on a caller's mistake, such as a regime that δ is not of,
    and FileNotFoundError without the claimed data.
    """
    regime, seed = regime or calibration.regime, whole("the seed", seed)
    top_q = checked_q(regime.top_q if top_q is None else top_q)
    for name in ("augmentation", "precision"):
        if (asked := getattr(regime, name)) != (known := getattr(calibration.regime, name)):
            raise ValueError(f"δ was calibrated with the {name} {known!r}, the regime {regime.name!r} has {asked!r}")
    task, conditions, begun = calibration.task, calibration.conditions, time.perf_counter()
    intervals, steps = pd.DataFrame(columns=INTERVAL_COLUMNS), 0
    with applied(conditions):  # the inspection too: with more threads it may wait long for other processes
        seen = inspect_proof(proof, task, regime.prover_decides)
        reasons, seconds = list(seen.reasons), time.perf_counter() - begun
        if not {"unusable", "task", "malformed"} & {reason.kind for reason in reasons}:
            selected = select_intervals(seen.magnitudes, top_q)
            how = {"seed": seed, "workers": workers, "progress": progress, "remember": remember and not reasons}
            try:
                rows = replay(seen.proof, seen.task, conditions, selected["start"].tolist(), **how)
                intervals = beside_delta(rows.merge(selected, on=["start", "end"]), calibration)
                seconds += float(rows.drop_duplicates("start")["seconds"].sum())  # of all workers, or when it was made
            except ProofError as error:  # no augmentation to replay, or a file that changed after it was checked
                reasons.append(Reason("malformed", str(error)))
            else:
                steps = int((selected["end"] - selected["start"]).sum())
                reasons += error_reasons(intervals[intervals["part"].isin(regime.parts)])
    # Of a rejected claim, such as a batch of 10^18 images, nothing is counted.
    operations = steps and steps * unit_costs(seen.task, ["update"])["update"].floating_point_operations
    cost = Cost(steps, operations, seconds)
    usable, share = seen.proof is not None, steps * seen.task.batch_size / (task.steps * task.batch_size)
    return Verdict(not reasons, usable, tuple(reasons), intervals, seen.initialisation, cost, share)


def beside_delta(replayed: pd.DataFrame, calibration: Calibration) -> pd.DataFrame:
    """Replayed intervals beside the calibration's δ and d_ref, with the columns `INTERVAL_COLUMNS`."""
    rows = compared(replayed, looked_up(calibration.thresholds, replayed))
    return rows.assign(normalised_error=rows["error"] / looked_up(calibration.reference, rows))[INTERVAL_COLUMNS]


def error_reasons(rows: pd.DataFrame, kind: str = "error", limit: str = "δ") -> list[Reason]:
    """A reason for each row of `compared` that did not pass. limit: what was allowed, in words."""
    detail = "steps {0.start} to {0.end}: {0.distance} of the {0.part} is {0.error:.4g}, above {1} = {0.threshold:.4g}"
    failed = rows[~rows["passed"].astype(bool)].itertuples()
    return [Reason(kind, detail.format(row, limit), row.start) for row in failed]


def worst_ratios(verdict: Verdict, calibration: Calibration, parts: Sequence[str] = PARTS) -> pd.DataFrame:
    """Each replayed interval's largest error as a multiple of the calibrated δ, and where that was; NaN is largest."""
    rows = verdict.intervals[verdict.intervals["part"].isin(parts)]
    rows = compared(rows, looked_up(calibration.thresholds, rows))
    order = rows.sort_values("ratio", ascending=False, na_position="first", kind="stable")
    return order.drop_duplicates("start").sort_values("start")[["start", "end", "epoch", "ratio", "distance", "part"]]
