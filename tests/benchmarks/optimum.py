"""The cheapest spoof that passes: attacks over their settings, each judged at Q = all in all four distances."""

from collections.abc import Callable, Sequence

import pandas as pd

from polkit.adversary import attack_2, attack_3, interpolation_only
from polkit.proof.folder import Proof
from polkit.training.jobs import Progress, reported
from polkit.training.step import PARTS
from polkit.verifier.calibration import Calibration
from polkit.verifier.verdict import verify, worst_ratios

ATTACKS: dict[str, Callable[..., Proof]] = {
    "attack_2": attack_2,
    "attack_3": attack_3,
    "interpolation_only": interpolation_only,
}


LENGTHS = (80, 100, 120, 140, 160)


def settings(lengths: Sequence[int] = LENGTHS) -> list[tuple[str, dict]]:
    """(attack, its settings besides the book's own); Attacks II and III, which take long, at the longest T' alone."""
    chosen: list[tuple[str, dict]] = [
        ("interpolation_only", {"spoof_steps": steps, "replayed_intervals": first})
        for steps in lengths
        for first in (0, 1, 3, steps)
    ]
    return chosen + [(attack, {"spoof_steps": max(lengths)}) for attack in ("attack_2", "attack_3")]


def optimum_table(
    proof: Proof,
    calibration: Calibration,
    *,
    seed: int = 1,
    lengths: Sequence[int] = LENGTHS,
    progress: Progress = False,
) -> pd.DataFrame:
    """A row per attack and settings: its cost as a share of the proof's, and whether it is accepted at Q = all.

    Columns attack, spoof_steps, replayed_intervals (empty where it does not apply), operations, bytes, accepted, and
    for each part the largest error in multiples of δ.
    seed: the adversary's. Spoofs and replays are kept in the cache, so that a sweep which was stopped goes on; seconds
    are for `make bench` to measure, in one run.
    """
    rows, tried = [], settings(lengths)
    final = proof.final_weights()
    for attack, chosen in reported(tried, total=len(tried), title="optimum", progress=progress):
        known = {} if attack == "interpolation_only" else {"calibration": calibration}
        spoof = ATTACKS[attack](final, proof.task, seed=seed, progress=False, **known, **chosen)
        verdict, share = verify(spoof, calibration, top_q="all", remember=True), spoof.cost().relative_to(proof.cost())
        rows.append(
            {
                "attack": attack,
                **chosen,
                "operations": share["floating_point_operations"],
                "bytes": share["stored_bytes"],
                "accepted": verdict.accepted,
                **{
                    f"{part}_over_threshold": float(worst_ratios(verdict, calibration, [part])["ratio"].max())
                    for part in PARTS
                },
            }
        )
    return pd.DataFrame(rows)


def cheapest(table: pd.DataFrame) -> pd.DataFrame:
    """Of each attack, the settings that were accepted in every training and cost least, on the mean over them."""
    keys = ["attack", "spoof_steps", "replayed_intervals"]
    known = table.assign(**{key: table[key].astype(object).where(table[key].notna(), "") for key in keys})
    means = (
        known.groupby(keys, sort=False)
        .agg(
            operations=("operations", "mean"),
            accepted=("accepted", "mean"),
            trainings=("accepted", "size"),
            weights_over_threshold=("weights_over_threshold", "max"),
            buffers_over_threshold=("buffers_over_threshold", "max"),
        )
        .reset_index()
    )
    passing = means[means["accepted"] == 1].sort_values("operations", kind="stable")
    return passing.groupby("attack", sort=False).head(1).reset_index(drop=True)
