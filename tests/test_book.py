"""The chapters as they are stored, and the runner that executes them."""

import ast
import gc
import json
import re
import sys
from dataclasses import asdict
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from jupyter_client.kernelspec import NoSuchKernel
from nbclient.exceptions import DeadKernelError
from PIL import Image

import polkit as pk
import polkit.book.chapters as book
from polkit.book.report import REPORT_TYPE, Claim, Report, claims
from tests.batches import notebook_parameters

CHAPTERS = book.chapters()
PAGES = CHAPTERS + book.appendices()


def notebook(*cells, parameters="steps = 3  # T"):
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    made = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    first = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    made.cells = [first, *map(nbformat.v4.new_code_cell, cells)]
    return made


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    claiming = "import polkit as pk\npk.claims([pk.Claim('T', 'paper', str(steps), steps == 5)])"
    nbformat.write(notebook(claiming), folder / "01_sound.ipynb")
    nbformat.write(notebook("raise RuntimeError('on purpose')", parameters="rate = 0.5"), folder / "02_broken.ipynb")
    monkeypatch.setattr(book, "find_notebooks", lambda: folder)
    return folder


@pytest.fixture
def collecting():
    """jupyter_core leaves the event loop of each thread open, for the collector to find."""
    yield
    gc.collect()


# Jupyter's own packages warn while a kernel starts; what they warn of differs between their releases.
@pytest.mark.usefixtures("collecting")
@pytest.mark.filterwarnings("default")
def test_a_failed_chapter_is_reported_and_the_others_run(shelf, tmp_path, capsys):
    assert book.run_book(tmp_path / "out", given={"steps": "5"}) == 1
    printed = capsys.readouterr().out
    assert "02_broken                FAILED: RuntimeError: on purpose" in printed
    assert "1 of 2 chapters" in printed
    found = book.collected([tmp_path / "out" / "01_sound.ipynb"], "claims")
    assert found.to_dict("records") == [{"chapter": "01", "claim": "T", "paper": "paper", "here": "5", "holds": True}]
    assert re.search(r"01  yes  T\n\s+paper: paper · here: 5", printed)


@pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux alone")
@pytest.mark.usefixtures("collecting")
@pytest.mark.filterwarnings("default")
def test_forked_kernels_have_their_imports_and_share_nothing_else(shelf, tmp_path, capsys):
    looks = "import sys\nassert 'torch' in sys.modules and 'left' not in sys.modules\nsys.modules['left'] = None"
    looks += "\nimport pandas\nassert pandas.get_option('display.max_columns') == 20"  # as in a kernel of its own
    asks = "import tempfile\nfolder = tempfile.TemporaryDirectory()\nprint(folder.name, workers)"
    for name, cells in {"01_sound": [looks, asks], "02_broken": [looks], "03_dead": ["import os\nos._exit(3)"]}.items():
        nbformat.write(notebook(*cells, parameters="workers = 2"), shelf / f"{name}.ipynb")
    assert book.run_book(tmp_path / "out") == 1
    assert "03_dead                  FAILED: DeadKernelError" in capsys.readouterr().out
    (printed,) = nbformat.read(tmp_path / "out/01_sound.ipynb", as_version=4).cells[-1].outputs
    folder, workers = printed.text.split()
    assert not Path(folder).exists()  # what is to be done at exit was done
    assert workers == "1"  # of two chapters side by side each has one core


def test_copies_do_not_take_the_place_of_the_chapters(shelf):
    """A copy is removed before its chapter runs: that would be the chapter itself."""
    before = {file.name: file.read_bytes() for file in shelf.iterdir()}
    with pytest.raises(ValueError, match="holds the chapters themselves: choose another folder for the copies"):
        book.run_book(shelf / ".." / shelf.name)
    assert {file.name: file.read_bytes() for file in shelf.iterdir()} == before


