"""Every table and figure of the paper: which runs each needs, how they are scheduled, and what came of them."""

from polkit.reproduce.batch import reproduce
from polkit.reproduce.claims import judged_claims
from polkit.reproduce.records import read_records, tidy_runs
from polkit.reproduce.runs import RESULTS, Run, planned_runs
from polkit.reproduce.summary import summarise
