"""Spoofs against defences: each defence by itself on top of the paper's verifier, each cell from a replay."""

from collections.abc import Callable, Mapping

import pandas as pd

from polkit.calibration import Calibration
from polkit.defences.checks import adaptive_threshold, limits_of, straight_path, within_limits
from polkit.defences.evidence import STATE, Evidence, gather, spread_starts
from polkit.progress import Progress, reported
from polkit.proof import Proof
from polkit.training import Conditions
from polkit.verifier import OPTIMISER, replayed_task, verify

HONEST = "honest proof"
# Other kernels agree to 5e-6 in most intervals, but one in a hundred errs 4,000 times as much: over three trainings
# the largest of 98 was up to 2.4 times the largest of 30.
MARGINS = {"redrawn": 1.5, "recorded": 4.0}
STRAIGHTEST = 0.5  # honest proofs of `digits` are 0.14 straight, every spoof known here more than 0.95


def defence_matrix(proof: Proof, spoofs: Mapping[str, Proof], calibration: Calibration, *,
                   conditions: Conditions = Conditions(), workers: int = 1, remember: bool = False,
                   progress: Progress = False) -> pd.DataFrame:  # fmt: skip
    """Which folder is accepted (True) under which defence: a row per folder, the honest proof first.

    The first column is the paper's verifier: it compares the weights alone and takes the prover's optimiser, as the
    public code does. Each other column adds one defence to it. Spoofs are replayed whole. Of the honest proof 20
    intervals set the limits of the checks that need them, and the 20 that follow those are judged.
    conditions: of the machine that the proof was made on. The verifier replays with redrawn augmentation; for the last
    columns with the recorded one and other kernels (oneDNN off, or on), which stand for another machine.
    """
    redrawn = conditions.replace(augmentation="redraw")
    recorded = conditions.replace(augmentation="replay", onednn=not conditions.onednn)
    looked = spread_starts(proof, early=14, late=6)
    honest = {name: gather(proof, proof.task, each, looked, seed=1, workers=workers, remember=remember)
              for name, each in (("redrawn", redrawn), ("recorded", recorded))}  # fmt: skip
    limits = {name: limits_of(seen, margin=MARGINS[name]) for name, seen in honest.items()}
    following = [start + proof.checkpoint_interval for start in looked]
    rows = {}
    folders = {HONEST: proof, **spoofs}
    for name, folder in reported(folders.items(), total=len(folders), title="judging", progress=progress):
        task = replayed_task(folder, calibration.task)
        starts = [start for start in following if start < proof.steps] if name == HONEST else None

        def seen(each: Conditions, folder=folder, task=task, starts=starts) -> Evidence:
            return gather(folder, task, each, starts, workers=workers, remember=remember)

        now, exact = seen(redrawn), seen(recorded)
        if name == HONEST:
            base = not within_limits(now, calibration.thresholds, ("weights",))
        else:
            base = verify(folder, calibration, top_q="all", parts=("weights",), remember=remember, workers=workers,
                          prover_decides=OPTIMISER).accepted  # fmt: skip
        against = {"η decided by the verifier": [] if task == calibration.task else ["the learning rate"]}
        against |= findings(now, exact, limits)
        rows[name] = {"none": base} | {defence: base and not found for defence, found in against.items()}
    return pd.DataFrame(rows).T.astype(bool)


def findings(redrawn: Evidence, recorded: Evidence, limits: Mapping[str, dict]) -> dict[str, list]:
    """What each defence has against a folder."""
    checks: dict[str, Callable[[], list]] = {
        "buffers compared": lambda: within_limits(redrawn, limits["redrawn"], ("buffers",)),
        "momentum chained": lambda: within_limits(redrawn, limits["redrawn"], ("momentum",)),
        "adaptive threshold": lambda: adaptive_threshold(redrawn),
        "path not straight": lambda: straight_path(redrawn.proof, STRAIGHTEST),
        "augmentation recorded": lambda: within_limits(recorded, limits["recorded"], ("weights",)),
        "recorded, adaptive": lambda: adaptive_threshold(recorded),
        "recorded, state chained": lambda: within_limits(recorded, limits["recorded"], STATE),
    }
    return {name: check() for name, check in checks.items()}
