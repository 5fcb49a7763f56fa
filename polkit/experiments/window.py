"""The spoofing window: lengths T' at which a straight path is fine enough for δ and still cheaper than the proof."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.interpolate import make_interp_spline

from polkit.adversary import on_the_path, sorted_initialisation
from polkit.proof import Proof
from polkit.training import DISTANCES, PARTS, Checkpoint, Conditions, Task, applied, derive_seed, distances, unit_costs
from polkit.verifier import Calibration, Verdict


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


def window(
    errors: pd.DataFrame,
    calibration: Calibration,
    *,
    proof_steps: int,
    cost_per_step: float,
    threshold_scale: float = 1.0,
) -> pd.DataFrame:
    """For each T' of `path_errors`: the largest error as a multiple of δ, the cost as a share of the proof's, and
    whether spoofing there would pass and pay (`feasible`).

    cost_per_step: c, in updates · proof_steps: T · threshold_scale: multiplies every δ.
    """
    allowed = {name: value * threshold_scale for name, value in calibration.thresholds["weights"].items()}
    ratios = pd.DataFrame({name: errors[name] / allowed[name] for name in DISTANCES})
    cost = errors["spoof_steps"] * cost_per_step / proof_steps
    return pd.DataFrame(
        {
            "spoof_steps": errors["spoof_steps"],
            "error_over_threshold": ratios.max(axis=1),
            "binding": ratios.idxmax(axis=1),
            "cost": cost,
            "feasible": (ratios.max(axis=1) <= 1) & (cost < 1),
        }
    )


def window_edges(table: pd.DataFrame) -> tuple[int, int] | None:
    """The smallest and the largest feasible T', or None where the window is shut."""
    feasible = table.loc[table["feasible"], "spoof_steps"]
    return (int(feasible.min()), int(feasible.max())) if len(feasible) else None


def measured_costs(attempts: Mapping[str, Attempt], proof_steps: int) -> dict[str, float]:
    """c of each attempt as it was measured: operations per step of the spoof, in updates."""
    return {name: made.cost * proof_steps / made.spoof_steps for name, made in attempts.items()}


ATTACKS = {"attack_2": "Attack II", "attack_3": "Attack III", "interpolation_only": "interpolation only"}
SCALES = tuple(float(scale) for scale in np.geomspace(0.25, 4, 9))
PAPER = {"interpolation only": 1.0, "Attack II": 31.0, "Attack III": 31.0}  # Attack III: 31 / k, see `break_even`


def spoof_rows(runs: pd.DataFrame, task: str = "digits") -> pd.DataFrame:
    """The runs of II, III and interpolation only that made a spoof as the prover would: same data, same machine.

    runs: the published ones. Columns attack, seed, spoof_steps, steps (T), one per distance with the largest error of
    the weights over every interval, threshold.* with δ (both as shares of d_ref), and the shares of the cost.
    """
    made, honest = _spoofs_and_proofs(runs, task)
    columns = {
        "attack": made["attack"].map(ATTACKS),
        "seed": made["seed"],
        "spoof_steps": made["spoof_steps"],
        "steps": made["seed"].map(honest["steps"]),
    }
    columns |= {name: made[f"weights.all.{name}"] for name in DISTANCES}
    columns |= {f"threshold.{name}": made["seed"].map(honest[f"threshold.weights.{name}"]) for name in DISTANCES}
    columns |= {name: made[f"share.{name}"] for name in ("floating_point_operations", "wall_seconds")}
    return pd.DataFrame(columns).sort_values(["attack", "seed", "spoof_steps"], ignore_index=True)


