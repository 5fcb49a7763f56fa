"""The notation table of appendix A: no chapter uses a symbol or a term before the chapter that explains it."""

import re

import nbformat
import pytest

from polkit.book.chapters import appendices, chapters

GREEK = {
    "δ": "delta",
    "η": "eta",
    "ζ": "zeta",
    "μ": "mu",
    "γ": "gamma",
    "σ": "sigma",
    "α": "alpha",
    "β": "beta",
    "λ": "lambda",
}


def prose(file):
    """A chapter's markdown before its exercises."""
    cells = [cell.source for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == "markdown"]
    last = next((number for number, text in enumerate(cells) if text.startswith("## Exercises")), len(cells))
    return "\n".join(cells[:last])


CHAPTERS = {int(file.stem[:2]): prose(file) for file in chapters()}
ROWS = re.findall(r"^\| (.+?) \| .+ \| (\d+) \|$", prose(appendices()[0]), flags=re.MULTILINE)


def uses(text, entry):
    """Whether a chapter's prose has this entry of the table's first column."""
    if entry in GREEK:
        return entry in text or re.search(rf"\\{GREEK[entry]}\b", text) is not None
    symbol = re.fullmatch(r"\$(.+)\$", entry)
    if not symbol:
        return entry.lower() in text.lower()
    if not re.fullmatch(r"[A-Za-z]'?", symbol[1]):
        return symbol[1] in text
    # A single letter: by itself in a formula, no part of a name and no index.
    alone = rf"(?<![\\A-Za-z_{{^]){symbol[1]}(?![A-Za-z'_(])"
    return any(re.search(alone, formula) for formula in re.findall(r"\$\$?[^$]+\$?\$", text))


def test_the_table_is_read():
    assert len(ROWS) > 50
    assert {int(number) for _, number in ROWS} <= set(CHAPTERS)


@pytest.mark.parametrize(("entry", "number"), ROWS)
def test_a_symbol_first_occurs_where_it_is_explained(entry, number):
    assert next((chapter for chapter, text in CHAPTERS.items() if uses(text, entry)), None) == int(number)


def test_the_test_of_symbols_can_fail():
    assert uses(r"with $\gamma$", "γ")
    assert uses("a Merkle root", "Merkle root")
    assert uses("$T'/k$", "$k$")
    assert not uses("$W_T$ and $T'$", "$T$")
    assert not uses("kernels", "$k$")
