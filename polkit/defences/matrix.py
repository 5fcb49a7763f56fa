"""Spoofs against defences: each defence by itself on top of the paper's verifier, each cell from a replay."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pandas as pd

from polkit.calibration import Calibration
from polkit.data import Points, derive_seed, test_points, training_points
from polkit.defences.checks import Finding, adaptive_threshold, limits_of, straight_path, within_limits
from polkit.defences.choice import random_starts
from polkit.defences.commitment import CommittedData, committed_data
from polkit.defences.evidence import STATE, Evidence, gather, spread_starts
from polkit.defences.memorisation import memorised
from polkit.defences.origin import accuracy_trend, derived_start, ends_at, perturbed_points
from polkit.progress import Progress, reported
from polkit.proof import Proof
from polkit.training import Checkpoint, Conditions
from polkit.verifier import OPTIMISER, Verdict, replayed_task, verify

HONEST, PUBLISHED, RECOMMENDED = "honest proof", "as published", "recommended"
# Other kernels agree to 5e-6 in most intervals, but one in a hundred errs 4,000 times as much. Over three trainings of
# `digits`, 34 intervals had largest errors of 0.010 to 0.043 in l2 of the weights and 0.05 to 0.32 of the momentum;
# times 8 that covers every honest interval seen. Straight paths of 14 intervals begin at 0.6 and 3.
MARGINS = {"redrawn": 1.5, "recorded": 8.0}
STRAIGHTEST = 0.5  # honest proofs of `digits` are 0.14 straight, 140 steps of a training 0.52, drawn paths 0.95
# A tenth of its steps makes a training of `digits` right on 0.96 of the test images, a straight path on 0.28 to 0.39.
TREND = {"share": 0.1, "least": 0.85}
BY_LOT = 20
COLUMNS = [  # in the order in which the book speaks of them
    "η decided by the verifier", "buffers compared", "momentum chained", "adaptive threshold", "path not straight",
    "accuracy trend", "memorised", "start from the seed", "ends at the model", "data committed", "nothing perturbed",
    "every interval", "half of them by lot", "augmentation recorded", "recorded, adaptive", "recorded, state chained",
    RECOMMENDED,
]  # fmt: skip


@dataclass(frozen=True)
class Court:
    """What the verifiers of one matrix share.

    disputed: the model that the proofs are about · machines: name -> Conditions, of the replays with redrawn and with
    recorded augmentation · limits: of each, part -> distance -> δ · lots_seed: from which intervals are drawn.
    """

    calibration: Calibration
    disputed: Checkpoint
    machines: Mapping[str, Conditions]
    limits: Mapping[str, Mapping]
    committed: Points
    tree: CommittedData
    tests: Points
    lots_seed: int
    workers: int
    remember: bool

    def replayed(self, folder: Proof, machine: str, starts: Collection[int]) -> Evidence:
        task = replayed_task(folder, self.calibration.task)
        return gather(folder, task, self.machines[machine], sorted(starts), workers=self.workers,
                      remember=self.remember)  # fmt: skip


def defence_matrix(proof: Proof, spoofs: Mapping[str, Proof], calibration: Calibration, *, seed: int = 0,
                   adversary_seed: int = 1, conditions: Conditions = Conditions(), workers: int = 1,
                   remember: bool = False, progress: Progress = False) -> pd.DataFrame:  # fmt: skip
    """Which folder is accepted (True) under which defence: a row per folder, the honest proof first.

    The first column is the paper's verifier at Q = 1: it compares the weights alone and takes the prover's optimiser,
    as the public code does. Each other column adds one defence to it; the last, several. The limits of the checks that
    need their own come from 34 intervals of the honest proof, which is then judged like any other folder.
    seed, adversary_seed: of the proof and of the spoofs · conditions: of the machine that the proof was made on. The
    verifier replays with redrawn augmentation; for some columns with the recorded one and other kernels (oneDNN off,
    or on), which stand for another machine.
    """
    machines = {
        "redrawn": conditions.replace(augmentation="redraw"),
        "recorded": conditions.replace(augmentation="replay", onednn=not conditions.onednn),
    }
    looked = spread_starts(proof, early=28, late=6)
    limits = {name: limits_of(gather(proof, proof.task, each, looked, seed=1, workers=workers, remember=remember),
                              margin=MARGINS[name])
              for name, each in machines.items()}  # fmt: skip
    committed = training_points(calibration.task)
    court = Court(calibration, proof.final_weights(), machines, limits, committed, CommittedData(committed),
                  test_points(calibration.task), derive_seed(seed, "lots"), workers, remember)  # fmt: skip
    folders = {HONEST: (proof, seed)}
    folders |= {name: (spoof, derive_seed(adversary_seed, "adversary")) for name, spoof in spoofs.items()}
    shown = reported(folders.items(), total=len(folders), title="judging", progress=progress)
    return pd.DataFrame({name: judged(court, *folder) for name, folder in shown}).T.astype(bool)


def judged(court: Court, folder: Proof, revealed_seed: int) -> dict[str, bool]:
    """Verifier -> whether it accepts. What is refused for something else than an error, no defence looks at."""
    whole = verify(folder, court.calibration, top_q="all", parts=("weights",), remember=court.remember,
                   workers=court.workers, prover_decides=OPTIMISER)  # fmt: skip
    if any(reason.kind != "error" for reason in whole.reasons):
        return dict.fromkeys((PUBLISHED, *COLUMNS), False)
    first = whole.at(1)
    against = findings(court, folder, revealed_seed, whole, largest=set(map(int, first.intervals["start"])))
    return {PUBLISHED: first.accepted} | {name: first.accepted and not against[name] for name in COLUMNS}


def findings(court: Court, folder: Proof, revealed_seed: int, whole: Verdict, largest: set[int]) -> dict[str, list]:
    """What each defence has against a folder. whole: its verdict with every interval · largest: what top-Q picks."""
    count = len(folder.checkpoint_steps) - 1
    by_lot = set(random_starts(folder, min(BY_LOT, count), court.lots_seed))
    half = set(random_starts(folder, -(-count // 2), court.lots_seed))
    redrawn, more = court.replayed(folder, "redrawn", largest), court.replayed(folder, "recorded", largest | by_lot)
    exact, limits = more.at(largest), court.limits
    optimiser = [] if exact.task == court.calibration.task else ["the optimiser is not the verifier's"]
    model = ends_at(folder, court.disputed)

    def foreign(starts: Collection[int]) -> list[Finding]:
        return committed_data(folder, court.tree, court.tree.commitment, sorted(starts))

    return {
        "η decided by the verifier": optimiser,
        "buffers compared": within_limits(redrawn, court.calibration.thresholds, ("buffers",)),
        "momentum chained": within_limits(redrawn, limits["redrawn"], ("momentum",)),
        "adaptive threshold": adaptive_threshold(redrawn),
        "path not straight": straight_path(folder, STRAIGHTEST),
        "accuracy trend": accuracy_trend(folder, court.tests, court.machines["redrawn"], **TREND),
        "memorised": memorised(folder, exact.task, court.machines["recorded"]),
        "start from the seed": derived_start(folder, revealed_seed),
        "ends at the model": model,
        "data committed": foreign(largest),
        "nothing perturbed": perturbed_points(folder, court.committed),
        "every interval": list(whole.reasons),
        "half of them by lot": [reason for reason in whole.reasons if reason.step in half],
        "augmentation recorded": within_limits(exact, limits["recorded"], ("weights",)),
        "recorded, adaptive": adaptive_threshold(exact),
        "recorded, state chained": within_limits(exact, limits["recorded"], STATE),
        RECOMMENDED: [*optimiser, *model, *within_limits(more, limits["recorded"], STATE), *foreign(largest | by_lot)],
    }
