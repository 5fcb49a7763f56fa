"""A folder that a team hands in: TEAM/proof, its record of cost and its seed beside it. Written here, and read here."""

import json
import os
import re
import shutil
import stat
from dataclasses import asdict, replace
from pathlib import Path

from polkit.challenge.judging import Judgement, preview
from polkit.challenge.published import SEEDED, Challenge, checked_cost
from polkit.cost import Cost
from polkit.data import derive_seed
from polkit.inspection import check_claims
from polkit.places import fresh_folder, partial_path
from polkit.proof import (
    MANIFEST_BYTES,
    OPTIONAL_FILES,
    Proof,
    expected_files,
    open_proof,
    record_path,
    seed_commitment,
)
from polkit.reading import ProofError, parse_json, read_plain
from polkit.whole import made_alone, sync, sync_all, write_text_whole, write_whole

PROOF, SEED = "proof", "seed.json"
TEAM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")  # no path, no option, no formula of a spreadsheet
RECORD_BYTES = 16 * 2**20  # of a record as an attack leaves it, with a row for each batch
SEED_BYTES = 1024
LARGEST_SEED = 10**40


def check_team(name: str) -> None:
    if not TEAM.fullmatch(name):
        raise ProofError(f"{name!r} is no team's name: it has 1 to 40 of A-Z a-z 0-9 _ - and begins with none of _ -")


def hand_in(challenge: Challenge, folder: str | Path, team: str, submissions: str | Path, *, seed: int | None = None,
            workers: int = 1) -> tuple[Path, Judgement, str]:  # fmt: skip
    """Copies the known files of a proof, and nothing else that lies there, to `submissions`/TEAM, whole or not at all.

    seed: as it was given to `prove`, `spoof` or `seal`. Returns the place, what Algorithm 2 says of the copy, and why
    no cost went along (empty if one did). Raises ProofError, in one sentence, if this is no proof of the challenge's
    task; FileExistsError if the team has handed in a folder before.
    """
    check_team(team)
    proof, place = open_proof(os.path.abspath(folder)), Path(os.path.abspath(submissions)) / team
    if wrong := check_claims(proof, challenge.task):
        raise ProofError(f"{proof.folder.name} is no proof of this challenge's task ({wrong[0].detail})")
    if seed is None and challenge.defences in SEEDED:
        raise ProofError(f"{challenge.defences} judges this challenge: give the seed that the folder was made with")
    committed = None if seed is None else committed_seed(proof, seed)
    with made_alone(place):
        if os.path.lexists(place):
            raise FileExistsError(f"{place} exists already: take another name, or remove what was handed in before")
        partial = partial_path(place)
        try:
            copy = fresh_folder(place) / PROOF
            _copy_known(proof, challenge, copy)
            judged = preview(challenge, copy, workers=workers)
            if not judged.usable:
                raise ProofError(f"{proof.folder.name} is not usable: {judged.reasons[0]}")
            missing = _write_cost(proof, copy)
            if committed is not None:
                write_text_whole(partial / SEED, json.dumps({"revealed_seed": committed}))
            sync_all(partial)
            os.replace(partial, place)
            sync(place.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return place, judged, missing


def committed_seed(proof: Proof, seed: int) -> int:
    """The seed that the manifest commits to: this one, or what an adversary of polkit's draws from it."""
    for tried in (seed, derive_seed(seed, "adversary")):
        if abs(tried) <= LARGEST_SEED and proof.manifest["seed_commitment"] == seed_commitment(tried):
            return tried
    raise ProofError(f"{proof.folder.name} was not made with the seed {seed}: its manifest commits to another one")


def _copy_known(proof: Proof, challenge: Challenge, copy: Path) -> None:
    if (proof.folder / "checkpoints").is_symlink():
        raise ProofError("checkpoints is a link, not a folder")
    optional = {name for name in OPTIONAL_FILES if os.path.lexists(proof.folder / name)}
    limits = {name: proof.size_limit(name, challenge.task) for name in sorted(expected_files(proof) | optional)}
    for name, limit in {**limits, "manifest.json": MANIFEST_BYTES}.items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(copy / name, read_plain(proof.folder / name, name, limit), durable=False)


def _write_cost(proof: Proof, copy: Path) -> str:
    """The record beside the copy, of the cost alone and with the bytes that the copy has; or why there is none."""
    try:
        cost = replace(claimed_cost(proof.folder), stored_bytes=measured_bytes(open_proof(copy)))
    except ProofError as error:
        return str(error)
    write_text_whole(record_path(copy), json.dumps({"cost": asdict(cost), "counts": {}, "trace": [], "missed": ""}))
    return ""


def claimed_cost(folder: Path) -> Cost:
    """What the maker of a proof noted beside it. Raises ProofError if there is no note, or none that can be true."""
    file = record_path(folder)
    note = parse_json(read_plain(file, file.name, RECORD_BYTES), file.name)
    if not isinstance(note, dict) or "cost" not in note:
        raise ProofError(f"{file.name} is not the note that a maker leaves: it names no cost")
    return checked_cost(note["cost"], file.name)


def revealed_seed(place: Path) -> int | None:
    """The seed that a team has handed in, or None. Raises ProofError if its file holds something else."""
    if not os.path.lexists(place / SEED):
        return None
    values = parse_json(read_plain(place / SEED, SEED, SEED_BYTES), SEED)
    seed = values.get("revealed_seed") if isinstance(values, dict) and len(values) == 1 else None
    if type(seed) is not int or abs(seed) > LARGEST_SEED:
        raise ProofError(f'{SEED} must be {{"revealed_seed": N}}, N a whole number of at most 40 digits')
    return seed


def submitted_proof(place: Path) -> Path:
    """TEAM/proof, if neither it nor TEAM leads elsewhere: what is judged is what was handed in."""
    for folder, name in ((place, "the submission"), (place / PROOF, PROOF)):
        if not os.path.lexists(folder) or not stat.S_ISDIR(os.lstat(folder).st_mode):
            raise ProofError(f"{name} is missing, or not a folder")
    return place / PROOF


def measured_bytes(proof: Proof) -> int:
    """What the known files of a proof have on the disk; of a usable one these are all."""
    names = (proof.folder / name for name in {*expected_files(proof), *OPTIONAL_FILES, "manifest.json"})
    found = [os.lstat(file) for file in names if os.path.lexists(file)]
    return sum(each.st_size for each in found if stat.S_ISREG(each.st_mode))
