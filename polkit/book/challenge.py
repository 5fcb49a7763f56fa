"""The scores of a challenge: one row for whatever was handed in, as CSV and as a table."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import shutil
import stat
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from safetensors.torch import save

from polkit.defences import PRESETS, Dispute, Finding, Standards, ends_at, load_standards, rule
from polkit.proof import (
    MANIFEST_BYTES,
    OPTIONAL_FILES,
    Proof,
    ProofError,
    bytes_digest,
    checkpoint_bytes,
    expected_files,
    file_digest,
    fresh_folder,
    made_alone,
    open_proof,
    parse_facts,
    parse_json,
    partial_path,
    read_plain,
    read_weights,
    record_path,
    seed_commitment,
    shown,
    sync,
    sync_all,
    write_text_whole,
    write_whole,
)
from polkit.training import NAMED_TASKS, PARTS, Checkpoint, Cost, Progress, Task, derive_seed, reported
from polkit.verifier import CALIBRATION_BYTES, Calibration, Reason, check_claims, load_calibration, verify

ACCEPTED, REJECTED, UNUSABLE, NOT_JUDGED = VERDICTS = ("accepted", "rejected", "not usable", "not judged")


FIRST_REASONS = 3
NUMBERS = {
    "steps": "T'",
    "share_of_steps": "of T",
    "stored_bytes": "bytes",
    "share_of_bytes": "of proof",
    "claimed_operations": "operations",
    "claimed_seconds": "seconds",
    "claimed_gradient_evaluations": "gradients",
    "claimed_bytes": "bytes claimed",
}


COLUMNS = ("rank", "team", "verdict", *NUMBERS, "reasons", "no_cost", "manifest_sha256")


ALGORITHM_2 = "algorithm-2"


@dataclass(frozen=True)
class Score:
    """team, reasons, no_cost: printable text · verdict: one of `VERDICTS`; the last is a failure of ours, not of the
    team · steps: T' · stored_bytes: as measured · cost: as the maker claims it, None if there is no claim that can be
    true, with why in no_cost · digest: SHA-256 of the manifest, alike for two teams who handed in the same."""

    team: str
    verdict: str
    reasons: tuple[str, ...] = ()
    steps: int | None = None
    stored_bytes: int | None = None
    cost: Cost | None = None
    no_cost: str = ""
    digest: str = ""


def score(
    challenge: Challenge,
    kept: Kept,
    submissions: str | Path,
    *,
    apart_from: Collection[str] = (),
    workers: int = 1,
    progress: Progress = False,
) -> list[Score]:
    """Judges everything that lies in a folder, from the disk, and ranks it. apart_from: names of files of one's own."""
    names = sorted(set(os.listdir(submissions)) - set(apart_from))
    found = reported(names, total=len(names), title="scoring", progress=progress)
    return ranked([score_one(challenge, kept, Path(submissions) / name, workers=workers) for name in found])


def score_one(challenge: Challenge, kept: Kept, place: Path, *, workers: int = 1) -> Score:
    """Never raises: one submission must not stop the others, whatever its team has thought of."""
    team = shown(place.name)
    try:
        check_team(place.name)
        folder = submitted_proof(place)
        seed = revealed_seed(place) if challenge.defences in SEEDED else None
        proof, judged = open_proof(folder), judge(challenge, kept, folder, seed, workers=workers)
        if not judged.usable:
            return Score(team, UNUSABLE, judged.reasons, digest=proof.digest)
        stored, cost, no_cost = measured_bytes(proof), None, ""
        try:
            cost = possible_cost(folder, stored)
        except ProofError as error:
            no_cost = str(error)
        verdict = ACCEPTED if judged.accepted else REJECTED
        return Score(team, verdict, judged.reasons, proof.steps, stored, cost, no_cost, proof.digest)
    except ProofError as error:
        return Score(team, UNUSABLE, (str(error),))
    except Exception as error:  # not foreseen, or a data set that is not here: said in the row and by the exit status
        return Score(team, NOT_JUDGED, (shown(f"{type(error).__name__}: {error}"),))


