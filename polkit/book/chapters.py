"""The book, run headlessly: each chapter and appendix through papermill, then every claim and outcome in one table."""

import ast
import difflib
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import nbformat
import pandas as pd
import papermill
from joblib import Parallel, delayed
from papermill.exceptions import PapermillExecutionError

from polkit.book.panels.still import STILL_TYPE
from polkit.book.report import REPORT_TYPE, in_parts, shown
from polkit.experiments.published import GUIDE, find_notebooks
from polkit.proof import write_whole
from polkit.proof.storage import require_writable

KERNEL = {"kernel_name": "python3", "execution_timeout": 3600}  # seconds a cell may take
KERNEL |= {"extra_arguments": ["--log-level=50"]}  # the kernel's notes on its transport are not the book's
KERNEL |= {"progress_bar": False, "request_save_on_cell_execute": False}  # once at the end: figures are large
TURNS = ("02", "03"), ("01",), ("05", "06"), ("07", "10")
PLOTLY_TYPE = "application/vnd.plotly.v1+json"
WIDGET_TYPE = "application/vnd.jupyter.widget-view+json"


def chapters() -> list[Path]:
    """The chapters in order."""
    return sorted(file for file in find_notebooks().glob("[0-9][0-9]_*.ipynb") if file.name != GUIDE)


def appendices() -> list[Path]:
    """The appendices in order."""
    return sorted(find_notebooks().glob("appendices/[A-Z]_*.ipynb"))


def chosen(only: Sequence[str] = ()) -> list[Path]:
    """Chapters and appendices whose name contains one of `only`, or all; ValueError if one of these names none."""
    if not (found := chapters() + appendices()):
        raise FileNotFoundError(f"{find_notebooks()} has no chapters: run `polkit book` in a checkout of polkit")
    names = [file.stem for file in found]
    for wanted in only:
        if not any(wanted in name for name in names):
            raise ValueError(f"no chapter is called {wanted!r}; the chapters are {', '.join(names)}")
    return [file for file in found if not only or any(wanted in file.stem for wanted in only)]


def parameter_texts(file: Path) -> dict[str, str]:
    """The names in a chapter's `parameters` cell and what stands there for their values."""
    return {name: entry["default"] for name, entry in papermill.inspect_notebook(str(file)).items()}


def plain_value(file: Path, name: str, text: str) -> object:
    """A parameter's value from the chapter's own text; ValueError if that is an expression, whose type nobody knows."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        wanted = "its cell must give a plain value, such as 140"
        raise ValueError(f"the parameter {name} of {file.stem} is {text!r} there: {wanted}") from None


def checked_parameters(files: Sequence[Path], given: Mapping[str, str]) -> dict[Path, dict[str, object]]:
    """What each chapter is to be run with. Raises ValueError for a name that no chapter has, or a wrong type."""
    known = {file: parameter_texts(file) for file in files}
    names = sorted(set().union(*known.values()))
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]}? The" if near else "the"
            raise ValueError(f"no chapter has a parameter {name!r}; {hint} parameters are {', '.join(names)}")
    return {
        file: {
            name: typed(name, text, plain_value(file, name, own[name])) for name, text in given.items() if name in own
        }
        for file, own in known.items()
    }


def typed(name: str, text: str, default: object) -> object:
    """The text of a parameter as a value of its default's type; ValueError if it is not one."""
    kind = type(default)
    try:
        return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise ValueError(f"the parameter {name} is of type {kind.__name__}, {text!r} is not") from None


def run_book(out: Path, only: Sequence[str] = (), given: Mapping[str, str] | None = None) -> int:
    """Runs two chapters at a time, with a worker each; keeps copies, prints the summary; how many failed.

    out: folder of the copies
    only: parts of the names of chapters or appendices; without any, all are run
    given: name of a parameter -> its value as text
    """
    runs = checked_parameters(sorted(chosen(only), key=turn), given or {})
    runs |= {file: {"workers": 1} | runs[file] for file in runs if len(runs) > 1 and "workers" in parameter_texts(file)}
    if out.resolve() in {file.parent.resolve() for file in runs}:
        raise ValueError(f"{out} holds the chapters themselves: choose another folder for the copies")
    require_writable(out / "copy")
    executed, begun = [], time.perf_counter()
    side_by_side = Parallel(n_jobs=min(2, len(runs)), backend="threading", return_as="generator")
    with fast_kernels():
        results = side_by_side(delayed(execute_chapter)(file, out / file.name, runs[file]) for file in runs)
        for file, (seconds, problem) in zip(runs, results, strict=True):
            copy = out / file.name
            executed += [] if problem else [copy]
            seen = f" (see {copy})" if copy.exists() else ""
            print(f"{file.stem:24} " + (f"FAILED: {problem}{seen}" if problem else f"{seconds:6.1f} s"), flush=True)
    print_summary(sorted(executed, key=lambda file: (file.stem[0].isalpha(), file.stem)))
    print(f"\n{len(executed)} of {len(runs)} chapters in {time.perf_counter() - begun:.0f} s; copies in {out}")
    return len(runs) - len(executed)


