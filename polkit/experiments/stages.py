"""Thresholds by stage of training against an adversary who walks at their pace: forged and judged (chapter 8)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from polkit.adversary import interpolation_only, staged_pace
from polkit.defences import rejected_at, stage_edges, stage_scales
from polkit.proof import Proof
from polkit.training import Conditions, Task
from polkit.verifier import Calibration, Verdict, verify

EVEN, STAGED, SCHEDULED = "evenly divided", "at the stages' pace", "the same, with a schedule of its own"


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
    seed: int = 1,
    conditions: Conditions = Conditions(),
    workers: int = 1,
) -> Iterator[tuple[str, Proof, Verdict]]:
    """Interpolation only three times over, each with its verdict on every interval: along an even path; along one that
    keeps to the stages; and along that, claiming a schedule cut to T', before a verifier who lets the prover decide it.
    """
    task, final, pace = calibration.task, proof.final_weights(), staged_pace(edges, scales)
    for name, walked, claimed, decided in (
        (EVEN, (), task, ()),
        (STAGED, pace, task, ()),
        (SCHEDULED, pace, own_schedule(task, spoof_steps), ("milestones",)),
    ):
        spoof = interpolation_only(
            final,
            claimed,
            spoof_steps=spoof_steps,
            seed=seed,
            pace=walked,
            conditions=conditions,
            workers=workers,
            progress=False,
        )
        yield (
            name,
            spoof,
            verify(spoof, calibration, top_q="all", workers=workers, remember=True, prover_decides=decided),
        )


def stage_trials(
    proof: Proof,
    calibration: Calibration,
    lengths: Sequence[int],
    *,
    seed: int = 1,
    conditions: Conditions = Conditions(),
    workers: int = 1,
) -> pd.DataFrame:
    """A row per path and T': whether the one δ accepts it (all parts), how many of its intervals lie above their
    stage's δ (weights), and its share of the proof's operations. Stages from every interval of the honest proof."""
    honest = verify(proof, calibration, top_q="all", workers=workers, remember=True)
    edges = stage_edges(calibration.task)
    scales = stage_scales(honest, calibration, edges)
    rows = []
    for length in lengths:
        made = staged_spoofs(
            proof, calibration, edges, scales, length, seed=seed, conditions=conditions, workers=workers
        )
        for name, spoof, verdict in made:
            share = spoof.cost().relative_to(proof.cost())["floating_point_operations"]
            above = len(rejected_at(verdict, calibration, edges, scales))
            rows.append((name, length, verdict.accepted, above, length // calibration.task.checkpoint_interval, share))
    columns = ["path", "spoof_steps", "accepted", "above_stage", "intervals", "floating_point_operations"]
    return pd.DataFrame(rows, columns=columns)


def passing(trials: pd.DataFrame) -> pd.DataFrame:
    """In how many trainings each path of each length passes both the one δ and its stages: a row per path, a column
    per T'. trials: rows of `stage_trials` with the training's `seed`."""
    passed = trials.assign(passed=trials["accepted"] & (trials["above_stage"] == 0))
    table = passed.pivot_table(index="path", columns="spoof_steps", values="passed", aggfunc="sum").astype(int)
    return table.reindex([name for name in (EVEN, STAGED, SCHEDULED) if name in table.index])


def read_stage_trials(folder: Path) -> pd.DataFrame:
    """The published trials. Raises FileNotFoundError if there are none."""
    file = folder / "stages.csv"
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing: `stage_trials` of some trainings, with their seeds, make it")
    return pd.read_csv(file)
