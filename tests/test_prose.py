"""Numbers in the chapters' prose: each stands in its notebook's outputs or code, or in a file that is named."""

import re

import nbformat
import pytest

from polkit.book.chapters import appendices, chapters
from polkit.experiments.published import published_folder

ROOT = published_folder().parents[1]
SHOWN = ("text/plain", "text/markdown", "text/html")
NUMBER = r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?"


def numbers(text):
    return {float(found.replace(",", "")) for found in re.findall(NUMBER, text)}


def computed(notebook):
    """The numbers in a notebook's code and outputs."""
    found = set()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            said = [cell.source]
            for output in cell.outputs:
                said += [output.get("text", ""), *(output.get("data", {}).get(kind, "") for kind in SHOWN)]
            found |= numbers(re.sub(r"<style.*?</style>", "", "\n".join(said), flags=re.DOTALL))
    return found


# Formulas, code, tags, headings, numbers of a list, minutes, the chapters in a table of terms, years, and references.
NOT_MEASURED = (
    r"\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|<[^>]+>|^#.*?$|^\d+\. |\*\*Minutes\*\*[^\n]*|\| \d+ \|$|\b20[12]\d\b|"
    r"\b(?:chapter|exercise|figure|table|section|algorithm|line|stage|step|attack|corollary)s?\s+\[?\d[\d.]*\]?"
    r"(?:(?:[-–]|, and |, or |, | and | or | to )\[?\d[\d.]*\]?)*"
)


def typed(paragraph):
    """The numbers that a paragraph states, as they are written."""
    words = re.sub(r"\]\([^)]*\)", "]", paragraph)
    words = re.sub(NOT_MEASURED, "", words, flags=re.DOTALL | re.MULTILINE | re.IGNORECASE)
    return [found.rstrip(",") for found in re.findall(r"(?<![\w.,-])\d[\d,]*(?:\.\d+)?", words)]


def named(paragraph):
    """The numbers in the files of data/ that a paragraph names."""
    files = [ROOT / name for name in re.findall(r"`(data/[\w./-]+\.\w+)`", paragraph)]
    texts = [file.read_text(encoding="utf-8") for file in files]
    return set().union(*(numbers(text) | numbers(text.replace(",", " ")) for text in texts))


def is_among(written, known):
    """Whether a number that was computed, or a hundred times it (a percentage), is written so when it is rounded."""
    value, digits = float(written.replace(",", "")), len(written.partition(".")[2])
    return any(round(each * scale, digits) == value for each in known for scale in (1, 100))


@pytest.mark.parametrize("file", chapters() + appendices(), ids=lambda file: file.stem)
def test_every_number_in_prose_is_computed_or_its_file_is_named(file):
    notebook = nbformat.read(file, as_version=4)
    known, strangers = computed(notebook), []
    for cell in notebook.cells:
        if cell.source.startswith("## Exercises"):
            break
        if cell.cell_type == "markdown":
            for paragraph in cell.source.split("\n\n"):
                here = known | named(paragraph)
                strangers += [number for number in typed(paragraph) if not is_among(number, here)]
    assert strangers == []


def test_the_test_of_prose_can_fail():
    assert typed("errs by 0.45 δ, `x = 1.5`, $k = 2.5$, [3.5](a), 12 times") == ["0.45", "3.5", "12"]
    assert typed("## 7 · In 2022\n1. See [chapter 3](03.ipynb), Figures 2, 5 and 8 and stage 2 of 4") == ["4"]
    assert is_among("0.45", {0.4512})
    assert is_among("45.1", {0.4512})
    assert not is_among("0.46", {0.4512})
    assert is_among("45", {0.4512})
    assert not is_among("46", {0.4512})
    assert numbers("1,234.5 of 7") == {1234.5, 7.0}
