"""The two folders of a challenge: the one that is published, and the one that its lecturer keeps. Their readers."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path

from polkit.calibration import CALIBRATION_BYTES, Calibration, load_calibration
from polkit.checkpoints import checkpoint_bytes
from polkit.cost import Cost
from polkit.defences import PRESETS, Standards, load_standards
from polkit.reading import ProofError, bytes_digest, parse_facts, read_plain
from polkit.task import Task
from polkit.training import PARTS, Checkpoint
from polkit.weights import read_weights

FORMAT, FORMAT_VERSION = "polkit-challenge", 1
TEXT_BYTES = 2**16  # of challenge.json and kept.json; ours have 1 kB
ALGORITHM_2 = "algorithm-2"
VERIFIERS = (ALGORITHM_2, *PRESETS)
SEEDED = ("recommended", "all")  # the presets that hold a folder against the seed that it commits to
FIELDS = {"format": str, "format_version": int, "title": str, "task": dict, "defences": str, "top_q": (int, str),
          "parts": list, "honest_cost": dict, "files": dict}  # fmt: skip
KEPT_FIELDS = {"format": str, "format_version": int, "challenge": str, "lots": int}
MOST = 1e30  # operations, seconds or bytes; the largest trainings of today take 1e26 operations


@dataclass(frozen=True)
class Challenge:
    """What everybody may know. defences: `algorithm-2`, or the preset that judges · top_q, parts: of Algorithm 2, which
    shows a student its verdict whoever judges · honest_cost: of the training, as its prover noted it · model: W_T,
    weights and buffers · digest: SHA-256 of challenge.json, which names the digests of the other files."""

    folder: Path
    title: str
    defences: str
    top_q: int | str
    parts: tuple[str, ...]
    honest_cost: Cost
    calibration: Calibration
    model: Checkpoint
    digest: str

    @property
    def task(self) -> Task:
        return self.calibration.task


@dataclass(frozen=True)
class Kept:
    """What nobody may know who hands in a folder. lots: seed of the verifier's draws (augmentation that it redraws,
    intervals by lot): whoever knows them forges those intervals alone · standards: of a preset; None for Algorithm 2.
    """

    lots: int
    standards: Standards | None


def kept_path(folder: Path) -> Path:
    return folder.with_name(folder.name + ".private")


def open_challenge(folder: str | Path) -> Challenge:
    """Raises ValueError, in one sentence, unless this is a published challenge with the files that it names."""
    folder = Path(folder)
    if not os.path.lexists(folder / "challenge.json"):
        raise ProofError(f"{folder} is not a challenge: it has no challenge.json")
    raw = read_plain(folder / "challenge.json", "challenge.json", TEXT_BYTES)
    facts = parse_facts(raw, "challenge.json", FIELDS, FORMAT, FORMAT_VERSION)
    if facts["defences"] not in VERIFIERS:
        raise ProofError(f"challenge.json: defences is {facts['defences']!r}, not one of {', '.join(VERIFIERS)}")
    if facts["top_q"] != "all" and not (type(facts["top_q"]) is int and facts["top_q"] >= 1):
        raise ProofError(f"challenge.json: top_q is {facts['top_q']!r}, neither a whole number from 1 up nor 'all'")
    if not facts["parts"] or any(part not in PARTS for part in facts["parts"]):
        raise ProofError(f"challenge.json: parts is {facts['parts']}, not some of {', '.join(PARTS)}")
    _check_file(folder, facts, "calibration.json", CALIBRATION_BYTES)
    calibration = load_calibration(folder / "calibration.json")
    if calibration.task.to_json() != facts["task"]:
        raise ProofError("challenge.json: its task is not that of calibration.json")
    _check_file(folder, facts, "model.safetensors", checkpoint_bytes(calibration.task))
    return Challenge(
        folder=folder, title=facts["title"], defences=facts["defences"], top_q=facts["top_q"],
        parts=tuple(facts["parts"]), honest_cost=checked_cost(facts["honest_cost"], "challenge.json"),
        calibration=calibration, model=read_weights(folder / "model.safetensors", calibration.task),
        digest=bytes_digest(raw)["sha256"],
    )  # fmt: skip


def open_kept(folder: str | Path, challenge: Challenge) -> Kept:
    """Raises ValueError, in one sentence, unless this is what was kept when this very challenge was made."""
    folder = Path(folder)
    if not os.path.lexists(folder / "kept.json"):
        raise ProofError(f"{folder} is not what `polkit challenge new` left for the lecturer: it has no kept.json")
    raw = read_plain(folder / "kept.json", "kept.json", TEXT_BYTES)
    facts = parse_facts(raw, "kept.json", KEPT_FIELDS, f"{FORMAT}-kept", FORMAT_VERSION)
    if facts["challenge"] != challenge.digest:
        raise ProofError(f"{folder} belongs to another challenge than {challenge.folder}")
    judged_by_preset = challenge.defences != ALGORITHM_2
    return Kept(facts["lots"], load_standards(folder / "standards.json") if judged_by_preset else None)


def checked_cost(values: object, name: str) -> Cost:
    """A cost that somebody noted, if it can be one: four finite numbers, with some operations, seconds and bytes.

    Nothing more is certain of it. A path can be written without one gradient, so that these may be 0.
    """
    meters = tuple(asdict(Cost()))
    if not isinstance(values, dict) or set(values) != set(meters):
        raise ProofError(f"{name}: a cost has the meters {', '.join(meters)} and no others")
    for meter, value in values.items():
        least = "0" if meter == "gradient_evaluations" else "more than 0"
        if type(value) not in (int, float) or not 0 <= value <= MOST or (least != "0" and value == 0):
            raise ProofError(f"{name}: {meter} is {value!r}, a number from {least} to {MOST:.0e} was expected")
    return Cost(**values)


def _check_file(folder: Path, facts: dict, name: str, limit: int) -> None:
    if facts["files"].get(name) != bytes_digest(read_plain(folder / name, name, limit)):
        raise ProofError(f"{name} is not the file that challenge.json names")
