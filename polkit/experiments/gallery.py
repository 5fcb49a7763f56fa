"""Every spoof of the book for one model, at the length that suits it: the rows of the matrix, and what they cost."""

import math
from collections.abc import Sequence
from itertools import pairwise

from polkit import adversary
from polkit.experiments import evasion
from polkit.experiments.momentum import borrowed_momentum
from polkit.experiments.retraining import RETRAINING, distil, retrain
from polkit.experiments.stages import staged_pace
from polkit.proof import Proof
from polkit.training import Checkpoint, Conditions, Task
from polkit.verifier import Calibration

ZIGZAG = {"off_path": 0.6}  # such a way on `digits` is 0.18 straight, and an honest proof's 0.14
EARLY = {"rest": 38, "corrections": 1}  # of 40 intervals one trains, one crosses, 38 rest at W_T
TABLE = {  # name -> attack, which of `lengths`, what `every_spoof` is given that it takes, settings of its own
    "Attack I": (adversary.attack_1, "usual", ("calibration",), {}),
    "Attack II": (adversary.attack_2, "usual", ("calibration", "workers"), {}),
    "Attack III": (adversary.attack_3, "usual", ("calibration", "workers"), {}),
    "interpolation only": (adversary.interpolation_only, "usual", ("workers",), {}),
    "infinitesimal update": (evasion.infinitesimal_update, "usual", ("workers",), {}),
    "borrowed momentum": (borrowed_momentum, "short", (), {}),
    "blindfold top-Q": (evasion.blindfold_top_q, "blindfold", (), {}),
    "concatenation": (evasion.concatenation, "usual", (), {}),
    "NaN checkpoints": (evasion.non_finite, "usual", (), {}),
    "distillation": (distil, "usual", (), {}),
    # Each of these answers a defence.
    "interpolation only, trained start": (adversary.interpolation_only, "longer", ("workers", "trained_steps"), {}),
    "borrowed momentum, many intervals": (borrowed_momentum, "usual", (), {}),
    "borrowed momentum, zigzag": (borrowed_momentum, "usual", (), ZIGZAG),
    "borrowed momentum, fresh start": (borrowed_momentum, "usual", (), {"fresh_start": True}),
    "borrowed momentum, arriving early": (borrowed_momentum, "early", (), EARLY),
    "infinitesimal update, by stages": (evasion.infinitesimal_update, "staged", ("workers", "pace"), {}),
    "hidden crossing": (evasion.hidden_crossing, "crossing", (), {}),
    "hidden crossing, full length": (evasion.hidden_crossing, "whole", (), {}),
    "crossing in hops": (evasion.crossing_in_hops, "hops", (), {}),
}
SPOOFS = tuple(TABLE)


def every_spoof(
    final: Checkpoint,
    calibration: Calibration,
    *,
    seed: int = 1,
    intervals: int = 14,
    stages: tuple[Sequence[float], Sequence[float]] | None = None,
    prover_seed: int | None = None,
    conditions: Conditions = Conditions(),
    workers: int = 1,
) -> dict[str, Proof]:
    """Name -> spoof of f_{W_T}, all of them adversaries of this seed; what is kept in the cache is not made again.

    intervals: T'/k of the spoofs that need a fine path
    stages: edges and scales of the verifier's thresholds by stage of training
    prover_seed: for `retraining`, if the adversary has come to know it
    """
    task, pace = calibration.task, staged_pace(*stages) if stages else ()
    given = {"calibration": calibration, "workers": workers, "pace": pace}
    given |= {"trained_steps": 2 * task.checkpoint_interval}
    common = {"seed": seed, "conditions": conditions, "progress": False}
    steps, made = lengths(task, intervals, pace), {}
    for name, (attack, length, taken, settings) in TABLE.items():
        if steps[length]:
            chosen = settings | {key: given[key] for key in taken}
            made[name] = attack(final, task, spoof_steps=steps[length], **chosen, **common)
    if prover_seed is not None:
        made[RETRAINING] = retrain(task, prover_seed, conditions=conditions, progress=False)
    return made


def lengths(task: Task, intervals: int, pace: Sequence[tuple[float, float]]) -> dict[str, int | None]:
    """T' of each kind of spoof in the table; none or 0 where there is no room for it."""
    k, crossing = task.checkpoint_interval, evasion.crossing_length
    rate_drops = min(task.milestones, default=0) * task.steps_per_epoch
    fastest = max(((right[1] - left[1]) / (right[0] - left[0]) for left, right in pairwise(pace)), default=0)
    return {
        "short": 4 * k,
        "usual": intervals * k,
        "longer": (intervals + 6) * k,  # beside two trained intervals, and fine enough for the buffers' δ
        "early": 40 * k,
        "staged": math.ceil(intervals * fastest) * k,  # so that no interval is longer than those of the even path
        "blindfold": evasion.shortest_blindfold(task),
        # A jump is real enough once the learning rate has fallen.
        "crossing": crossing(task, rate_drops + 2 * k),
        "whole": crossing(task, task.steps) or crossing(task, task.steps - 3 * k),  # a verifier may ask for T' = T
        "hops": task.steps // k * k if 3 * k <= rate_drops <= task.steps - k else None,
    }
