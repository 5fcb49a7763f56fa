"""`python -m tests.readme` writes the table of README.md from the published results, and from nothing else."""

from pathlib import Path

from polkit.experiments.published import published, published_folder
from polkit.reproduce.summary import results_table

BEGIN, END = "<!-- results: begin -->\n", "<!-- results: end -->"
LENGTHS = (140,)  # T' of the spoofs that are shown


def table() -> str:
    return results_table(published("digits/averages"), "digits", LENGTHS)


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
    refresh(published_folder().parents[1] / "README.md", table())