def possible_cost(folder: Path, stored_bytes: int) -> Cost:
    """What the maker claims, if it is not certainly false. Operations and seconds of a path of T' steps have no least
    value that a verifier could know; the bytes have, since they are there."""
    cost = claimed_cost(folder)
    if cost.stored_bytes < stored_bytes:
        raise ProofError(f"the record claims {cost.stored_bytes} bytes, the folder has {stored_bytes}")
    return cost


def ranked(scores: Sequence[Score]) -> list[Score]:
    """Accepted first; among equals who claims a cost, by operations, then by bytes on disk, then by name."""
    return sorted(
        scores,
        key=lambda one: (
            VERDICTS.index(one.verdict),
            one.cost is None,
            one.cost.floating_point_operations if one.cost else 0,
            math.inf if one.stored_bytes is None else one.stored_bytes,
            one.team,
        ),
    )


def rows(challenge: Challenge, scores: Sequence[Score]) -> list[dict[str, object]]:
    """One dict of `COLUMNS` per score, ranked; None where there is no value. Claims and share_of_bytes are shares of
    the honest proof's cost. A rank is only given to what was accepted."""
    found = []
    for number, one in enumerate(ranked(scores), 1):
        honest = challenge.honest_cost
        claimed = one.cost.relative_to(honest) if one.cost else dict.fromkeys(asdict(honest))
        found.append(
            {
                "rank": number if one.verdict == ACCEPTED else None,
                "team": one.team,
                "verdict": one.verdict,
                "steps": one.steps,
                "share_of_steps": None if one.steps is None else one.steps / challenge.task.steps,
                "stored_bytes": one.stored_bytes,
                "share_of_bytes": None if one.stored_bytes is None else one.stored_bytes / honest.stored_bytes,
                "claimed_operations": claimed["floating_point_operations"],
                "claimed_seconds": claimed["wall_seconds"],
                "claimed_gradient_evaluations": claimed["gradient_evaluations"],
                "claimed_bytes": claimed["stored_bytes"],
                "reasons": " | ".join(one.reasons[:FIRST_REASONS]),
                "no_cost": one.no_cost,
                "manifest_sha256": one.digest,
            }
        )
    return found


