"""The scores of a challenge: one row for whatever was handed in, as CSV and as a table."""

import csv
import io
import math
import os
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from polkit.challenge.judging import judge
from polkit.challenge.published import SEEDED, Challenge, Kept
from polkit.challenge.submission import check_team, claimed_cost, measured_bytes, revealed_seed, submitted_proof
from polkit.cost import Cost
from polkit.progress import Progress, reported
from polkit.proof import open_proof
from polkit.reading import ProofError, shown

ACCEPTED, REJECTED, UNUSABLE, NOT_JUDGED = VERDICTS = ("accepted", "rejected", "not usable", "not judged")
FIRST_REASONS = 3
NUMBERS = {"steps": "T'", "share_of_steps": "of T", "stored_bytes": "bytes", "share_of_bytes": "of proof",
           "claimed_operations": "operations", "claimed_seconds": "seconds",
           "claimed_gradient_evaluations": "gradients", "claimed_bytes": "bytes claimed"}  # fmt: skip
COLUMNS = ("rank", "team", "verdict", *NUMBERS, "reasons", "no_cost", "manifest_sha256")


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


def score(challenge: Challenge, kept: Kept, submissions: str | Path, *, apart_from: Collection[str] = (),
          workers: int = 1, progress: Progress = False) -> list[Score]:  # fmt: skip
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
    return sorted(scores, key=lambda one: (
        VERDICTS.index(one.verdict), one.cost is None, one.cost.floating_point_operations if one.cost else 0,
        math.inf if one.stored_bytes is None else one.stored_bytes, one.team,
    ))  # fmt: skip


def rows(challenge: Challenge, scores: Sequence[Score]) -> list[dict[str, object]]:
    """One dict of `COLUMNS` per score, ranked; None where there is no value. Claims and share_of_bytes are shares of
    the honest proof's cost. A rank is only given to what was accepted."""
    found = []
    for number, one in enumerate(ranked(scores), 1):
        honest = challenge.honest_cost
        claimed = one.cost.relative_to(honest) if one.cost else dict.fromkeys(asdict(honest))
        found.append({
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
        })  # fmt: skip
    return found


def scores_csv(challenge: Challenge, scores: Sequence[Score]) -> str:
    """`rows` as comma-separated text, in which no spreadsheet finds a formula."""
    written = io.StringIO()
    writer = csv.DictWriter(written, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows(challenge, scores):
        writer.writerow({name: as_text(value) if isinstance(value, str) else _number(value)
                         for name, value in row.items()})  # fmt: skip
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
    lines = ["  ".join(cell.ljust(width) if head in left else cell.rjust(width)
                       for cell, width, head in zip(line, widths, table[0], strict=True)).rstrip()
             for line in table]  # fmt: skip
    legend = ("T' and bytes are measured. Operations, seconds, gradients and bytes claimed are what a team says of "
              "itself,\nas shares of the honest proof's.")  # fmt: skip
    return "\n".join([*lines, "", legend, *([""] if notes else []), *notes])


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if 1e-4 <= value < 1e4 else f"{value:.2e}"
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