def test_parameters_are_checked_before_anything_runs(shelf):
    files = book.chapters()
    assert book.checked_parameters(files, {"rate": "2"}) == {files[0]: {}, files[1]: {"rate": 2.0}}
    with pytest.raises(ValueError, match=r"'stepps'; did you mean steps\? The parameters are rate, steps"):
        book.checked_parameters(files, {"stepps": "2"})
    with pytest.raises(ValueError, match="no chapter has a parameter 'colour'; the parameters are rate, steps"):
        book.checked_parameters(files, {"colour": "2"})
    assert [file.stem for file in book.chosen(["broken"])] == ["02_broken"]


def test_an_interrupt_leaves_no_copy_that_is_half_written(shelf, tmp_path, monkeypatch):
    def interrupted(file, copy, *arguments, **settings):
        Path(copy).write_text('{"cells": [')
        raise KeyboardInterrupt

    monkeypatch.setattr(book.papermill, "execute_notebook", interrupted)
    with pytest.raises(KeyboardInterrupt):
        book.execute_chapter(shelf / "01_sound.ipynb", tmp_path / "copy.ipynb", {})
    assert not (tmp_path / "copy.ipynb").exists()


@pytest.mark.parametrize(
    "error", [DeadKernelError("Kernel died"), NoSuchKernel("python3"), RuntimeError("no reply"), TimeoutError("60 s")]
)
def test_a_dead_or_missing_kernel_is_a_failed_chapter(error, shelf, tmp_path, capsys, monkeypatch):
    def execute(file, copy, *arguments, **settings):
        if "broken" in file:
            raise error
        nbformat.write(notebook(), copy)

    monkeypatch.setattr(book.papermill, "execute_notebook", execute)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/02_broken.ipynb").write_text("of an earlier run")
    assert book.run_book(tmp_path / "out") == 1
    assert not (tmp_path / "out/02_broken.ipynb").exists()
    printed = capsys.readouterr().out
    assert f"02_broken                FAILED: {type(error).__name__}: {error}" in printed
    assert "1 of 2 chapters" in printed


def test_the_outcomes_fit_an_80_column_terminal_and_each_part_names_its_folders(tmp_path, capsys, monkeypatch):
    row = {"folder": "interpolation only", "steps": 140, "verdict": "accepted", "missed": ""}
    row |= dict.fromkeys((*pk.DISTANCES, *asdict(pk.Cost())), 0.1)
    monkeypatch.setattr(
        book, "collected", lambda _, kind: pd.DataFrame([row | {"chapter": "06"}] * (kind == "outcomes"))
    )
    monkeypatch.setenv("COLUMNS", "80")
    book.print_summary([])
    told = capsys.readouterr().out.splitlines()
    assert max(map(len, told)) <= 80
    assert len([line for line in told if line.startswith("interpolation only")]) > 1


