"""A spoofing challenge for a course: publish a model, hand in spoofs of its training, judge and rank them.

CHALLENGE/         published: challenge.json, calibration.json, model.safetensors, README.md for students
SUBMISSIONS/TEAM/  handed in: proof/, claims.json (what the team says of its cost, and the seed that it reveals)
"""

import json
import os
import re
import secrets
import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd
from safetensors.torch import save

from polkit.book.report import in_parts
from polkit.defences import Dispute, Standards, ends_at
from polkit.defences.presets import judge as judge_by_preset
from polkit.proof import Proof, ProofError, open_proof, read_weights, shown
from polkit.proof.folder import seed_commitment
from polkit.proof.storage import write_whole
from polkit.proof.untrusted import parse_facts, read_plain
from polkit.training import PARTS, Checkpoint, Cost, Progress, derive_seed, is_debris, reported
from polkit.verifier import Calibration, Verdict, load_calibration, verify
from polkit.verifier.inspection import check_claims, check_files, replayed_task

ALGORITHM_2 = "algorithm-2"  # who judges, if no preset does
ACCEPTED, REJECTED, UNUSABLE = VERDICTS = ("accepted", "rejected", "not usable")
TEAM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")  # no path, no option, no formula of a spreadsheet
FACTS_BYTES = 2**16
LARGEST = 1e30  # of a meter; the largest trainings of today take 1e26 operations
METERS = {meter: (int, float) for meter in asdict(Cost())}
FIELDS = {  # of each JSON file, with the types that a value may have
    "challenge": {"defences": str, "top_q": (int, str), **METERS},
    "claims": {"revealed_seed": (int, type(None)), **METERS},
}
CLAIMED = {meter: f"claimed_{meter}" for meter in METERS if meter != "stored_bytes"}
COLUMNS = ["team", "verdict", "steps", "stored_bytes", *CLAIMED.values(), "reasons", "manifest_sha256"]


@dataclass(frozen=True)
class Challenge:
    """What is published of an honest proof."""

    folder: Path
    defences: str  # ALGORITHM_2, or the preset that judges
    top_q: int | str  # Q of Algorithm 2
    honest_cost: Cost  # of the training, as its prover noted it
    calibration: Calibration
    model: Checkpoint  # W_T, its weights and buffers


def make_challenge(
    proof: Proof,
    calibration: Calibration,
    out: str | Path,
    *,
    defences: str = ALGORITHM_2,
    top_q: int | str = 1,
    standards: Standards | None = None,
    revealed_seed: int | None = None,
) -> None:
    """Writes the folder to publish, with nothing of the honest proof but its last checkpoint and its cost.

    standards, revealed_seed: for a preset; the lecturer keeps both.

    Raises ValueError if the challenge's own verifier rejects the proof, FileExistsError if the folder exists.
    """
    folder = Path(out).absolute()
    calibration = replace(calibration, task=calibration.task.without_place())
    challenge = Challenge(folder, defences, top_q, proof.cost(), calibration, proof.final_weights())
    if os.path.lexists(folder):
        raise FileExistsError(f"{folder} exists already: choose another folder for the challenge, or remove it")
    verdict = judge(challenge, proof.folder, revealed_seed, standards)
    if not verdict.accepted:
        raise ValueError(f"the verifier of this challenge does not accept {proof.folder} ({verdict.reasons[0]})")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as unfinished:
        made = Path(unfinished, folder.name)
        made.mkdir()
        calibration.save(made / "calibration.json")
        tensors = {f"{part}.{name}": value for part in PARTS for name, value in challenge.model.parts()[part].items()}
        write_whole(made / "model.safetensors", save(tensors))
        (made / "README.md").write_text(instructions(challenge), encoding="utf-8")
        write_facts(made / "challenge.json", defences=defences, top_q=top_q, **asdict(challenge.honest_cost))
        os.replace(made, folder)


def open_challenge(folder: str | Path) -> Challenge:
    """Raises ValueError, in one sentence, if a file of the published folder is missing or malformed."""
    folder = Path(folder).absolute()
    facts, calibration = read_facts(folder / "challenge.json"), load_calibration(folder / "calibration.json")
    model = read_weights(folder / "model.safetensors", calibration.task)
    return Challenge(folder, facts["defences"], facts["top_q"], cost_of(facts), calibration, model)


