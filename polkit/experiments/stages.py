"""Thresholds by stage of training against an adversary who walks at their pace: forged and judged (chapter 10)."""

from collections.abc import Iterator, Sequence

import pandas as pd

from polkit.adversary import interpolation_only
from polkit.proof import Proof
from polkit.training import Conditions, Task
from polkit.verifier import Calibration, Verdict, verify

EVEN, STAGED, SCHEDULED = "evenly divided", "at the stages' pace", "the same, with a schedule of its own"


def staged_pace(edges: Sequence[float], scales: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Knots (share of the steps, share of the path) of a path that walks in each stage as fast as its δ allows.

    edges, scales: of the thresholds by stage of training (Section V), from `stage_edges` and `stage_scales`
    """
    knots, gone = [(0.0, 0.0)], 0.0
    for begin, end, scale in zip(edges, [*edges[1:], 1.0], scales, strict=True):
        gone += (end - begin) * scale
        knots.append((end, gone))
    return (*((at, share / gone) for at, share in knots[:-1]), (1.0, 1.0))


def own_schedule(task: Task, spoof_steps: int) -> Task:
    """The task with its learning rate dropping at the same shares of T' as of T, in whole epochs."""
    return task.replace(milestones=task.replace(epochs=max(1, spoof_steps // task.steps_per_epoch)).milestones)


def staged_spoofs(
    proof: Proof,
    calibration: Calibration,
    edges: Sequence[float],
    scales: Sequence[float],
    spoof_steps: int,
    *,
    conditions: Conditions = Conditions(),
    workers: int = 1,
) -> Iterator[tuple[str, Proof, Verdict]]:
    """Interpolation only three times over, each with its verdict on every interval: along an even path; along one that
    keeps to the stages; and along that, claiming a schedule cut to T', before a verifier who lets the prover decide it.

    edges, scales: of the stages, from `stage_edges` and `stage_scales`
    """
    task, pace = calibration.task, staged_pace(edges, scales)
    for name, walked, claimed, decided in (
        (EVEN, (), task, ()),
        (STAGED, pace, task, ()),
        (SCHEDULED, pace, own_schedule(task, spoof_steps), ("milestones",)),
    ):
        budget = {"spoof_steps": spoof_steps, "seed": 1, "conditions": conditions, "workers": workers}
        spoof = interpolation_only(proof.final_weights(), claimed, pace=walked, progress=False, **budget)
        judged = {"regime": calibration.regime.replace(prover_decides=decided), "top_q": "all"}
        yield name, spoof, verify(spoof, calibration, workers=workers, remember=True, **judged)


def passing(trials: pd.DataFrame) -> pd.DataFrame:
    """In how many trainings each path passes both the one δ and its stages: a row per path, a column per T'.

    trials: the published "digits/stages"
    """
    passed = trials.assign(passed=trials["accepted"] & (trials["above_stage"] == 0))
    table = passed.pivot_table(index="path", columns="spoof_steps", values="passed", aggfunc="sum")
    return table.reindex([name for name in (EVEN, STAGED, SCHEDULED) if name in table.index]).astype(int)
