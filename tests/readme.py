"""`python -m tests.readme` writes the table of README.md from the published results alone."""

from pathlib import Path

import pandas as pd

from polkit.book.figures.results import NAMES, chosen
from polkit.experiments.published import published, published_folder

BEGIN, END = "<!-- results: begin -->\n", "<!-- results: end -->"
# The columns: a name, the published averages, and T' of the spoofs that are shown. What `make trained_start` forged of
# twenty trainings stands in the place of the three of `strict`.
COLUMNS = {
    "`paper`": ("digits/averages_paper", 160),
    "where examples decide": ("examples/averages_paper", 1300),
    "`strict`": ("digits/averages", 200),
}


def cell(averages: pd.DataFrame, attack: str, length: int) -> str:
    """T', in how many trainings this attack's spoof was accepted, and what it cost; a dash if none was made."""
    made = {"experiment": "spoof", "task": "digits", "attack": attack}
    accepted = chosen(averages, "accepted.all", **made).sort_values("spoof_steps")
    accepted = accepted[:1] if attack == "borrowed_momentum" else accepted[accepted["spoof_steps"] == length]
    if accepted.empty:
        return "–"
    row, steps = accepted.iloc[0], int(accepted["spoof_steps"].iloc[0])
    share = chosen(averages, "share.floating_point_operations", **made, spoof_steps=steps)["mean"].iloc[0]
    return f"{steps:,}: {row['mean'] * row['repeats']:.0f} of {row['repeats']}, {share:.2f}"


def of_twenty(attack: str, trained_steps: int) -> pd.DataFrame:
    trials = published("digits/trained_start")
    return trials.query("attack == @attack and trained_steps == @trained_steps and resting_steps == 0")


def cell_of(trials: pd.DataFrame) -> str:
    share = trials["floating_point_operations"].mean()
    return f"{trials['spoof_steps'].iloc[0]:,}: {trials['accepted'].sum()} of {len(trials)}, {share:.2f}"


def table() -> str:
    known = [(published(name), length) for name, length in COLUMNS.values()]
    lines = [f"| spoof | {' | '.join(COLUMNS)} |", "|---" * (1 + len(COLUMNS)) + "|"]
    for attack, name in list(NAMES.items())[1:]:  # without Attack I, which no verifier accepts
        cells = [cell(averages, attack, length) for averages, length in known]
        if len(trials := of_twenty(attack, trained_steps=0)):
            cells[-1] = cell_of(trials)
        lines.append(f"| {' | '.join([name, *cells])} |")
    return "\n".join(lines)


def refresh(readme: Path, shown: str) -> None:
    """Puts a table between the two marks in README.md. Raises ValueError if they are not there."""
    text = readme.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{readme} must have one line {BEGIN.strip()!r} and one line {END!r} around the table")
    before, rest = text.split(BEGIN)
    readme.write_text(f"{before}{BEGIN}{shown}\n{END}{rest.split(END)[1]}", encoding="utf-8")


def shown_in(readme: Path) -> str:
    """The table that README.md shows."""
    return readme.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0].strip()


if __name__ == "__main__":
    root = published_folder().parents[1]
    refresh(root / "README.md", table())
