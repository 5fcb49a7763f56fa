"""The three tables of README.md, made from published results and from nothing else."""

from pathlib import Path

import pandas as pd

from polkit.experiments.matrix import matrix_counts, repeats_of
from polkit.experiments.published import published, published_folder
from polkit.proof.storage import write_text_whole
from polkit.reproduce.summary import results_table

BEGIN, END = "<!-- {}: begin -->", "<!-- {}: end -->"


LENGTHS = (140,)


def matrix_table(cells: pd.DataFrame, costs: pd.DataFrame, task: str) -> str:
    """Markdown: a row per folder, its length and share of the proof's operations, and in how many repeats each of the
    verifiers, which are numbered, accepted it; below, their names."""
    shares, repeats = costs[costs["task"] == task].set_index("folder"), repeats_of(cells, task)
    counts = matrix_counts(cells, task)
    numbers = [str(number) for number in range(len(counts.columns))]
    head = ["folder", "T'", "operations", *numbers]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for folder, row in counts.iterrows():
        known = ["T", "1"]
        if folder in shares.index:
            spoof = shares.loc[folder]
            known = [f"{spoof['steps']:,.0f}", f"{spoof['floating_point_operations']:.3f}"]
        words = [str(accepted) if accepted else "–" for accepted in row]
        lines.append("| " + " | ".join([folder, *known, *words]) + " |")
    named = " · ".join(f"{number} {name}" for number, name in zip(numbers, counts.columns, strict=True))
    return "\n".join([*lines, "", f"In how many of {repeats} trainings each verifier accepted the folder: {named}."])


def speed_table(bench: pd.DataFrame) -> str:
    """Markdown: what `make bench` measured beside what it may be at most; rows of data/results/bench.csv."""
    lines = ["| what | measured | at most | holds |", "|---|---|---|---|"]
    for row in bench[bench["at_most"].notna()].sort_values(["unit", "what"]).itertuples():
        unit = " s" if row.unit == "seconds" else ""
        lines.append(
            f"| {row.what} | {row.value:.3g}{unit} | {row.at_most:.2f}{unit} | {'yes' if row.holds else 'no'} |"
        )
    return "\n".join(lines)


def tables() -> dict[str, str]:
    """Name of the place in README.md -> the table that stands there, from published results."""
    return {
        "results": results_table(published("digits/averages"), "digits", LENGTHS),
        "matrix": matrix_table(published("digits/matrix"), published("digits/matrix_costs"), "digits"),
        "speed": speed_table(published("bench")),
    }


def refresh(readme: Path, place: str, table: str) -> None:
    """Puts a table between its two marks in README.md. Raises ValueError if they are not there."""
    text, begin, end = readme.read_text(), BEGIN.format(place), END.format(place)
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"{readme} must have one line {begin!r} and one line {end!r} for the table to stand between")
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    write_text_whole(readme, f"{before}{begin}\n{table}\n{end}{after}")


def shown_in(readme: Path, place: str) -> str:
    """The table that README.md shows."""
    return readme.read_text().split(BEGIN.format(place))[1].split(END.format(place))[0].strip()


if __name__ == "__main__":
    for place, table in tables().items():
        refresh(published_folder().parents[1] / "README.md", place, table)