def judge(
    challenge: Challenge,
    folder: Path,
    revealed_seed: int | None,
    standards: Standards | None = None,
    seed: int | None = None,
    workers: int = 1,
) -> Verdict:
    """The verdict of the one verifier, for which the last checkpoint must also be the published model.

    revealed_seed: the prover's, for a preset.
    seed: of the verifier's draws; None draws one, since an adversary who knew it would forge only what is replayed.
    """
    seed = secrets.randbits(63) if seed is None else seed
    if challenge.defences == ALGORITHM_2:
        verdict = verify(folder, challenge.calibration, top_q=challenge.top_q, seed=seed, workers=workers)
    elif standards is None:
        raise ValueError(f"{challenge.defences} needs the standards that `polkit calibrate --standards` wrote")
    elif revealed_seed is None:
        raise ProofError(f"{challenge.defences} needs the seed that the manifest commits to")
    else:
        known = challenge.calibration, standards, Dispute(challenge.model, revealed_seed, seed)
        verdict = judge_by_preset(challenge.defences, folder, *known, workers=workers)
    reasons = ends_at(open_proof(folder), challenge.model) if verdict.accepted else verdict.reasons
    return replace(verdict, accepted=not reasons, reasons=tuple(reasons))


def hand_in(challenge: Challenge, proof: Proof, place: Path, *, seed: int | None = None) -> None:
    """Copies a proof to a place, SUBMISSIONS/TEAM, with what its maker noted of its cost; whole, or not at all.

    seed: as it was given to `prove` or `spoof`, for a preset.

    Raises ProofError if it is no proof of the task and model (only `score` replays it), FileExistsError at a second.
    """
    check_team(place.name)
    if os.path.lexists(place):
        raise FileExistsError(f"{place} exists already: take another name, or remove what was handed in before")
    known, model = challenge.calibration, challenge.model
    decided = known.regime.prover_decides if challenge.defences == ALGORITHM_2 else ()
    task = replayed_task(proof, known.task, decided)
    if wrong := check_claims(proof, task) or check_files(proof, task) or ends_at(proof, model):
        raise ProofError(f"{proof.folder} cannot be handed in: {wrong[0]}")
    tried = [] if seed is None else [seed, derive_seed(seed, "adversary")]  # `polkit spoof` draws one of its own
    revealed = next((one for one in tried if seed_commitment(one) == proof.manifest["seed_commitment"]), None)
    if revealed is None and challenge.defences != ALGORITHM_2:
        raise ProofError(f"{challenge.defences} judges this challenge: give the seed that {proof.folder} was made with")
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as unfinished:
        copy = Path(unfinished, place.name)
        shutil.copytree(proof.folder, copy / "proof", ignore=lambda _, names: list(filter(is_debris, names)))
        write_facts(copy / "claims.json", revealed_seed=revealed, **asdict(proof.cost()))
        cost_of(read_facts(copy / "claims.json"))
        os.replace(copy, place)


def check_team(name: str) -> None:
    if not TEAM.fullmatch(name):
        raise ProofError(f"{name!r} is no team's name: it has 1 to 40 of A-Z a-z 0-9 _ - and begins with none of _ -")


def score(challenge: Challenge, submissions: Path, progress: Progress = False, **judging) -> pd.DataFrame:
    """A row for whatever lies in a folder: a rank and COLUMNS. The accepted come first, by the operations that they
    claim, as a share of the honest proof's, then by steps and bytes. judging: the standards, seed, workers of `judge`.
    """
    names = sorted(name for name in os.listdir(submissions) if not is_debris(name))
    found = reported(names, total=len(names), title="scoring", progress=progress)
    table = pd.DataFrame([score_one(challenge, submissions / name, **judging) for name in found], columns=COLUMNS)
    table["verdict"] = pd.Categorical(table["verdict"], VERDICTS, ordered=True)
    by = ["verdict", CLAIMED["floating_point_operations"], "steps", "stored_bytes", "team"]
    table = table.sort_values(by, ignore_index=True)
    table.insert(0, "rank", pd.Series(table.index + 1).where(table["verdict"] == ACCEPTED))
    return table.convert_dtypes()