def scores_csv(challenge: Challenge, scores: Sequence[Score]) -> str:
    """`rows` as comma-separated text, in which no spreadsheet finds a formula."""
    written = io.StringIO()
    writer = csv.DictWriter(written, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows(challenge, scores):
        writer.writerow(
            {name: as_text(value) if isinstance(value, str) else _number(value) for name, value in row.items()}
        )
    return written.getvalue()


def as_text(text: str) -> str:
    """Text from elsewhere as a spreadsheet takes it for text: after an apostrophe if it begins as a formula would, also
    with a full-width sign, and without the semicolon at which some of them cut a line."""
    text = text.replace(";", ",")
    formula = unicodedata.normalize("NFKC", text.lstrip()[:1]) in tuple("=+-@")
    return f"'{text}" if formula else text


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def scores_text(challenge: Challenge, scores: Sequence[Score]) -> str:
    """The same for a terminal: what was accepted and what was not, then why not."""
    table = [["rank", "team", "verdict", *NUMBERS.values()]]
    table += [[_shown(row[name]) for name in ("rank", "team", "verdict", *NUMBERS)] for row in rows(challenge, scores)]
    notes = []
    for one in ranked(scores):
        more = f" (and {len(one.reasons) - 1} more)" if len(one.reasons) > 1 else ""
        notes += [f"{one.team}: {reason}{more}" for reason in one.reasons[:1]]
        notes += [f"{one.team}: {one.no_cost}"] if one.no_cost else []
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    left = ("team", "verdict")
    lines = [
        "  ".join(
            cell.ljust(width) if head in left else cell.rjust(width)
            for cell, width, head in zip(line, widths, table[0], strict=True)
        ).rstrip()
        for line in table
    ]
    legend = (
        "T' and bytes are measured. Operations, seconds, gradients and bytes claimed are what a team says of "
        "itself,\nas shares of the honest proof's."
    )
    return "\n".join([*lines, "", legend, *([""] if notes else []), *notes])


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if 1e-4 <= value < 1e4 else f"{value:.2e}"
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


# Of the folder itself: no proof of this task could look like that, whatever was computed for it.
UNUSABLE = frozenset({"unusable", "task", "missing", "extra", "digest", "malformed"})


@dataclass(frozen=True)
class Judgement:
    """usable: whether there was a proof of the challenge's task to judge at all · reasons: against it, each one line of
    printable text."""

    accepted: bool
    usable: bool
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        word = "accepted" if self.accepted else "rejected" if self.usable else "not a usable proof"
        more = [f"  and {len(self.reasons) - 8} more"] if len(self.reasons) > 8 else []
        return "\n".join([word, *(f"  {reason}" for reason in self.reasons[:8]), *more])


def preview(challenge: Challenge, folder: Path, *, seed: int = 0, workers: int = 1) -> Judgement:
    """Algorithm 2 at the challenge's Q, with all that is published; and W_T' must be the published model.

    Without that last demand ten honest steps towards another model would do. seed: of redrawn augmentation. As
    `verify`, it raises nothing on a bad proof but FileNotFoundError, if the data set that it claims is not here.
    """
    verdict = verify(
        folder, challenge.calibration, top_q=challenge.top_q, parts=challenge.parts, seed=seed, workers=workers
    )
    return _judgement(challenge, folder, verdict.accepted, verdict.usable, verdict.reasons)


def judge(challenge: Challenge, kept: Kept, folder: Path, revealed_seed: int | None, *, workers: int = 1) -> Judgement:
    """The challenge's own verifier, with the draws that its lecturer kept.

    revealed_seed: the one that the manifest commits to; without it the presets that ask for it judge nothing.
    """
    if challenge.defences == ALGORITHM_2:
        return preview(challenge, folder, seed=kept.lots, workers=workers)
    if challenge.defences in SEEDED and revealed_seed is None:
        return Judgement(False, False, (f"seed: {challenge.defences} wants the seed that the manifest commits to",))
    # The paper's preset does not look at the seed.
    dispute = Dispute(challenge.model, 0 if revealed_seed is None else revealed_seed, kept.lots)
    ruling = rule(challenge.defences, folder, challenge.calibration, kept.standards, dispute, workers=workers)
    return _judgement(challenge, folder, ruling.accepted, ruling.usable, ruling.findings)


def _judgement(
    challenge: Challenge, folder: Path, accepted: bool, usable: bool, against: tuple[Reason | Finding, ...]
) -> Judgement:
    if accepted:
        against = tuple(ends_at(open_proof(folder), challenge.model))
    usable = usable and not any(isinstance(each, Reason) and each.kind in UNUSABLE for each in against)
    return Judgement(not against, usable, tuple(shown(str(each)) for each in against))


def make_challenge(
    proof: Proof,
    calibration: Calibration,
    out: str | Path,
    *,
    lots: int,
    title: str = "",
    defences: str = ALGORITHM_2,
    top_q: int | str = 1,
    parts: Sequence[str] = PARTS,
    standards: Standards | None = None,
    revealed_seed: int | None = None,
    workers: int = 1,
) -> Challenge:
    """Writes `out`, to be published, and `out`.private, to be kept, from an honest proof.

    Of the proof itself only W_T and the prover's note of its cost are published. lots: as in `Kept` · standards: of a
    preset · revealed_seed: of the honest proof, for the presets that ask for one; it is written nowhere. The honest
    proof is judged first, as a folder that is handed in will be. Raises ValueError if it is not accepted, or was made
    for another task than the calibration; FileExistsError if one of the two folders exists.
    """
    folder = Path(os.path.abspath(out))
    kept = kept_path(folder)
    with made_alone(folder):
        check_possible(proof, folder, defences, revealed_seed)
        if (standards is None) != (defences == ALGORITHM_2):
            raise ValueError(f"{defences} {'needs' if standards is None else 'has no'} standards")
        mine, theirs = (task.without_place().to_json() for task in (calibration.task, proof.task))
        if odd := [name for name in mine if mine[name] != theirs[name]]:
            raise ValueError(f"the calibration is for another task than that of {proof.folder}: their {odd[0]} differs")
        public, private = partial_path(folder), partial_path(kept)
        try:
            _write_public(fresh_folder(folder), folder.name, proof, calibration, title, defences, top_q, parts)
            fresh_folder(kept).chmod(0o700)
            _write_private(private, public, lots, standards)
            challenge = open_challenge(public)
            judged = judge(challenge, open_kept(private, challenge), proof.folder, revealed_seed, workers=workers)
            if not judged.accepted:
                raise ValueError(f"the verifier of this challenge does not accept {proof.folder} ({judged.reasons[0]})")
            os.replace(private, kept)  # first: a challenge without it can never be scored
            os.replace(public, folder)
            sync(folder.parent)
        finally:
            for left in (public, private):
                shutil.rmtree(left, ignore_errors=True)
    return replace(challenge, folder=folder)


def check_possible(proof: Proof, folder: Path, defences: str, revealed_seed: int | None) -> None:
    """What can be said before minutes are spent on a calibration; raises as `make_challenge`."""
    if defences not in VERIFIERS:
        raise ValueError(f"there is no verifier {defences!r}; the verifiers are {', '.join(VERIFIERS)}")
    if defences in SEEDED and revealed_seed is None:
        raise ValueError(f"{defences} asks for the seed of a proof, and so for that of the honest one")
    for place in (folder, kept_path(folder)):
        if os.path.lexists(place):
            raise FileExistsError(f"{place} exists already: choose another folder for the challenge, or remove it")
    checked_cost(asdict(proof.cost()), "the record of the proof")


def _write_public(
    public: Path,
    name: str,
    proof: Proof,
    calibration: Calibration,
    title: str,
    defences: str,
    top_q: int | str,
    parts: Sequence[str],
) -> None:
    task = calibration.task.without_place()
    final = proof.final_weights()
    tensors = {f"{part}.{key}": value for part in PARTS for key, value in final.parts()[part].items()}
    write_whole(public / "model.safetensors", save(tensors), durable=False)
    replace(calibration, task=task).save(public / "calibration.json")
    files = {name: file_digest(public / name) for name in ("model.safetensors", "calibration.json")}
    facts = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "title": title or f"Spoof a training of {task.name}",
        "task": task.to_json(),
        "defences": defences,
        "top_q": top_q,
        "parts": list(parts),
        "honest_cost": asdict(proof.cost()),
        "files": files,
    }
    write_text_whole(public / "challenge.json", json.dumps(facts, indent=1, allow_nan=False))
    write_text_whole(public / "README.md", instructions(open_challenge(public), name))
    sync_all(public)


