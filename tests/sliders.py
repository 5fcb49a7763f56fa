"""`python -m tests.sliders` writes the table of panels and sliders in 00_start_here.ipynb from the stored chapters."""

from collections.abc import Iterator
from pathlib import Path

import nbformat

from polkit.book.chapters import GUIDE, STILL_TYPE, appendices, chapters, shown_data
from polkit.experiments.published import find_notebooks

CELL = "sliders"  # its id
SYMBOLS = ("δ", "k", "T'", "Q")
TEXT = """## Which panel has which slider

The four sliders that the chapters share stand in one order and have one meaning. **δ (×)** multiplies the calibrated
threshold, from 0.03 to 10. **k** counts steps, **T'** the steps of a spoof, and **Q** the intervals that a verifier
replays in each epoch. (Chapter 1's T'/k counts pieces, and chapter 10 has a δ for each stage, from 0.0001.) **Reset**
puts all of a panel's sliders back. The arrow keys move a slider that has the focus.

"""


def stored_panels(file: Path) -> Iterator[dict]:
    """What a stored chapter keeps of each panel."""
    for data in shown_data(nbformat.read(file, as_version=4)):
        if "panel" in data.get(STILL_TYPE, {}):
            yield data[STILL_TYPE]


def symbol(label: str) -> str:
    """The symbol that a slider's label begins with."""
    return label.partition(" ")[0].rstrip(",").removesuffix("/k")


def table() -> str:
    """A row for each panel: its chapter, its title, which of the four it has, and its other controls."""
    lines = [f"| chapter | panel | {' | '.join(SYMBOLS)} | besides |", "|---" * (3 + len(SYMBOLS)) + "|"]
    for file in chapters() + appendices():
        number = file.stem.partition("_")[0].lstrip("0")
        link = f"[{number}]({file.relative_to(find_notebooks()).as_posix()})"
        for still in stored_panels(file):
            labels = [control["label"] for control in still["controls"]]
            has = ["yes" if name in map(symbol, labels) else "" for name in SYMBOLS]
            others = ", ".join(label for label in labels if symbol(label) not in SYMBOLS)
            title = still["figure"]["layout"]["title"]["text"].replace("|", "\\|")
            lines.append(f"| {' | '.join([link, title, *has, others])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    file = find_notebooks() / GUIDE
    guide = nbformat.read(file, as_version=4)
    (cell,) = [cell for cell in guide.cells if cell.id == CELL]
    cell.source = TEXT + table()
    nbformat.write(guide, file)