def _spoofs_and_proofs(runs: pd.DataFrame, task: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    of_task = runs[runs["task"] == task]
    others = of_task[["adversary_half", "adversary_device", "adversary_precision"]]
    plain = (others == "").all(axis=1) & (of_task["off_path"] == 0) & of_task["attack"].isin(ATTACKS)
    return of_task[plain], of_task[of_task["experiment"] == "honest"].set_index("seed")


def judged_spoofs(
    runs: pd.DataFrame,
    *,
    replayed: str = "all",
    parts: Sequence[str] = PARTS,
    threshold_scale: float = 1.0,
    task: str = "digits",
) -> pd.DataFrame:
    """The spoofs of `spoof_rows` before a verifier who replays "one" interval of an epoch, "most" (⌊S/k⌋) or "all",
    and compares these parts with δ times threshold_scale.

    Columns attack, seed, spoof_steps, ratio (the largest recorded error over that δ), cost (operations, as a share of
    the proof's) and accepted.
    """
    made, honest = _spoofs_and_proofs(runs, task)
    ratios = [
        made[f"{part}.{replayed}.{name}"] / made["seed"].map(honest[f"threshold.{part}.{name}"])
        for part in parts
        for name in DISTANCES
    ]
    ratio = np.max(ratios, axis=0) / threshold_scale
    columns = {
        "attack": made["attack"].map(ATTACKS),
        "seed": made["seed"],
        "spoof_steps": made["spoof_steps"],
        "ratio": ratio,
        "cost": made["share.floating_point_operations"],
        "accepted": ratio <= 1,
    }
    return pd.DataFrame(columns).sort_values(["attack", "spoof_steps", "seed"], ignore_index=True)


def closed_window(
    spoofs: pd.DataFrame, paths: pd.DataFrame, lengths: np.ndarray, *, break_even: float, threshold_scale: float = 1.0
) -> pd.DataFrame:
    """The table of `window` for T' of any length, as the mean over the published trainings.

    spoofs, paths: as in `window_grid` · lengths: T' · break_even: the T' that costs what the proof costs. Between and
    beyond the published lengths every distance is taken as a power of T'. So it is in l1, l2 and l∞; for cos, at
    lengths that were not published, it is an approximation.
    """
    limits = spoofs.drop_duplicates("seed").set_index("seed")
    needed = []
    for seed, rows in paths.groupby("seed"):
        known = np.log(rows.sort_values("spoof_steps")[["spoof_steps", *DISTANCES]].to_numpy())
        errors = np.exp(make_interp_spline(known[:, 0], known[:, 1:], k=1)(np.log(lengths)))
        needed.append(errors / limits.loc[seed, [f"threshold.{name}" for name in DISTANCES]].to_numpy(float))
    ratios = pd.Series(np.mean([each.max(axis=1) for each in needed], axis=0) / threshold_scale)
    cost = pd.Series(np.asarray(lengths) / break_even)
    return pd.DataFrame(
        {"spoof_steps": lengths, "error_over_threshold": ratios, "cost": cost, "feasible": (ratios <= 1) & (cost < 1)}
    )


def path_rows(proof: Proof, calibration: Calibration, lengths: Sequence[int], seed: int) -> pd.DataFrame:
    """The closed form for one training: seed, spoof_steps, and the spacing of the path as a share of d_ref.

    seed: of the training; the path is that of its adversary in `polkit reproduce`, whose seed is the next one.
    """
    drawn = derive_seed(seed + 1, "adversary")
    errors = path_errors(proof.task, proof.final_weights(), np.array(lengths), seed=drawn)
    shares = {name: errors[name] / calibration.reference["weights"][name] for name in DISTANCES}
    return pd.DataFrame({"seed": seed, "spoof_steps": errors["spoof_steps"]} | shares)


def window_grid(spoofs: pd.DataFrame, paths: pd.DataFrame, scales: Sequence[float] = SCALES) -> pd.DataFrame:
    """A row per attack, δ and T': in how many trainings the paper's verifier accepts the weights of the spoof at
    Q = all (`measured`), and in how many the spacing of its path alone is within δ (`closed_form`), of `repeats`.

    spoofs: from `spoof_rows` · paths: from `path_rows` of every training · scales: multiples of the calibrated δ.
    """
    known = spoofs.merge(paths, on=["seed", "spoof_steps"], suffixes=("", ".path"), validate="many_to_one")
    if len(known) < len(spoofs):
        raise ValueError(f"{len(spoofs) - len(known)} of {len(spoofs)} spoofs have no path to compare with")
    columns = {"measured": "{}", "closed_form": "{}.path"}
    cells = []
    for scale in scales:
        within = {
            kind: np.all([known[name.format(d)] <= scale * known[f"threshold.{d}"] for d in DISTANCES], axis=0)
            for kind, name in columns.items()
        }
        alike = within["measured"] == within["closed_form"]
        cells.append(known[["attack", "spoof_steps"]].assign(scale=scale, repeats=1, agree=alike, **within))
    return pd.concat(cells).groupby(["attack", "scale", "spoof_steps"], sort=False).sum().reset_index()


def boundary(spoofs: pd.DataFrame, paths: pd.DataFrame) -> pd.Series:
    """T' -> the least multiple of δ at which the closed form accepts, mean over the trainings."""
    limits = spoofs.drop_duplicates("seed").set_index("seed")
    ratios = [paths[name] / paths["seed"].map(limits[f"threshold.{name}"]) for name in DISTANCES]
    return pd.Series(np.max(ratios, axis=0)).groupby(paths["spoof_steps"].to_numpy()).mean()


def agreement(grid: pd.DataFrame) -> pd.DataFrame:
    """For each attack: cells (attack, δ, T', training), the share where closed form and measurement agree, and how many
    of the others each of them alone accepts."""
    rows = []
    for attack, cells in grid.groupby("attack", sort=False):
        apart = int(cells["repeats"].sum() - cells["agree"].sum())
        surplus = int(cells["closed_form"].sum() - cells["measured"].sum())
        rows.append(
            (
                attack,
                int(cells["repeats"].sum()),
                float(cells["agree"].sum() / cells["repeats"].sum()),
                (apart + surplus) // 2,
                (apart - surplus) // 2,
            )
        )
    columns = ["attack", "cells", "agree", "only the closed form accepts", "only the spoof itself is accepted"]
    return pd.DataFrame(rows, columns=columns).set_index("attack").rename_axis(None)


def above_the_path(spoofs: pd.DataFrame, paths: pd.DataFrame) -> pd.DataFrame:
    """Why they differ: the measured error over the spacing of the path, by attack and T', in the distance that is
    nearest to its δ; mean over the trainings."""
    known = spoofs.merge(paths, on=["seed", "spoof_steps"], suffixes=("", ".path"))
    ratios = np.array([known[name] / known[f"threshold.{name}"] for name in DISTANCES])
    binding, rows = ratios.argmax(axis=0), np.arange(len(known))
    spacing = np.array([known[f"{name}.path"] / known[f"threshold.{name}"] for name in DISTANCES])
    factors = ratios[binding, rows] / spacing[binding, rows]
    return known.assign(factor=factors).pivot_table(index="attack", columns="spoof_steps", values="factor")


def break_even(spoofs: pd.DataFrame, counted: Mapping[str, float], interval: int) -> pd.DataFrame:
    """The T' at which each attack costs what the proof costs, T / c, by four meters. A row per attack.

    paper: c = 31, and 31 / k for Attack III · counted: c from the counted operations of one step, every batch treated
    (`steps_per_update`) · operations, seconds: c as the runs measured it, mean over runs (seconds beside other work).
    """
    rows = {}
    for attack, made in spoofs.groupby("attack"):
        steps = float(made["steps"].iloc[0])
        paper = PAPER[attack] / (interval if attack == "Attack III" else 1)
        operations, seconds = (
            made["spoof_steps"] / made[meter] for meter in ("floating_point_operations", "wall_seconds")
        )
        rows[attack] = {
            "paper": steps / paper,
            "counted": steps / counted[attack],
            "operations": float(operations.mean()),
            "seconds": float(seconds.mean()),
        }
    return pd.DataFrame(rows).T
