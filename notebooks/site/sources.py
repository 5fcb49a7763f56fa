"""What Sphinx reads: the stored notebooks as they are, the guide as the first page, and a page of references."""

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat
from pybtex.database import parse_file

from notebooks.site.panels import with_panels
from polkit.book.chapters import GUIDE, appendices, chapters
from polkit.experiments.published import find_notebooks

BIBLIOGRAPHY = Path(__file__).with_name("references.bib")
REFERENCES = """# References

Sections, algorithms, tables and figures that a chapter cites without a name are those of
[Zhang et al. 2022](#zhang2022). The other numbers of the paper stand in `data/paper`, ours in `data/results`.
"""
# Above the first panel of the book on the front page.
INVITATION = """A model with two weights is trained (blue), and a proof of it is forged (orange). Move **T'/k** until
every forged piece is shorter than δ, the radius of the circles: then the verifier accepts."""
# On the page of a notebook that is kept without its outputs.
NOT_RUN = "*This page shows the notebook as it is kept: not run. Where it makes tables, they are in* `data/results`."
HELD = "print(found.held())"  # the claims once more, for the tests
# The page's own order is by author and year.
ENTRY = """
({key})=
```{{bibliography}}
:filter: key == "{key}"
:list: bullet
```
"""


@dataclass(frozen=True)
class Work:
    """A work that the book cites."""

    key: str  # of its entry in references.bib
    names: str  # how the chapters name it, the longest first, with | between

    def mention(self, text: str) -> re.Match | None:
        """The first place where a text names the work, with what a hyphen or an ending adds to the name."""
        either = re.escape(self.names).replace(r"\|", "|")
        return re.search(rf"(?<![\w-])({either})(?:(?<=\w)[\w-]+)?", text)


def works() -> list[Work]:
    """The works in references.bib, by author and year."""
    entries = parse_file(str(BIBLIOGRAPHY)).entries

    def order(key: str) -> tuple[str, str]:
        return entries[key].persons["author"][0].last_names[0], entries[key].fields["year"]

    return [Work(key, entries[key].fields["named"]) for key in sorted(entries, key=order)]


def prose(notebook: nbformat.NotebookNode) -> Iterator[str]:
    """The markdown of a notebook, cell by cell."""
    return (cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def page_of(file: Path) -> str:
    """A notebook's page in the site, without its ending."""
    return f"appendices/{file.stem}" if file.parent.name == "appendices" else file.stem


def number_of(page: str) -> str:
    """What the book calls a chapter or an appendix: 1, 12, A."""
    return page.rpartition("/")[2].partition("_")[0].lstrip("0")


def references(files: Sequence[Path]) -> str:
    """The page of references: every work, and the chapters and appendices that name it."""
    texts = {page_of(file): "\n".join(prose(nbformat.read(file, as_version=4))) for file in files}
    page = REFERENCES
    for work in works():
        page += ENTRY.format(key=work.key)
        naming = [f"[{number_of(name)}]({name}.ipynb)" for name, text in texts.items() if work.mention(text)]
        if naming:
            page += f"\nNamed in chapter{'s' if len(naming) > 1 else ''} {', '.join(naming)}.\n"
    return page


def contents(caption: str, pages: Sequence[str]) -> str:
    """A table of contents that shows in the margin alone."""
    return "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```"])


def first_panel() -> nbformat.NotebookNode:
    """The cell of the book's first panel, without its code."""
    cells = with_panels(nbformat.read(chapters()[0], as_version=4)).cells
    cell = next(cell for cell in cells if any("polkit-panel" in html for html in htmls(cell)))
    return nbformat.v4.new_code_cell(cell.source, outputs=cell.outputs, metadata={"tags": ["remove-input"]})


def htmls(cell: nbformat.NotebookNode) -> list[str]:
    return [output["data"].get("text/html", "") for output in cell.get("outputs", []) if "data" in output]


def lay_out(folder: Path) -> None:
    """Fills an empty folder with the site's sources. Raises FileNotFoundError if there is no guide."""
    notebooks, book = find_notebooks(), chapters() + appendices()
    experiments = sorted((notebooks / "experiments").glob("*.ipynb"))
    for name in ("appendices", "experiments"):
        (folder / name).mkdir()
    for file in book:
        chapter = with_panels(nbformat.read(file, as_version=4))
        chapter.cells = [cell for cell in chapter.cells if cell.source != HELD]
        nbformat.write(chapter, folder / f"{page_of(file)}.ipynb")
    for file in experiments:
        experiment = nbformat.read(file, as_version=4)
        if not any(cell.get("outputs") for cell in experiment.cells):
            experiment.cells.insert(1, nbformat.v4.new_markdown_cell(NOT_RUN))
        nbformat.write(experiment, folder / f"experiments/{file.name}")
    (folder / "references.md").write_text(references(book), encoding="utf-8")
    shutil.copy(BIBLIOGRAPHY, folder)

    guide = nbformat.read(notebooks / GUIDE, as_version=4)
    guide.cells[1:1] = [nbformat.v4.new_markdown_cell(INVITATION), first_panel()]
    tables = {
        "Chapters": [page_of(file) for file in chapters()],
        "Appendices": [page_of(file) for file in appendices()],
        "Beside them": ["references", *(f"experiments/{file.stem}" for file in experiments)],
    }
    shown = "\n\n".join(contents(caption, pages) for caption, pages in tables.items() if pages)
    guide.cells.append(nbformat.v4.new_markdown_cell(shown))
    nbformat.write(guide, folder / "index.ipynb")