def score_one(challenge: Challenge, place: Path, **judging) -> dict[str, object]:
    """The row of whatever lies at a place: one submission must not stop the others, and no text begins a formula."""
    team = place.name if TEAM.fullmatch(place.name) else shown(ascii(place.name))
    folder = place / "proof"
    try:
        check_team(place.name)
        if place.is_symlink() or folder.is_symlink():
            raise ProofError("the submission is a link, or its proof is one")
        claims, proof = read_facts(place / "claims.json"), open_proof(folder)
        shares = cost_of(claims).relative_to(challenge.honest_cost)
        verdict = judge(challenge, folder, claims["revealed_seed"], **judging)
    except (ProofError, OSError) as error:  # OSError: it claims a data set that is not on this machine
        return {"team": team, "verdict": UNUSABLE, "reasons": shown(f"unusable: {error}")}
    row = {"team": team, "manifest_sha256": proof.digest}
    if not verdict.accepted:
        reasons = " | ".join(shown(str(reason)) for reason in verdict.reasons[:3])
        return row | {"verdict": REJECTED if verdict.usable else UNUSABLE, "reasons": reasons}
    files = [file for file in folder.rglob("*") if file.is_file() and not is_debris(file.relative_to(folder))]
    stored_bytes = sum(file.stat().st_size for file in files)
    claimed = {column: shares[meter] for meter, column in CLAIMED.items()}
    return row | claimed | {"verdict": ACCEPTED, "steps": proof.steps, "stored_bytes": stored_bytes, "reasons": ""}


def scores_text(table: pd.DataFrame) -> str:
    """For a terminal: the table, then what is against those that were not accepted."""
    numbers = table.drop(columns=["reasons", "manifest_sha256"]).set_index("team").rename_axis(None)
    told = [in_parts(numbers, na_rep="–", float_format="{:.4g}".format)]
    told.append("\nSteps and bytes are measured. A claim is a team's own word, as a share of the honest proof's cost.")
    return "\n".join(told + [f"{row.team}: {row.reasons}" for row in table.itertuples() if row.reasons])


def write_facts(file: Path, **facts: object) -> None:
    facts |= {"format": f"polkit-{file.stem}", "format_version": 1}
    file.write_text(json.dumps(facts, indent=1), encoding="utf-8")


def read_facts(file: Path) -> dict:
    """What `write_facts` wrote. Raises ProofError, in one sentence, if the file holds anything else."""
    fields = {"format": str, "format_version": int, **FIELDS[file.stem]}
    return parse_facts(read_plain(file, str(file), FACTS_BYTES), str(file), fields, f"polkit-{file.stem}", 1)


def cost_of(facts: dict) -> Cost:
    """Raises ProofError if no proof can have cost that; a path can be written without one gradient."""
    for meter in METERS:
        if not 0 <= facts[meter] <= LARGEST or (facts[meter] == 0 and meter != "gradient_evaluations"):
            raise ProofError(f"{meter} is {facts[meter]!r}, a number above 0 and up to {LARGEST:.0e} was expected")
    return Cost(**{meter: facts[meter] for meter in METERS})


def instructions(challenge: Challenge) -> str:
    """README.md of the published folder, for students."""
    task, cost, name = challenge.calibration.task, challenge.honest_cost, challenge.folder.name
    place = " --task folder:PATH" if task.data.startswith("folder:") else ""
    preset, by_q = f"the preset {challenge.defences}", f"Algorithm 2 at Q = {challenge.top_q}"
    verifier = by_q if challenge.defences == ALGORITHM_2 else preset
    return f"""# Spoof a training of {task.name}

Hand in a folder that claims to be a training of the model in `model.safetensors` and is accepted as one, for less than
that training cost: {cost.floating_point_operations:.3g} operations, {cost.wall_seconds:.3g} seconds, \
{cost.stored_bytes:,} bytes, with T = {task.steps}
and k = {task.checkpoint_interval}. The verifier is {verifier}; the last checkpoint must be the model, to the last bit.

    polkit spoof --attack 2 --spoof-steps {task.checkpoint_interval} --seed 1 --weights {name}/model.safetensors \\
      --calibration {name}/calibration.json{place} --keep-failed --out forged
    polkit verify forged --calibration {name}/calibration.json --top-q all
    polkit-challenge submit {name} forged --name TEAM --out submissions --seed 1

`submit` writes `submissions/TEAM`, which is what you hand in. Accepted folders are ranked by the operations that you
note beside your folder. That is your own claim; steps and bytes are measured, and stand beside it.
"""
