"""What exact arithmetic and the memory of a training buy, measured on `digits`: eight small tables of chapter 9.

    python -m polkit.reproduce.origins

makes them again, in about ten minutes with the proof and the spoofs in the cache, and writes them to
data/results/digits.
"""

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch

from polkit.adversary.path import sorted_initialisation
from polkit.adversary.retraining import fitted_batches
from polkit.defences.exact import ALLOWED, flat, nearness, prove_exactly, replay_exactly, round_and_log, stepped, units
from polkit.defences.memorisation import EARLY, memorisation
from polkit.defences.standards import spread_starts
from polkit.experiments.gallery import every_spoof
from polkit.experiments.published import published
from polkit.proof.folder import ROUNDING_LOG, Proof
from polkit.prover import prove
from polkit.training.conditions import Conditions, applied
from polkit.training.distance import distances
from polkit.training.step import Checkpoint, Learner, initial_checkpoint
from polkit.training.task import Task, task
from polkit.verifier.calibration import Calibration, prepare
from polkit.verifier.inspection import OPTIMISER, replayed_task
from polkit.verifier.replay import recorded_data, replay
from polkit.verifier.verdict import verify

# oneDNN has no float64 convolution, so switching it off changes nothing there; the order of sums does.
MACHINES = {
    "oneDNN off": ({"onednn": False}, None),
    "two threads": ({"threads": 2}, None),
    "samples in another order": ({}, 1),
    "oneDNN off, two threads, another order": ({"onednn": False, "threads": 2}, 1),
}


THRESHOLDS = tuple(2.0**-power for power in (7, 9, 11, 13, 15, 17))
STAGES = (0, 10, 100, 200, 400, 600, 1100, 2200, 3300)  # steps
BEGINNINGS = 20  # trainings of which the first intervals are looked at


def exact_machines(
    plain: Proof,
    exact: Proof,
    conditions: Conditions,
    reference: Mapping[str, float],
    machines: Sequence[str] = tuple(MACHINES),
) -> pd.DataFrame:
    """How far the replay of each machine is from the record: of an exact proof with its log and without, and of an
    ordinary one in float32.

    intervals, turned: replayed with the log, and how many of their roundings it turned. Without the log, those
    intervals are replayed in which it turned something; broken_without_log: how many of them then err. Errors in l2,
    the largest of weights, buffers and momentum; of float32 that of the weights over d_ref, from 34 intervals with
    recorded augmentation.
    """
    rows = []
    for name in machines:
        changes, reordered = MACHINES[name]
        other = conditions.replace(**changes)
        with_log = replay_exactly(exact, exact.task, other, reordered=reordered)
        turned = with_log.loc[with_log["turned"] > 0, "start"].tolist()
        without = replay_exactly(exact, exact.task, other, turned, use_log=False, reordered=reordered)
        found = replay(plain, plain.task, other.replace(augmentation="replay"), spread_starts(plain, 28, 6))
        errors = [table[["weights", "buffers", "momentum"]].max(axis=1) for table in (with_log, without)]
        float32 = found[(found["part"] == "weights") & (found["distance"] == "l2")]["error"].max()
        rows.append(
            {
                "machine": name,
                "intervals": len(with_log),
                "turned": with_log["turned"].sum(),
                "intervals_turned": len(turned),
                "broken_without_log": int((errors[1] > 0).sum()),
                "largest_with_log": errors[0].max(),
                "largest_without_log": errors[1].max() if len(without) else 0.0,
                # No float32 training sums the samples of a batch in another order: there is no such replay.
                "largest_float32": float32 / reference["l2"] if reordered is None else math.nan,
            }
        )
    return pd.DataFrame(rows)


def exact_thresholds(exact: Proof, conditions: Conditions, every: int = 10) -> pd.DataFrame:
    """For each threshold of nearness: the share of values logged, bytes a step, roundings that two machines (one of
    two threads, with the samples in another order) do differently though they were not logged, and logged ones that
    the other machine finds too far from a middle. From the first step of every tenth interval."""
    one, two = (each.replace(precision="float64") for each in (conditions, conditions.replace(threads=2)))
    data, rows = recorded_data(exact, one), []
    for start in exact.checkpoint_steps[:-1][::every]:
        state, values = exact.checkpoint(start), []
        for machine, reordered in ((one, None), (two, 1)):
            with applied(machine):
                values.append(stepped(Learner(exact.task, machine), state, data, start, reordered))
        here, there = (nearness(each) for each in values)
        differ = round_and_log(values[0])[0] != round_and_log(values[1])[0]
        apart = ((values[0] - values[1]) / units(values[0])).abs()
        for threshold in THRESHOLDS:
            logged = here <= threshold
            rows.append(
                (
                    threshold,
                    float(logged.double().mean()),
                    8 + 4 * int(logged.sum()),
                    int((differ & ~logged).sum()),
                    int((logged & (there > 2 * threshold)).sum()),
                    float(apart.max()),
                )
            )
    columns = ["threshold", "logged_share", "bytes_a_step", "missed", "refused", "largest_difference"]
    groups = pd.DataFrame(rows, columns=columns).groupby("threshold", sort=False)
    table = groups.agg(
        {"logged_share": "mean", "bytes_a_step": "mean", "missed": "sum", "refused": "sum", "largest_difference": "max"}
    )
    return table.assign(steps=groups.size()).reset_index()