def test_a_book_without_chapters_is_no_success(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(book, "find_notebooks", lambda: tmp_path)
    with pytest.raises(FileNotFoundError, match="has no chapters: run `polkit book` in a checkout of polkit"):
        book.run_book(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_expression_among_the_parameters_stops_only_what_needs_it(shelf):
    nbformat.write(notebook(parameters="length = 14 * 10  # T'\nsteps = 3  # T"), shelf / "03_reckoned.ipynb")
    *_, reckoned = files = book.chapters()
    assert book.checked_parameters(files, {}) == {file: {} for file in files}
    assert book.checked_parameters(files, {"steps": "5"})[reckoned] == {"steps": 5}
    for needing in (lambda: book.checked_parameters(files, {"length": "20"}), lambda: notebook_parameters(reckoned)):
        with pytest.raises(ValueError, match=r"the parameter length of 03_reckoned is '14 \* 10' there: its cell must"):
            needing()


@pytest.mark.parametrize(
    ("text", "default", "value"), [("80", 10, 80), ("0.1", 1.0, 0.1), ("True", False, True), ("cuda", "cpu", "cuda")]
)
def test_a_value_takes_its_defaults_type(text, default, value):
    assert book.typed("name", text, default) == value


@pytest.mark.parametrize(("text", "default"), [("8.5", 10), ("true", 10), ("1", False), ("x", 1.0), ("[1]", 2)])
def test_a_value_of_another_type_is_refused(text, default):
    with pytest.raises(ValueError, match="the parameter name is of type"):
        book.typed("name", text, default)


def test_a_report_shows_itself_and_leaves_its_rows():
    bundle = claims([Claim("it holds", "II", "0.5", True), Claim("it does not", "III", "0", False)])._repr_mimebundle_()
    assert "NO" in bundle["text/plain"]
    assert "<table" in bundle["text/html"]
    assert bundle[REPORT_TYPE]["columns"] == ["claim", "paper", "here", "holds"]
    assert [row["holds"] for row in bundle[REPORT_TYPE]["rows"]] == [True, False]


def test_what_an_adversary_missed_stands_below_the_table():
    row = {"folder": "Attack I", "steps": 140, "verdict": "rejected", "missed": "it misses W_T by 2 < 10 δ"}
    row |= dict.fromkeys((*pk.DISTANCES, *asdict(pk.Cost())), 0.1)
    bundle = Report("outcomes", (row, row | {"folder": "other", "missed": ""}))._repr_mimebundle_()
    assert bundle["text/plain"].splitlines()[-1] == "Attack I: it misses W_T by 2 < 10 δ."
    assert bundle["text/html"].endswith("</table><p>Attack I: it misses W_T by 2 &lt; 10 δ.</p>")
    assert "operations seconds bytes" in " ".join(bundle["text/plain"].splitlines()[0].split())


def tiny_cifar(folder, images=136):
    """Files in the form of CIFAR-10's binary version: random pixels, every class."""
    place = folder / "cifar-10-batches-bin"
    place.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name, count in (*((f"data_batch_{n}.bin", images // 5 + 1) for n in range(1, 6)), ("test_batch.bin", 20)):
        records = generator.integers(0, 256, (count, 3073), dtype=np.uint8)
        records[:, 0] %= 10
        records.tofile(place / name)


def tiny_folder(folder, images=64):
    for split, count in (("train", images), ("test", 2)):
        for label in ("cat", "dog"):
            place = folder / split / label
            place.mkdir(parents=True)
            for number in range(count):
                pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")


TINY = {"train_size": "128", "epochs": "4", "checkpoint_interval": "1", "spoof_steps": "1", "workers": "2"}
TRAINING = {"train_size"}  # what a notebook that trains has among its parameters; the others show published runs
HALVED = {"10_countermeasures": {"train_size": "256"}}  # trains on halves too, of which each must fill a batch


# Random pixels teach nothing, and what a chapter claims need not hold; it must run, with every figure and panel.
def run_on_tiny(folder, chapter, task):
    """Runs one chapter; what it judged, with its steps."""
    (file,) = [file for file in PAGES if chapter in file.stem]
    known = notebook_parameters(file)
    tiny = TINY | HALVED.get(file.stem, {}) | {"task": task, "seed": "3"}
    given = {name: value for name, value in tiny.items() if name in known}
    assert book.run_book(folder / "out", [file.stem], given=given) == 0
    executed = folder / "out" / file.name
    stored = nbformat.read(executed, as_version=4)
    assert "widgets" not in stored.metadata
    streams = [output.text for cell in stored.cells for output in cell.get("outputs", []) if "text" in output]
    assert not any("\r" in text for text in streams), "a progress bar left its track"
    rows = book.collected([executed], "outcomes")
    return {row["folder"]: row["steps"] for row in rows.to_dict("records")}


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("chapter", [file.stem for file in PAGES if TRAINING & set(notebook_parameters(file))])
@pytest.mark.parametrize("kind", ["cifar10", "folder"])
def test_every_chapter_takes_every_task(tmp_path, monkeypatch, kind, chapter):
    tiny_cifar(tmp_path / "data", images=272 if chapter in HALVED else 136)
    tiny_folder(tmp_path / "images", images=128 if chapter in HALVED else 64)
    monkeypatch.setenv("POLKIT_DATA", str(tmp_path / "data"))
    judged = run_on_tiny(tmp_path, chapter, "cifar10" if kind == "cifar10" else f"folder:{tmp_path / 'images'}")
    if chapter == "06_attack_2":
        assert judged == {"Attack II": 1, "interpolation only": 1}


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_chapter_on_results_says_whose_runs_it_shows_where_a_task_has_not_all(tmp_path):
    assert book.run_book(tmp_path, ["09_results"], given={"task": "fashion"}) == 0
    stored = nbformat.read(tmp_path / "09_results.ipynb", as_version=4)
    streams = "".join(output.text for cell in stored.cells for output in cell.get("outputs", []) if "text" in output)
    assert "no runs of fashion in both regimes are published: this chapter shows those of digits" in streams


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.stem)
def test_a_stored_notebook_is_clean(file):
    stored = nbformat.read(file, as_version=4)
    nbformat.validate(stored)
    text = file.read_text()
    assert "widgets" not in stored.metadata
    assert "papermill" not in stored.metadata
    assert not re.search(r"/(home|root|Users|work|tmp)/", text)
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not any(
        output.output_type in ("error", "stream") and output.get("name") != "stdout"
        for cell in code
        for output in cell.outputs
    )
    assert file.stat().st_size < 1_500_000
    assert "application/vnd.jupyter.widget-view+json" not in text, "a panel without its kernel is an error message"
    for cell in code:
        # pandas gives a styled table other ids in each run, so that no second run could have the same output.
        assert "nbval-check-output" not in cell.metadata.get("tags", []) or 'id="T_' not in str(cell.outputs)
        assert len(ast.unparse(ast.parse(cell.source)).splitlines()) <= 20, "as many lines as ruff may break further"


@pytest.mark.parametrize("file", CHAPTERS, ids=lambda file: file.stem)
def test_a_stored_chapter_ends_in_its_claims(file):
    code = [cell for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == "code"]
    found, checked = [cell for cell in code if "nbgrader" not in cell.metadata][-2:]
    assert any(REPORT_TYPE in output.get("data", {}) for output in found.outputs), "it ends in a claims table"
    assert (checked.source, checked.metadata.get("tags")) == ("print(found.held())", ["nbval-check-output"])
    # A reader sees the table; the code that fills it is folded, on the site and in JupyterLab.
    assert "hide-input" in found.metadata["tags"]
    assert found.metadata["jupyter"] == {"source_hidden": True}


@pytest.mark.parametrize("file", CHAPTERS, ids=lambda file: file.stem)
def test_a_chapter_is_read_in_twenty_minutes(file):
    """At most 2,500 words and 30 code cells before its exercises."""
    cells = nbformat.read(file, as_version=4).cells
    cells = cells[: next(n for n, cell in enumerate(cells) if cell.source.startswith("## Exercises"))]
    assert sum(len(cell.source.split()) for cell in cells if cell.cell_type == "markdown") <= 2500
    assert sum(cell.cell_type == "code" for cell in cells) <= 30


def test_every_chapter_prepares_with_its_own_number_of_workers():
    calls = [
        (file.stem, call)
        for file in PAGES
        for cell in nbformat.read(file, as_version=4).cells
        for call in re.findall(r"pk\.prepare\([^)]*\)", cell.source if cell.cell_type == "code" else "")
    ]
    assert len(calls) > 10
    assert [call for call in calls if not call[1].endswith("workers=workers)")] == []


@pytest.mark.parametrize("file", CHAPTERS, ids=lambda file: file.stem)
def test_a_stored_chapter_reads_without_a_kernel(file):
    """Every figure has its sentence and a picture, every panel its words, and there is prose to read."""
    stored = nbformat.read(file, as_version=4)
    outputs = [output for cell in stored.cells for output in cell.get("outputs", [])]
    figures = [output.data for output in outputs if book.PLOTLY_TYPE in output.get("data", {})]
    assert figures
    assert all("image/png" in data and len(data["text/plain"]) > 60 for data in figures)
    said = [output.data.get("text/markdown", "") for output in outputs if "data" in output]
    assert sum(words.startswith("*In words:") for words in said) == len(figures)
    assert any(words.startswith("> ▶ A panel with sliders stands here") for words in said)
    prose = " ".join(cell.source for cell in stored.cells if cell.cell_type == "markdown")
    assert len(prose.split()) >= 500
    for heading in ("**Claim**", "**You need**", "**Minutes**", "## Claims", "## Exercises", "## What holds"):
        assert heading in prose, heading


@pytest.mark.parametrize("file", [*CHAPTERS[4:8], CHAPTERS[9]], ids=lambda file: file.stem)
def test_the_default_length_of_a_spoof_lies_between_k_and_t(file):
    """Chapters with few epochs too."""
    (cell,) = [cell for cell in nbformat.read(file, as_version=4).cells if "steps = spoof_steps or " in cell.source]
    chosen = "\n".join(line for line in cell.source.splitlines() if line.startswith(("k = ", "steps = ")))
    for epochs, k in [(0, 0), *((epochs, k) for epochs in (1, 2, 3, 4, 20) for k in (1, 4, 10, 11, 22))]:
        names = {"the_task": pk.task("digits", epochs=epochs, checkpoint_interval=k), "spoof_steps": 0}
        exec(chosen, names)
        assert 0 < names["the_task"].checkpoint_interval <= names["steps"] <= names["the_task"].steps
        assert names["steps"] % names["the_task"].checkpoint_interval == 0
        if not epochs:
            assert names["steps"] == (440 if file.stem == "05_attack_1" else 140)


@pytest.mark.parametrize("file", [*CHAPTERS[2:], *book.appendices()], ids=lambda file: file.stem)
def test_the_workers_that_a_reader_asks_for_prepare_the_chapter_too(file):
    """Fewer of them need less memory."""
    code = [cell.source for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == "code"]
    calls = [node for source in code for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    prepared = [node for node in calls if ast.unparse(node.func) == "pk.prepare"]
    given = [ast.unparse(word) for node in prepared for word in node.keywords if word.arg == "workers"]
    assert "workers" in notebook_parameters(file) or not prepared
    assert given == ["workers=workers"] * len(prepared)


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.stem)
def test_a_notebooks_parameters_are_plain_literals_with_help(file):
    cells = nbformat.read(file, as_version=4).cells
    found = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(found) == 1 if file in CHAPTERS else len(found) < 2
    if not found:
        return
    (cell,) = found
    for line in cell.source.splitlines():
        assert re.fullmatch(r"\w+ = .+  # .+", line), line
    parameters = notebook_parameters(file)
    assert parameters.get("task", "digits") == "digits"
    assert set(parameters) <= {
        "task",
        "seed",
        "epochs",
        "checkpoint_interval",
        "train_size",
        "regime",
        "device",
        "workers",
        "spoof_steps",
        "top_q",
        "threshold_scale",
    }


def test_the_stored_outcomes_are_those_the_issue_of_the_book_asks_for():
    """What the committed run says: the honest proof and Attacks II and III pass, Attack I does not."""
    rows = book.collected(CHAPTERS, "outcomes").drop_duplicates("folder").set_index("folder")
    assert rows["verdict"].drop("interpolation only").to_dict() == {
        "honest proof": "accepted",
        "Attack I": "rejected",
        "Attack I, fresh W_0": "rejected",
        "Attack II": "accepted",
        "Attack III": "accepted",
        "infinitesimal update": "rejected",
        "borrowed momentum": "accepted",
    }
    forged = rows.loc[["Attack II", "Attack III"]]
    assert (forged[["floating_point_operations", "wall_seconds"]] < 0.5).all(axis=None)
    assert (forged["stored_bytes"] < 1).all()
    assert json.loads(rows.to_json())["steps"]["honest proof"] == 4400
