"""The results table of README.md, made from published results and from nothing else."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from polkit.checkpoints import write_text_whole
from polkit.distance import DISTANCES
from polkit.figures.results import NAMES, chosen
from polkit.reproduce.summary import published, read_results

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
LENGTHS = (140,)
ANY_LENGTH = ("attack_1", "borrowed_momentum")
METERS = ("floating_point_operations", "wall_seconds", "stored_bytes")


def results_table(averages: pd.DataFrame, task: str, lengths: Sequence[int]) -> str:
    """Markdown: the honest proof and each attack at these T' — verdicts, errors and costs, mean ± deviation."""
    head = ["folder", "T'", "accepted", "l1", "l2", "l∞", "cos", "operations", "seconds", "bytes"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]

    def cell(value: str, digits: int, **setting) -> str:
        rows = chosen(averages, value, task=task, **setting)
        if rows.empty:
            return ""
        mean, deviation = rows["mean"].iloc[0], rows["deviation"].iloc[0]
        return f"{mean:.{digits}f}" + (f" ± {deviation:.{digits}f}" if pd.notna(deviation) else "")

    def accepted(value: str, **setting) -> str:
        rows = chosen(averages, value, task=task, **setting)
        return f"{round(rows['mean'].iloc[0] * rows['repeats'].iloc[0])} of {rows['repeats'].iloc[0]}"

    honest = {"experiment": "honest"}
    thresholds = [cell(f"threshold.weights.{name}", 4, **honest) for name in DISTANCES]
    errors = [cell(f"weights.most.{name}", 4, **honest) for name in DISTANCES]
    lines.append("| " + " | ".join(["δ", "", "", *thresholds, "", "", ""]) + " |")
    lines.append(
        "| " + " | ".join(["honest proof", "T", accepted("accepted.most", **honest), *errors, "1", "1", "1"]) + " |"
    )
    made = averages[(averages["task"] == task) & (averages["experiment"] == "spoof")]
    for attack, name in NAMES.items():
        known = sorted(set(made.loc[made["attack"] == attack, "spoof_steps"]))
        for steps in known if attack in ANY_LENGTH else [length for length in known if length in lengths]:
            setting = {"experiment": "spoof", "attack": attack, "spoof_steps": steps}
            errors = [cell(f"weights.all.{distance}", 4, **setting) for distance in DISTANCES]
            costs = [cell(f"share.{meter}", 3, **setting) for meter in METERS]
            lines.append(
                "| " + " | ".join([name, f"{steps:,}", accepted("accepted.all", **setting), *errors, *costs]) + " |"
            )
    return "\n".join(lines)


def refresh(readme: Path, table: str) -> None:
    """Puts the table between the two marks in README.md. Raises ValueError if they are not there."""
    text = readme.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{readme} must have one line {BEGIN!r} and one line {END!r} for the table to stand between")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    write_text_whole(readme, f"{before}{BEGIN}\n{table}\n{END}{after}")


def shown_in(readme: Path) -> str:
    """The table that README.md shows."""
    return readme.read_text().split(BEGIN)[1].split(END)[0].strip()


if __name__ == "__main__":
    refresh(
        published().parents[2] / "README.md", results_table(read_results(published())["averages"], "digits", LENGTHS)
    )