def exact_spoofs(proofs: Mapping[str, Proof], conditions: Conditions, reference: Mapping[str, float]) -> pd.DataFrame:
    """What δ = 0 does to folders that brought no log: each interval replayed in float64 and rounded to the nearest.

    smallest, largest: error of the weights in l2 over d_ref · momentum: the largest error of the momentum in l2.
    """
    rows = []
    for name, proof in proofs.items():
        found = replay_exactly(proof, replayed_task(proof, proof.task), conditions, use_log=False)
        errors = found["weights"] / reference["l2"]
        rows.append(
            {
                "folder": name,
                "intervals": len(found),
                "smallest": errors.min(),
                "largest": errors.max(),
                "momentum": found["momentum"].max(),
            }
        )
    return pd.DataFrame(rows)


def exact_freedom(exact: Proof, target: Checkpoint, conditions: Conditions, epochs: int = 20) -> pd.DataFrame:
    """How far the log lets an adversary push the weights, in l2 over d(W_0, W_T).

    every value, every step: the bound, one unit of every weight and every momentum in each of T updates · near a middle
    by chance: the share of it that the verifier will take · steered: measured, two trainings from one seed, one of
    which rounds whatever is open to doubt towards another model. apart: how far that leads them from each other, after
    k, S and all steps of `epochs` epochs · nearer: how much nearer to that model.
    """
    job, k = exact.task, exact.checkpoint_interval
    first, last = exact.checkpoint(0).weights, exact.checkpoint(exact.steps).weights
    way, total = distances(first, last)["l2"], 0.0
    for start in exact.checkpoint_steps[:-1]:
        state = exact.checkpoint(start).parts()
        unit = {part: float(units(flat(Checkpoint(state[part], {}, {}))).norm()) for part in ("weights", "momentum")}
        push = job.learning_rate_at(start) / (1 - job.momentum)
        total += (min(start + k, exact.steps) - start) * (unit["weights"] + push * unit["momentum"])
    rows = [
        {"what": "every value, every step", "steps": exact.steps, "apart": total / way},
        {"what": "near a middle by chance", "steps": exact.steps, "apart": 2 * ALLOWED * total / way},
    ]
    short = job.replace(epochs=epochs, milestones=job.milestones)
    plain, steered = (prove_exactly(short, 0, conditions=conditions, towards=towards) for towards in (None, target))
    for step in sorted({k, 2 * k, -(-short.steps_per_epoch * 5 // k) * k, short.steps}):
        left, right = (each.checkpoint(step).weights for each in (plain, steered))
        gaps = [distances(each, target.weights)["l2"] for each in (left, right)]
        rows.append(
            {
                "what": "steered",
                "steps": step,
                "apart": distances(left, right)["l2"] / way,
                "nearer": (gaps[0] - gaps[1]) / way,
            }
        )
    return pd.DataFrame(rows)


def exact_costs(plain: Proof, exact: Proof, conditions: Conditions, steps: int = 200) -> pd.DataFrame:
    """Bytes of a proof with and without its log, and milliseconds a step, the least of three short trainings each."""
    short = plain.task.replace(epochs=max(1, steps // plain.task.steps_per_epoch))
    rows = []
    for name, proof, make in (("float32", plain, prove), ("float64, rounded, logged", exact, prove_exactly)):
        seconds = []
        for number in range(3):
            with tempfile.TemporaryDirectory() as folder:
                began = time.perf_counter()
                make(short, number, out=Path(folder) / "proof", conditions=conditions, progress=False)
                seconds.append(time.perf_counter() - began)
        log = proof.folder / ROUNDING_LOG
        rows.append(
            {
                "proof": name,
                "milliseconds_a_step": 1000 * min(seconds) / short.steps,
                "steps": proof.steps,
                "log_bytes": log.stat().st_size if log.exists() else 0,
                "proof_bytes": proof.cost().stored_bytes,
            }
        )
    return pd.DataFrame(rows)


def memorised_stages(proof: Proof, conditions: Conditions, step: int = 2) -> pd.DataFrame:
    """z and share of an honest proof by stage of training: mean, least and largest over every second interval."""
    starts = proof.checkpoint_steps[:-1]
    looked = sorted({*starts[:40], *starts[40::step]})
    found = memorisation(proof, proof.task, conditions, looked)
    found["stage"] = [max(edge for edge in STAGES if edge <= start) for start in found["start"]]
    groups = found.groupby("stage")
    return (
        groups.agg(
            intervals=("z", "size"),
            z=("z", "mean"),
            least_z=("z", "min"),
            largest_z=("z", "max"),
            share=("share", "mean"),
        )
        .reset_index()
        .rename(columns={"stage": "from_step"})
    )


def memorised_folders(
    proof: Proof,
    spoofs: Mapping[str, Proof],
    calibration: Calibration,
    conditions: Conditions,
    beginnings: int = BEGINNINGS,
) -> pd.DataFrame:
    """Σz / √n over the first 14 intervals: of the honest proof, of the beginnings of other trainings, of every spoof,
    and of two spoofs whose batches were fitted to their path; accepted: by the paper's verifier with every interval."""
    rows = []

    def look(kind: str, name: str, folder: Proof, accepted: bool | None) -> None:
        found = memorisation(folder, replayed_task(folder, calibration.task), conditions)
        z = found["z"].sum(skipna=False) / math.sqrt(len(found))
        rows.append(
            {
                "kind": kind,
                "folder": name,
                "intervals": len(found),
                "z": z,
                "share": found["share"].mean(),
                "accepted": accepted,
            }
        )

    def judged(folder: Proof) -> bool:
        return verify(
            folder, calibration, top_q="all", parts=("weights",), prover_decides=OPTIMISER, remember=True
        ).accepted

    look("honest", "honest proof", proof, True)
    epochs = -(-EARLY * proof.checkpoint_interval // proof.task.steps_per_epoch)
    short = proof.task.replace(epochs=epochs, milestones=proof.task.milestones)
    for seed in range(1, 1 + beginnings):
        look("beginning", f"seed {seed}", prove(short, seed, conditions=conditions, progress=False), None)
    for name, spoof in spoofs.items():
        look("spoof", name, spoof, judged(spoof))
    with tempfile.TemporaryDirectory() as folder:
        for name in ("infinitesimal update", "borrowed momentum, many intervals"):
            if name in spoofs:
                fitted = fitted_batches(spoofs[name], Path(folder) / name, conditions=conditions)
                look("fitted", f"{name}, fitted batches", fitted, judged(fitted))
    return pd.DataFrame(rows)


def seeds_by_lot(job: Task, final: Checkpoint, tries: int = 1000) -> pd.DataFrame:
    """What a prover gains who tries many orders of the same data, and with each another root and seed: how near to
    W_T the W_0 of each seed comes, in l2. deviations: how many standard deviations below the mean the sorted W_0 lies;
    log2_tries: how many tries such a one would take, if the tail is a normal one."""
    # The seeds of hashes are no others than these; 0 is the training's own.
    drawn = (initial_checkpoint(job, seed).weights for seed in range(1, 1 + tries))
    gaps = torch.tensor([distances(weights, final.weights)["l2"] for weights in drawn], dtype=torch.float64)
    near = distances(sorted_initialisation(job, final, 1).weights, final.weights)["l2"]
    mean, spread = float(gaps.mean()), float(gaps.std())
    deviations = (mean - near) / spread
    return pd.DataFrame(
        [
            {
                "tries": tries,
                "mean": mean,
                "spread": spread,
                "nearest": float(gaps.min()),
                "sorted": near,
                "deviations": deviations,
                "log2_tries": deviations**2 / 2 / math.log(2),
            }
        ]
    )


def measured(job: Task, conditions: Conditions = Conditions()) -> dict[str, pd.DataFrame]:
    """Every table by name."""
    proof, calibration = prepare(job, 0, conditions=conditions, progress=False)
    final, reference = proof.final_weights(), calibration.reference["weights"]
    spoofs = every_spoof(final, calibration, conditions=conditions)
    exact = prove_exactly(job, 0, conditions=conditions)
    return {
        "exact_costs": exact_costs(proof, exact, conditions),
        "exact_thresholds": exact_thresholds(exact, conditions),
        "exact_machines": exact_machines(proof, exact, conditions, reference),
        "exact_spoofs": exact_spoofs(spoofs, conditions, reference),
        "exact_freedom": exact_freedom(exact, final, conditions),
        "memorised_stages": memorised_stages(proof, conditions),
        "memorised_folders": memorised_folders(proof, spoofs, calibration, conditions),
        "seeds_by_lot": seeds_by_lot(job, final),
    }


if __name__ == "__main__":
    for table_name, table in measured(task("digits")).items():
        table.to_csv(published() / f"{table_name}.csv", index=False)
