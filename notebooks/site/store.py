"""`python -m notebooks.site.store CHAPTER …`: runs chapters and keeps their outputs, for readers without a kernel.

Figures get a picture each, and panels every figure that their sliders call up on the site. Without names all chapters
and appendices are run, one after the other, so that none disturbs the seconds that another measures. Solutions and
experiments are given as files: `python -m notebooks.site.store notebooks/solutions/*.ipynb`.
"""

import base64
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nbformat
import plotly.graph_objects as go
import plotly.io as pio
from PIL import Image

from polkit.book.chapters import chosen, execute_chapter, plot_in, shown_data
from polkit.proof import write_whole

ROOT = Path(__file__).resolve().parents[2]
# The first line of each kernel.
DRAW_ALL = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from notebooks.site.store import draw_all; draw_all()"


def draw_all() -> None:
    """Has each panel of this process keep all its figures beside the first."""
    from notebooks.site.frames import frames
    from polkit.book.panels.parts import Panel

    Panel.still = frames


def store(file: Path) -> str:
    """Runs a chapter, whose outputs then stand in it; what ended it before that, or ""."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, file.name)
        seconds, problem = execute_chapter(file, copy, {}, DRAW_ALL)
        if problem:
            return problem
        notebook = nbformat.read(copy, as_version=4)
    for notes in (notebook.metadata, *(cell.metadata for cell in notebook.cells)):
        notes.pop("papermill", None)
        notes.pop("execution", None)
    add_pictures([data for data in shown_data(notebook) if plot_in(data)])
    write_whole(file, nbformat.writes(notebook) + "\n")
    print(f"{file.stem:24} {seconds:6.1f} s", flush=True)
    return ""


def add_pictures(figures: Sequence[dict]) -> None:
    """Adds a PNG to each figure's output, for views that run nothing.

    Needs a Chrome or Chromium; without one a static view has the sentence under the figure alone.
    """
    if not figures or not find_browser():
        return
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"{number}.png") for number in range(len(figures))]
        plots = [go.Figure(plot_in(data)) for data in figures]
        heights = [plot.layout.height or 450 for plot in plots]  # a figure's own is not taken where a width is given
        pio.write_images(plots, files, width=820, height=heights, scale=1.3)
        for data, file in zip(figures, files, strict=True):
            Image.open(file).convert("RGB").quantize(256).save(file, optimize=True)  # a third of the bytes
            data["image/png"] = base64.b64encode(file.read_bytes()).decode()


def find_browser() -> str | None:
    """The Chrome or Chromium that draws pictures of figures."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return os.environ.get("BROWSER_PATH") or next(filter(None, map(shutil.which, names)), None)


def main(names: Sequence[str]) -> int:
    """How many of these files, and of the chapters whose name contains one of these, failed; they stay as they were."""
    if not find_browser():
        print("no Chrome or Chromium is found, without which the chapters would lose their pictures", file=sys.stderr)
        return 1
    files = [Path(name).resolve() for name in names if name.endswith(".ipynb")]
    words = [name for name in names if not name.endswith(".ipynb")]
    files += chosen(words) if words or not files else []
    failed = {file: problem for file in files if (problem := store(file))}
    for file, problem in failed.items():
        print(f"{file.stem:24} FAILED: {problem}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
