"""Every table and figure of the paper: which runs each needs, how they are scheduled, and what came of them."""

from polkit.reproduce.batch import reproduce
from polkit.reproduce.claims import judged_claims
from polkit.reproduce.records import read_records, tidy_runs
from polkit.reproduce.runs import RESULTS, Run, planned_runs
from polkit.reproduce.summary import published, read_results, summarise

__all__ = [
    "RESULTS", "Run", "judged_claims", "planned_runs", "published", "read_records", "read_results", "reproduce",
    "summarise", "tidy_runs",
]  # fmt: skip
