"""The spoofing window: lengths T' at which a straight path is fine enough for δ and still cheaper than the proof."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor

from polkit.adversary import sorted_initialisation
from polkit.adversary.attack_3 import at_once
from polkit.experiments.published import TEXTS
from polkit.proof import Proof
from polkit.training import DISTANCES, Checkpoint, Task, distances, unit_costs
from polkit.verifier import Calibration, Verdict


@dataclass(frozen=True)
class Attempt:
    """One spoof that was made and judged."""

    attack: str
    spoof_steps: int  # T'
    interval: int  # k
    verdict: Verdict  # with every interval replayed, so that any Q can be read off it
    cost: float  # floating-point operations, as a share of the proof's


def attempt(attack: str, spoof: Proof, verdict: Verdict, proof: Proof) -> Attempt:
    share = spoof.cost().relative_to(proof.cost())["floating_point_operations"]
    return Attempt(attack, spoof.steps, spoof.checkpoint_interval, verdict, share)


def updates_per_step(task: Task) -> dict[str, float]:
    """c: what one step of a spoof costs, in updates of the prover, by counted floating-point operations.

    Two updates and N = 10 evaluations of the objective: no batch stops early. The paper has 31 and 31/k (Section III).
    Attack III updates once more, for the buffers, and takes each gradient twice where memory asks for pieces.
    """
    units, k = unit_costs(task), task.checkpoint_interval
    treated = 2 + 10 * units["objective"].floating_point_operations / units["update"].floating_point_operations
    return {"interpolation only": 1.0, "Attack II": treated, "Attack III": treated + (1 if at_once(k) == k else 11)}


def spoof_lengths(interval: int, most: int, count: int = 60) -> np.ndarray:
    """Lengths T' from k to `most`, multiples of k, evenly on a logarithmic scale."""
    return np.unique(np.geomspace(interval, most, count).astype(int) // interval * interval)


def path_errors(task: Task, final: Checkpoint, spoof_steps: Sequence[int], *, seed: int = 0) -> pd.DataFrame:
    """What a verifier would measure if every forged batch left the weights exactly where they were: a row per T'."""
    pieces = [max(1, round(int(steps) / task.checkpoint_interval)) for steps in spoof_steps]
    spacing = path_spacing(sorted_initialisation(task, final, seed).weights, final.weights, pieces)
    return pd.DataFrame({"spoof_steps": np.asarray(spoof_steps, dtype=int)}).join(spacing)


def path_spacing(first: Mapping[str, Tensor], final: Mapping[str, Tensor], pieces: Sequence[int]) -> pd.DataFrame:
    """The largest distance between neighbours of the straight path in so many equal pieces: a row for each number.

    The path lies in the plane of its two ends: the cosine of two neighbours is that of their angle at the origin.
    """
    whole, pairs = distances(first, final), ((first, first), (first, final), (final, final))
    own, both, others = (sum(float((a[name].double() * b[name]).sum()) for name in first) for a, b in pairs)
    ends = np.array([[own, 0.0], [both, np.sqrt(max(own * others - both**2, 0.0))]]) / np.sqrt(own)
    rows = []
    for count in pieces:
        x, y = np.linspace(*ends, count + 1).T
        turn = np.abs(np.diff(np.arctan2(y, x))).max()
        rows.append({name: value / count for name, value in whole.items()} | {"cos": 2 * np.sin(turn / 2) ** 2})
    return pd.DataFrame(rows)


def window(
    errors: pd.DataFrame, known: Calibration, *, proof_steps: int, cost_per_step: float, threshold_scale: float = 1.0
) -> pd.DataFrame:
    """For each T' of `path_errors`: the largest error as a multiple of δ, the distance in which it is (`binding`), the
    cost as a share of the proof's, and whether spoofing there would pass and pay (`feasible`). cost_per_step: c."""
    ratios = errors[list(DISTANCES)] / pd.Series(known.thresholds["weights"]) / threshold_scale
    largest, cost = ratios.max(axis=1), errors["spoof_steps"] * cost_per_step / proof_steps
    table = errors[["spoof_steps"]].assign(error_over_threshold=largest, binding=ratios.idxmax(axis=1), cost=cost)
    return table.assign(feasible=(largest <= 1) & (cost < 1))


def window_edges(table: pd.DataFrame) -> tuple[int, int] | None:
    """The smallest and the largest feasible T', or None where the window is shut."""
    feasible = table.loc[table["feasible"], "spoof_steps"]
    return (int(feasible.min()), int(feasible.max())) if len(feasible) else None


# ---- beside the spoofs that were made: runs.csv and paths.csv of data/results/digits ----

ATTACKS = {"attack_2": "Attack II", "attack_3": "Attack III", "interpolation_only": "interpolation only"}
SCALES = 2.0 ** np.arange(-2, 2.5, 0.5)  # multiples of δ
# Queries: spoofs made on the prover's own machine; with its images, stopping early; and on the even straight path too.
SAME_MACHINE = "adversary_device == '' and adversary_precision == '' and adversary_threads == 0"
PROVERS = "adversary_half == '' and stopping_test == True"
OWN = f"{PROVERS} and off_path == 0 and pace == '' and {SAME_MACHINE}"


def beside_proofs(runs: pd.DataFrame) -> pd.DataFrame:
    """Every spoof of these runs with the values of its own proof as `proof.…`."""
    spoofs, proofs = (runs[runs["experiment"] == kind] for kind in ("spoof", "honest"))
    same = ["regime", "task", "seed"]
    known = proofs.set_index(same).dropna(axis=1, how="all").add_prefix("proof.")
    texts = {name: spoofs[name].astype(object).fillna("") for name in TEXTS if name in spoofs}
    return spoofs.assign(**texts).join(known, on=same, how="inner")


def spoof_rows(
    runs: pd.DataFrame,
    *,
    task: str = "digits",
    replayed: str = "all",
    parts: Sequence[str] = ("weights",),
    threshold_scale: float = 1.0,
) -> pd.DataFrame:
    """The runs of ATTACKS that made a spoof as the prover would. replayed: "one" an epoch, "most" (⌊S/k⌋) or "all".

    steps: T; ratio, binding: the largest error over δ, and the distance in which it is
    cost, seconds: shares of the proof's; perturbed: of the spoof's batches
    threshold.…: the calibrated δ as a share of d_ref
    """
    made = beside_proofs(runs[runs["task"] == task])
    settings = made.filter(regex="^(attack|off_path|pace|stopping_test|adversary_)")
    made = made.loc[settings.query(f"attack in {list(ATTACKS)} and {OWN}").index]
    errors = made[[f"{part}.{replayed}.{name}" for part in parts for name in DISTANCES]]
    names = [f"proof.threshold.{part}.{name}" for part in parts for name in DISTANCES]
    # A δ that is ∞, as those of the buffers alone may be, is written as an empty cell.
    limits = made.reindex(columns=names).fillna({name: np.inf for name in names if ".buffers." in name})
    ratios = errors.to_numpy(float).T / limits.to_numpy(float).T / threshold_scale
    known = ["attack", "seed", "spoof_steps", "spoof_learning_rate", "trained_steps"]
    rows = made.reindex(columns=known, fill_value=0).assign(
        attack=made["attack"].map(ATTACKS),
        steps=made["proof.steps"],
        ratio=ratios.max(axis=0),
        binding=[DISTANCES[number % len(DISTANCES)] for number in ratios.argmax(axis=0)],
        accepted=(ratios <= 1).all(axis=0),
        cost=made["share.floating_point_operations"],
        perturbed=(made["batches.treated"] / made["batches.all"]).fillna(0),
        seconds=made["share.wall_seconds"],
        **{f"threshold.{name}": made[f"proof.threshold.weights.{name}"] for name in DISTANCES},
    )
    return rows.sort_values(["attack", "spoof_steps", "spoof_learning_rate", "seed"], ignore_index=True)


def over_threshold(spoofs: pd.DataFrame, paths: pd.DataFrame) -> pd.DataFrame:
    """The paths with each distance as a multiple of δ of its training, which stands beside the spoofs."""
    limits = spoofs.drop_duplicates("seed").set_index("seed")[[f"threshold.{name}" for name in DISTANCES]]
    return paths.assign(**(paths[list(DISTANCES)] / limits.loc[paths["seed"]].to_numpy()))


def window_grid(spoofs: pd.DataFrame, paths: pd.DataFrame) -> pd.DataFrame:
    """A row per attack, δ and T': of `repeats` trainings, in how many the paper's verifier accepts the spoof at
    Q = all (`measured`), and in how many the spacing of its path alone is within δ (`closed_form`)."""
    known = spoofs.merge(over_threshold(spoofs, paths), on=["seed", "spoof_steps"], validate="many_to_one")
    if len(known) < len(spoofs):
        raise ValueError(f"{len(spoofs) - len(known)} of {len(spoofs)} spoofs have no path to compare with")
    known = pd.DataFrame({"scale": SCALES}).merge(known, how="cross")
    measured, closed = known["ratio"] <= known["scale"], known[list(DISTANCES)].max(axis=1) <= known["scale"]
    cells = known[["attack", "scale", "spoof_steps"]]
    cells = cells.assign(repeats=1, agree=measured == closed, measured=measured, closed_form=closed)
    return cells.groupby(["attack", "scale", "spoof_steps"], sort=False).sum().reset_index()


def boundary(spoofs: pd.DataFrame, paths: pd.DataFrame) -> pd.Series:
    """T' -> the least multiple of δ at which the closed form accepts, mean over the trainings."""
    return over_threshold(spoofs, paths).set_index("spoof_steps")[list(DISTANCES)].max(axis=1).groupby(level=0).mean()


def agreement(grid: pd.DataFrame) -> pd.DataFrame:
    """By attack: cells, the share where closed form and measurement agree, and how many others each alone accepts."""
    counts = grid.groupby("attack", sort=False)[["repeats", "agree", "measured", "closed_form"]].sum().rename_axis(None)
    apart, surplus = counts["repeats"] - counts["agree"], counts["closed_form"] - counts["measured"]
    table = pd.DataFrame({"cells": counts["repeats"], "agree": counts["agree"] / counts["repeats"]})
    alone = {"only the closed form accepts": apart + surplus, "only the spoof itself is accepted": apart - surplus}
    return table.assign(**{name: doubled // 2 for name, doubled in alone.items()})


def above_the_path(spoofs: pd.DataFrame, paths: pd.DataFrame) -> pd.DataFrame:
    """By attack and T': the measured error over the path's spacing in the distance nearest to δ; mean over seeds."""
    known = spoofs.merge(over_threshold(spoofs, paths), on=["seed", "spoof_steps"])
    known["factor"] = [row["ratio"] / row[row["binding"]] for row in known.to_dict("records")]
    return known.pivot_table(index="attack", columns="spoof_steps", values="factor")


def break_even(spoofs: pd.DataFrame, interval: int) -> pd.DataFrame:
    """The T' at which each attack costs what the proof costs, T / c: a row per attack, a column per way to count c. The
    paper has c = 31, or 31 / k for Attack III; operations are means of the runs."""
    attack = spoofs["attack"].rename(None)
    steps = spoofs["steps"].groupby(attack).first()
    paper = steps / steps.index.map({"interpolation only": 1.0, "Attack II": 31.0, "Attack III": 31.0 / interval})
    measured = (spoofs["spoof_steps"] / spoofs["cost"]).groupby(attack).mean()
    return pd.DataFrame({"as the paper counts": paper, "in measured operations": measured})