def fast_kernels() -> AbstractContextManager:
    """Has the kernels that start in the block find their imports done, where processes can be forked."""
    if sys.platform != "linux" or multiprocessing.current_process().daemon:  # a daemon may have no processes
        return nullcontext()
    from polkit.book.kernels import forked_kernels

    return forked_kernels()


def turn(file: Path) -> int:
    """Chapters 2 and 3 make the proof and the δ that others read; 10 reads the spoof of 6, and 1 nothing."""
    return next((place for place, names in enumerate(TURNS) if file.stem[:2] in names), len(TURNS))


def execute_chapter(
    file: Path, copy: Path, parameters: Mapping[str, object], begin: str = ""
) -> tuple[float, str | None]:
    """Runs a chapter through papermill into `copy`: the seconds that it took, and the error that ended it, or None.

    begin: a line of Python that the kernel runs first
    """
    start, problem = time.perf_counter(), None
    copy.unlink(missing_ok=True)
    extra = KERNEL["extra_arguments"] + [f"--IPKernelApp.exec_lines={begin}"] * bool(begin)
    with tempfile.TemporaryDirectory() as folder:  # what papermill writes, an interrupt could leave half written
        made = Path(folder, copy.name)
        try:
            papermill.execute_notebook(str(file), str(made), dict(parameters), **KERNEL | {"extra_arguments": extra})
            tidy(made)
        except PapermillExecutionError as error:
            problem = f"{error.ename}: {error.evalue}"
        except Exception as error:  # a kernel that is missing, dies or does not answer; the other chapters go on
            problem = f"{type(error).__name__}: {error}"
        if made.exists():
            write_whole(copy, made.read_text(encoding="utf-8"))
    return time.perf_counter() - start, problem


def tidy(copy: Path) -> None:
    """Rewrites an executed notebook to be read without a kernel: panels in words, without bars or widget state."""
    notebook = nbformat.read(copy, as_version=4)
    notebook.metadata.pop("widgets", None)
    drop_progress(notebook)
    for cell in notebook.cells:
        if "outputs" in cell:
            cell.outputs = [each for output in cell.outputs for each in without_kernel(output)]
    write_whole(copy, nbformat.writes(notebook) + "\n")


def without_kernel(output: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """An output as it is, or a panel's as what a page can be made of, and its words."""
    data = output.get("data", {})
    if WIDGET_TYPE not in data:
        return [output]
    words = data["text/plain"]
    said = nbformat.v4.new_output("display_data", {"text/plain": words, "text/markdown": f"> ▶ {words}"})
    if STILL_TYPE not in data:
        return [said]
    output["data"] = {STILL_TYPE: data[STILL_TYPE], "text/plain": words}
    return [output, said]


def plot_in(data: Mapping) -> dict | None:
    """The figure of an output's data."""
    return data.get(PLOTLY_TYPE) or data.get(STILL_TYPE, {}).get("figure")


def drop_progress(notebook: nbformat.NotebookNode) -> None:
    """Takes the tracks of progress bars out of the outputs."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if not (out.output_type == "stream" and "\r" in out.text)]


def shown_data(notebook: nbformat.NotebookNode) -> list[dict]:
    """The data of every output that shows something, by MIME type."""
    return [output["data"] for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]


def collected(files: Sequence[Path], kind: str) -> pd.DataFrame:
    """The rows of every report of a kind in executed notebooks, with the chapter they come from."""
    rows = []
    for file in files:
        for data in shown_data(nbformat.read(file, as_version=4)):
            report = data.get(REPORT_TYPE)
            if report and report["kind"] == kind:
                chapter = {"chapter": file.stem.partition("_")[0]}
                rows += [chapter | {name: row[name] for name in report["columns"]} for row in report["rows"]]
    return pd.DataFrame(rows)


def print_summary(files: Sequence[Path]) -> None:
    outcome, claimed = collected(files, "outcomes"), collected(files, "claims")
    if len(outcome):
        print("\nVerdicts, largest error / d_ref in each distance, cost relative to the proof's\n")
        once = outcome.drop_duplicates("folder").drop(columns="chapter")
        print(in_parts(shown("outcomes", once).set_index("folder").rename_axis(None)))
    if len(claimed):
        print("\nClaims\n")
        for row in shown("claims", claimed).itertuples():
            print(f"  {row.chapter}  {row.holds:3}  {row.claim}\n             paper: {row.paper} · here: {row.here}")
