"""What a chapter found, as tables that a person reads and that `polkit book` collects."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape

import pandas as pd

from polkit.proof import Proof
from polkit.training import DISTANCES, Cost
from polkit.verifier import Verdict

REPORT_TYPE = "application/vnd.polkit.report+json"
METERS = dict(zip(asdict(Cost()), ("gradients", "operations", "seconds", "bytes"), strict=True))  # in short


@dataclass(frozen=True)
class Claim:
    claim: str  # what is said
    paper: str  # where in the paper, or which value there
    here: str  # what was measured
    holds: bool  # whether it did here


@dataclass(frozen=True)
class Report:
    """A table that shows itself in a notebook and leaves its rows in the executed copy."""

    kind: str  # `claims` or `outcomes`
    rows: tuple[dict, ...]  # with the same keys

    def held(self) -> str:
        """Each claim and whether it holds, without a measured number: what must not change from run to run."""
        return "\n".join(f"{'yes' if row['holds'] else 'NO':3}  {row['claim']}" for row in self.rows)

    def __str__(self) -> str:
        table, missed = self._table()
        return "\n".join([table.to_string(index=False), *missed])

    def _table(self) -> tuple[pd.DataFrame, list[str]]:
        """The rows in short, and below them, since a cell has no room for it, what each adversary missed."""
        table = shown(self.kind, pd.DataFrame(self.rows)).drop(columns="missed", errors="ignore")
        return table, [f"{row['folder']}: {row['missed']}." for row in self.rows if row.get("missed")]

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        table, missed = self._table()
        return {
            "text/plain": str(self),
            "text/html": table.to_html(index=False, border=0) + "".join(f"<p>{escape(each)}</p>" for each in missed),
            # A notebook file sorts the keys of an object, so the columns' order goes along.
            REPORT_TYPE: {"kind": self.kind, "columns": list(self.rows[0]), "rows": list(self.rows)},
        }


def claims(rows: Sequence[Claim]) -> Report:
    """The table that ends a chapter: claim · paper · here · holds."""
    return Report("claims", tuple(asdict(row) | {"holds": bool(row.holds)} for row in rows))


def outcomes(judged: Mapping[str, tuple[Proof, Verdict]], proof_cost: Cost) -> Report:
    """One row per judged folder: verdict, largest normalised error in each distance, cost relative to the proof.

    An error is empty where the verifier never came to replay an interval. missed: what the adversary did not reach
    """
    rows = []
    for name, (proof, verdict) in judged.items():
        errors = verdict.largest_errors()
        row = {"folder": name, "steps": proof.steps, "verdict": "accepted" if verdict.accepted else "rejected"}
        row |= {distance: errors.get(distance) for distance in DISTANCES}
        rows.append(row | proof.cost().relative_to(proof_cost) | {"missed": proof.missed().partition(";")[0]})
    return Report("outcomes", tuple(rows))


def shown(kind: str, frame: pd.DataFrame) -> pd.DataFrame:
    """The same table with numbers rounded for reading and `holds` in words."""
    if kind == "claims":
        return frame.assign(holds=["yes" if held else "NO" for held in frame["holds"]])
    numbers = {name: "{:.4f}" for name in DISTANCES} | {meter: "{:.3f}" for meter in METERS}
    rounded = {
        name: ["–" if pd.isna(value) else style.format(value) for value in frame[name]]
        for name, style in numbers.items()
    }
    return frame.assign(**rounded).rename(columns=METERS)


def in_parts(table: pd.DataFrame, **how) -> str:
    """A table as text; on a terminal that is too narrow in parts below each other, each with the index."""
    return table.to_string(line_width=shutil.get_terminal_size((10**4, 24)).columns, **how)
