"""What a verifier must know for the presets beyond a `Calibration`, measured on one honest proof and kept as JSON."""

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from polkit.defences.checks import Limits, limits_of, random_starts, relative_limit, speeds
from polkit.defences.commitment import Commitment, CommittedData
from polkit.defences.stages import stage_edges, stage_scales
from polkit.proof import Proof, write_text_whole
from polkit.training import DISTANCES, Conditions, training_points
from polkit.verifier import STATE, Calibration, Evidence, check_checkpoints, gather, spread_starts, verify

LOOSE = 16.0  # times the largest of 94 honest errors, 28 of them from the first eighth of the training
TIGHT = {"quantile": 0.9, "margin": 50.0}  # of the honest errors of 60 intervals drawn by lot
STRETCH = 4  # j: a verifier with a k of its own replays over j intervals as recorded


# With twice the errors of one training, 7 trainings of 20 were rejected in their second stage: their errors reached 2.5
# times those of the first. The buffers of two reached 1.2 times the calibration's δ.
STAGES, REDRAWN = 4.0, 3.0


MARGIN = 2.0  # of what has no other


@dataclass(frozen=True)
class Standards:
    """conditions: of the replay with recorded augmentation · loose: δ for each interval of it, tight: for most of them,
    both for weights, buffers and momentum · redrawn: for a replay under the calibration's Conditions, momentum too ·
    stretched: for one over `stretch` intervals; each part -> distance -> value.

    relative: the largest error of the recorded replay's weights, as a share of the distance moved · speed: the
    farthest that an interval may move for each unit of learning rate (l2) · stage_edges, stage_scales: as in
    `within_stages` · commitment: to the data, published before the training.
    """

    conditions: Conditions
    loose: Limits
    tight: Limits
    redrawn: Limits
    stretched: Limits
    stretch: int
    relative: float
    speed: float
    stage_edges: tuple[float, ...]
    stage_scales: tuple[float, ...]
    commitment: Commitment

    def save(self, file: str | Path) -> None:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        write_text_whole(Path(file), json.dumps(asdict(self), indent=1, allow_nan=False))


def load_standards(file: str | Path) -> Standards:
    """Raises ValueError, in one sentence, if the file holds none."""
    try:
        values = json.loads(Path(file).read_text())
        for name in ("loose", "tight", "redrawn", "stretched"):
            _checked(name, [values[name][part][distance] for part in STATE for distance in DISTANCES])
        stages = {name: tuple(values[name]) for name in ("stage_edges", "stage_scales")}
        _checked("the stages", [*stages["stage_edges"], *stages["stage_scales"]])
        _checked("stretch, relative and speed", [values[name] for name in ("stretch", "relative", "speed")])
        if len(set(map(len, stages.values()))) != 1 or stages["stage_edges"][:1] != (0,) or values["stretch"] < 1:
            raise ValueError("each stage needs an edge, the first at 0, and a scale, and the stretch is 1 or more")
        made = {"conditions": Conditions(**values["conditions"]), "commitment": Commitment(**values["commitment"])}
        return Standards(**values | stages | made)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        wanted = "standards that `polkit calibrate --standards` wrote"
        raise ValueError(f"{file} does not hold {wanted} ({error})") from error


def _checked(name: str, numbers: list) -> None:
    if not all(type(number) in (int, float) and math.isfinite(number) and number >= 0 for number in numbers):
        raise ValueError(f"{name} must be finite numbers from 0 up")


def set_standards(
    proof: Proof,
    calibration: Calibration,
    conditions: Conditions | None = None,
    *,
    seed: int = 1,
    workers: int = 1,
    remember: bool = False,
) -> Standards:
    """Measured on an honest proof that was made for `calibration.task`.

    conditions: of the replay with recorded augmentation; default, the calibration's own with other kernels (oneDNN off,
    or on), which stand for another machine · seed: of what is drawn · remember: as in `gather`.
    """
    own = calibration.conditions
    conditions = (conditions or own.replace(onednn=not own.onednn)).replace(augmentation="replay")

    def seen(folder: Proof, machine: Conditions, starts: list[int]) -> Evidence:
        return gather(folder, calibration.task, machine, starts, seed=seed, workers=workers, remember=remember)

    early, count = spread_starts(proof, early=28, late=6), len(proof.checkpoint_steps) - 1
    by_lot = random_starts(proof, min(60, count), seed)
    exact = seen(proof, conditions, sorted({*early, *by_lot}))
    edges = stage_edges(calibration.task)
    largest = verify(proof, calibration, parts=("weights",), seed=seed, workers=workers, remember=remember)
    data = CommittedData(training_points(calibration.task))
    magnitudes, _, _ = check_checkpoints(proof, calibration.task)
    return Standards(
        conditions=conditions,
        loose=limits_of(exact, margin=LOOSE),
        tight=limits_of(exact.at(by_lot), **TIGHT),
        redrawn=limits_of(seen(proof, own, early), margin=REDRAWN),
        stretched=limits_of(seen(stretched(proof, STRETCH), own, early), margin=MARGIN),
        stretch=STRETCH,
        relative=relative_limit(exact, margin=LOOSE),
        speed=MARGIN * float(speeds(magnitudes, calibration.task).max()),
        stage_edges=edges,
        stage_scales=stage_scales(largest, calibration, edges, margin=STAGES),
        commitment=data.commitment,
    )


def stretched(proof: Proof, times: int) -> Proof:
    """The same proof with a k that is so many times as long: what lies between is not looked at."""
    return replace(proof, checkpoint_interval=times * proof.checkpoint_interval)