def _write_private(private: Path, public: Path, lots: int, standards: Standards | None) -> None:
    belongs_to = file_digest(public / "challenge.json")["sha256"]
    facts = {"format": f"{FORMAT}-kept", "format_version": FORMAT_VERSION, "challenge": belongs_to, "lots": lots}
    write_text_whole(private / "kept.json", json.dumps(facts, indent=1))
    if standards is not None:
        standards.save(private / "standards.json")
    sync_all(private)


def instructions(challenge: Challenge, name: str) -> str:
    """README.md of the published folder, which is to be called `name`: Markdown for students."""
    task, cost, seeded = challenge.task, challenge.honest_cost, challenge.defences in SEEDED
    compared = " and ".join(challenge.parts)
    algorithm = f"Algorithm 2 at Q = {challenge.top_q}, which compares {compared} under `calibration.json`"
    if challenge.defences == ALGORITHM_2:
        judged = f"{algorithm}.\nThe seed of its draws stays with the lecturer."
    else:
        judged = (
            f"polkit's preset `{challenge.defences}`; its limits, and the seed of its draws, stay with the "
            f"lecturer.\nWhat `submit` shows is not its ruling, but that of {algorithm}."
        )
    seed = " --seed 1" if seeded else ""
    given = "\n`--seed` is the one that you gave `polkit spoof` or `polkit prove` (1 and 0 by default)."
    return f"""# {shown(challenge.title)}

Hand in a folder that claims to be a training of the model in `model.safetensors` and is accepted as one, for less than
that training cost. The task is {task.name}: T = {task.steps:,}, k = {task.checkpoint_interval}. The training took \
{cost.floating_point_operations:.3g} operations,
{cost.gradient_evaluations:,.0f} gradient evaluations and {cost.wall_seconds:.3g} seconds; its proof has \
{cost.stored_bytes:,} bytes.

The verifier is {judged}
The last checkpoint must be the model, to the last bit.

From the folder in which `{name}` lies:

```
{_spoof_line(task, name)}polkit challenge submit {name} forged --name TEAM --out submissions{seed}
```

A team's name has letters, digits, - and _. `submit` says how the folder is judged and writes `submissions/TEAM`, which
is what you hand in.{given if seeded else ""}

For a spoof of your own, in Python:

```python
import json
import polkit as pk

with open("{name}/challenge.json") as file:
    task = pk.Task.from_json(json.load(file)["task"])
model = pk.read_weights("{name}/model.safetensors", task)
calibration = pk.load_calibration("{name}/calibration.json")
```

Accepted folders come first, ordered by the operations that the record beside the folder names. That is its maker's own
claim; T' and the bytes on disk are measured, and stand beside it.
"""


