"""The spoofing window: lengths T' at which a straight path is fine enough for δ and still cheaper than the proof."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from polkit.adversary.path import on_the_path, sorted_initialisation
from polkit.calibration import Calibration
from polkit.distance import DISTANCES, distances
from polkit.proof import Proof
from polkit.task import Task
from polkit.training import Checkpoint, Conditions, applied, unit_costs
from polkit.verifier import Verdict


@dataclass(frozen=True)
class Attempt:
    """One spoof that was made and judged. interval: k · verdict: with every interval replayed, so that any Q can be
    read off it · cost: floating-point operations as a share of the proof's."""

    attack: str
    spoof_steps: int
    interval: int
    verdict: Verdict
    cost: float


def attempt(attack: str, spoof: Proof, verdict: Verdict, proof: Proof) -> Attempt:
    share = spoof.cost().relative_to(proof.cost())["floating_point_operations"]
    return Attempt(attack, spoof.steps, spoof.checkpoint_interval, verdict, share)


def spoof_lengths(interval: int, most: int, count: int = 60) -> np.ndarray:
    """Lengths T' from k to `most`, multiples of k, evenly on a logarithmic scale."""
    return np.unique(np.geomspace(interval, most, count).astype(int) // interval * interval)


def path_errors(task: Task, final: Checkpoint, spoof_steps: np.ndarray, *, seed: int = 0) -> pd.DataFrame:
    """What a verifier would measure if every forged batch left the weights exactly where they were.

    One row per T': the largest distance between neighbouring checkpoints of the straight path, in each distance.
    l1, l2 and l∞ are d(W_0, W_T)·k/T' for every piece; the cosine distance is largest where the path comes closest to
    the origin, so the pieces there are looked at.
    """
    first = sorted_initialisation(task, final, seed)
    towards = sum(float((w * (w - final.weights[name])).double().sum()) for name, w in first.weights.items())
    squared = sum(float(((w - final.weights[name]).double() ** 2).sum()) for name, w in first.weights.items())
    closest = min(max(towards / squared, 0.0), 1.0) if squared else 0.0
    rows = []
    with applied(Conditions()):  # on two threads, one of them kept waiting, 93 lengths took 6.6 s in place of 0.3
        for steps in spoof_steps:
            count = max(1, round(int(steps) / task.checkpoint_interval))
            nearest = int(closest * count)
            pieces = {min(max(piece, 0), count - 1) for piece in (nearest - 1, nearest, nearest + 1)}
            found = [
                distances(on_the_path(first, final, (piece + 1) / count), on_the_path(first, final, piece / count))
                for piece in pieces
            ]
            rows.append({"spoof_steps": int(steps)} | {name: max(d[name] for d in found) for name in DISTANCES})
    return pd.DataFrame(rows)


def steps_per_update(task: Task, iterations: int = 10) -> dict[str, float]:
    """c: what one step of a spoof costs, in updates of the prover, by counted floating-point operations.

    Without the stopping test: an update to look at each batch, N evaluations of the objective, and one update to see
    where it ended (Attack II) or to replay it (Attack III). The paper counts 31 and 31/k (Section III).
    """
    units = unit_costs(task)
    objective = units["objective"].floating_point_operations / units["update"].floating_point_operations
    treated = 2 + iterations * objective
    return {"interpolation only": 1.0, "Attack II": treated, "Attack III": treated}


def window(errors: pd.DataFrame, calibration: Calibration, *, proof_steps: int, cost_per_step: float,
           threshold_scale: float = 1.0) -> pd.DataFrame:  # fmt: skip
    """For each T' of `path_errors`: the largest error as a multiple of δ, the cost as a share of the proof's, and
    whether spoofing there would pass and pay (`feasible`).

    cost_per_step: c, in updates · proof_steps: T · threshold_scale: multiplies every δ.
    """
    allowed = {name: value * threshold_scale for name, value in calibration.thresholds["weights"].items()}
    ratios = pd.DataFrame({name: errors[name] / allowed[name] for name in DISTANCES})
    cost = errors["spoof_steps"] * cost_per_step / proof_steps
    return pd.DataFrame({
        "spoof_steps": errors["spoof_steps"],
        "error_over_threshold": ratios.max(axis=1),
        "binding": ratios.idxmax(axis=1),
        "cost": cost,
        "feasible": (ratios.max(axis=1) <= 1) & (cost < 1),
    })  # fmt: skip


def window_edges(table: pd.DataFrame) -> tuple[int, int] | None:
    """The smallest and the largest feasible T', or None where the window is shut."""
    feasible = table.loc[table["feasible"], "spoof_steps"]
    return (int(feasible.min()), int(feasible.max())) if len(feasible) else None


def measured_costs(attempts: Mapping[str, Attempt], proof_steps: int) -> dict[str, float]:
    """c of each attempt as it was measured: operations per step of the spoof, in updates."""
    return {name: made.cost * proof_steps / made.spoof_steps for name, made in attempts.items()}
