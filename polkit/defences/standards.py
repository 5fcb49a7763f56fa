"""What a verifier must know for the presets beyond a `Calibration`, measured on one honest proof and kept as JSON."""

import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from polkit.defences.checks import limits_of, random_starts, relative_limit, speeds
from polkit.defences.commitment import Commitment, CommittedData
from polkit.defences.stages import stage_edges, stage_scales
from polkit.proof import Proof
from polkit.training import Conditions, training_points
from polkit.verifier import STATE, Calibration, verify
from polkit.verifier.calibration import load_settings, read_conditions, read_number, read_table, save_settings
from polkit.verifier.inspection import check_checkpoints
from polkit.verifier.replay import Table, replay

LOOSE = 16.0  # times the largest of 94 honest errors, 28 of them from the first eighth of the training
TIGHT = {"quantile": 0.9, "margin": 50.0}  # of the honest errors of 60 random intervals
STRETCH = 4  # j: a verifier with a k of its own replays over j intervals as recorded
STAGES, REDRAWN = 4.0, 3.0  # of the largest interval of each epoch alone; chapter 10 takes 2.0 of every interval
MARGIN = 2.0  # of what has no other


@dataclass(frozen=True)
class Standards:
    """The limits of the presets. Tables hold a value for each part of the state, momentum too, and each distance."""

    conditions: Conditions  # of the replay with recorded augmentation
    loose: Table  # δ for each interval of that replay
    tight: Table  # δ for most of its intervals
    redrawn: Table  # δ for a replay under the calibration's Conditions
    stretched: Table  # δ for one over `stretch` intervals
    stretch: int
    relative: float  # largest error of the recorded replay's weights, as a share of the distance moved
    speed: float  # the farthest that an interval may move for each unit of learning rate (l2)
    stage_edges: tuple[float, ...]  # as in `within_stages`
    stage_scales: tuple[float, ...]
    commitment: Commitment  # to the data, published before the training

    def save(self, file: str | Path) -> None:
        save_settings(file, asdict(self))


def load_standards(file: str | Path) -> Standards:
    """Raises ValueError, in one sentence, if the file holds none."""
    return load_settings(file, "does not hold standards that `polkit calibrate --standards` wrote", _read_standards)


def _read_standards(values: dict) -> Standards:
    read = {name: read_table(name, values[name], STATE) for name in ("loose", "tight", "redrawn", "stretched")}
    read |= {name: read_number(name, values[name]) for name in ("stretch", "relative", "speed")}
    for name in ("stage_edges", "stage_scales"):
        read[name] = tuple(read_number(name, number) for number in values[name])
    edges, scales = read["stage_edges"], read["stage_scales"]
    if len(edges) != len(scales) or edges[:1] != (0,) or type(read["stretch"]) is not int or read["stretch"] < 1:
        raise ValueError("each stage needs an edge, the first at 0, and a scale, and the stretch is 1 or more")
    root, size = (values["commitment"][name] for name in ("root", "size"))
    if not re.fullmatch("[0-9a-f]{64}", root) or type(size) is not int or size < 1:
        raise ValueError("the commitment must be a root of 64 hex digits and a size of 1 or more")
    read["conditions"], read["commitment"] = read_conditions(values["conditions"]), Commitment(root, size)
    return Standards(**values | read)


def set_standards(
    proof: Proof, calibration: Calibration, conditions: Conditions | None = None, *, seed: int = 1, workers: int = 1
) -> Standards:
    """Measured on an honest proof that was made for `calibration.task`, by replays of 94 intervals at most, of 34
    again with redrawn augmentation, of 34 stretched ones, and by Algorithm 2 at Q = 1.

    conditions: of the replay with recorded augmentation (default: the calibration's with oneDNN the other way)
    """
    task, own, how = calibration.task, calibration.conditions, {"parts": STATE, "workers": workers}
    conditions = (conditions or own.replace(onednn=not own.onednn)).replace(augmentation="replay")
    spread = spread_starts(proof, early=28, late=6)
    drawn = random_starts(proof, min(60, len(proof.checkpoint_steps) - 1), seed)
    exact = replay(proof, task, conditions, sorted({*spread, *drawn}), seed, **how)
    largest, edges = verify(proof, calibration, top_q=1, seed=seed, workers=workers), stage_edges(task)
    magnitudes, _, _ = check_checkpoints(proof, task, task.steps_per_epoch)
    return Standards(
        conditions=conditions,
        loose=limits_of(exact, margin=LOOSE),
        tight=limits_of(exact[exact["start"].isin(drawn)], **TIGHT),
        redrawn=limits_of(replay(proof, task, own, spread, seed, **how), margin=REDRAWN),
        stretched=limits_of(replay(stretched(proof, STRETCH), task, own, spread, seed, **how), margin=MARGIN),
        stretch=STRETCH,
        relative=relative_limit(exact, margin=LOOSE),
        speed=MARGIN * float(speeds(magnitudes, task).max()),
        stage_edges=edges,
        stage_scales=stage_scales(largest, calibration, edges, margin=STAGES, steps=proof.steps),
        commitment=CommittedData(training_points(task)).commitment,
    )


def stretched(proof: Proof, times: int) -> Proof:
    """The same proof with a k that is so many times as long: what lies between is not looked at."""
    return replace(proof, checkpoint_interval=times * proof.checkpoint_interval)


def spread_starts(proof: Proof, early: int, late: int) -> list[int]:
    """Where honest errors are largest: `early` intervals over the first eighth of a proof, `late` over the rest."""
    starts, found = proof.checkpoint_steps[:-1], []
    edge = max(1, len(starts) // 8)
    for part, wanted in ((starts[:edge], early), (starts[edge:], late)):
        count = min(wanted, len(part))
        found += [part[number * len(part) // count] for number in range(count)]
    return found