def _spoof_line(task: Task, name: str) -> str:
    """The command that forges a proof of this very task, if options can name it."""
    named = NAMED_TASKS.get(task.data)
    plain = named and named.replace(epochs=task.epochs, checkpoint_interval=task.checkpoint_interval)
    if plain != task:
        return ""
    options = "".join(
        f" --{option.replace('_', '-')} {getattr(task, option)}"
        for option in ("epochs", "checkpoint_interval")
        if getattr(task, option) != getattr(named, option)
    )
    steps = min(14, task.steps // task.checkpoint_interval) * task.checkpoint_interval
    return (
        f"polkit spoof --attack interpolation --task {task.name}{options} \\\n"
        f"  --weights {name}/model.safetensors --spoof-steps {steps} --out forged\n"
    )


FORMAT, FORMAT_VERSION = "polkit-challenge", 1


TEXT_BYTES = 2**16  # of challenge.json and kept.json; ours have 1 kB


VERIFIERS = (ALGORITHM_2, *PRESETS)
SEEDED = ("recommended", "all")  # the presets that hold a folder against the seed that it commits to
FIELDS = {
    "format": str,
    "format_version": int,
    "title": str,
    "task": dict,
    "defences": str,
    "top_q": (int, str),
    "parts": list,
    "honest_cost": dict,
    "files": dict,
}


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
        folder=folder,
        title=facts["title"],
        defences=facts["defences"],
        top_q=facts["top_q"],
        parts=tuple(facts["parts"]),
        honest_cost=checked_cost(facts["honest_cost"], "challenge.json"),
        calibration=calibration,
        model=read_weights(folder / "model.safetensors", calibration.task),
        digest=bytes_digest(raw)["sha256"],
    )


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


PROOF, SEED = "proof", "seed.json"


TEAM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")  # no path, no option, no formula of a spreadsheet
RECORD_BYTES = 16 * 2**20  # of a record as an attack leaves it, with a row for each batch
SEED_BYTES = 1024
LARGEST_SEED = 10**40


def check_team(name: str) -> None:
    if not TEAM.fullmatch(name):
        raise ProofError(f"{name!r} is no team's name: it has 1 to 40 of A-Z a-z 0-9 _ - and begins with none of _ -")


def hand_in(
    challenge: Challenge,
    folder: str | Path,
    team: str,
    submissions: str | Path,
    *,
    seed: int | None = None,
    workers: int = 1,
) -> tuple[Path, Judgement, str]:
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
