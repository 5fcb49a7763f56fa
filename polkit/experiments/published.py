"""The published tables, read in one way: the paper's own numbers (data/paper) and ours (data/results)."""

import re
from pathlib import Path

import pandas as pd

TEXTS = ("attack", "pace", "adversary_half", "adversary_device", "adversary_precision", "reasons")
GUIDE = "00_start_here.ipynb"  # the course guide, a page to read: by it the book's folder is known from a reader's own


def find_notebooks() -> Path:
    """The book's folder `notebooks`, in the working directory, or in the checkout that polkit runs from."""
    here, checkout = Path.cwd() / "notebooks", Path(__file__).resolve().parents[2] / "notebooks"
    for folder in (here, checkout):
        if (folder / GUIDE).is_file():
            return folder
    raise FileNotFoundError("there is no folder `notebooks` with the book here: run polkit in a checkout of polkit")


def published_folder() -> Path:
    """data/results of the checkout."""
    return find_notebooks().parent / "data" / "results"


def made_by() -> dict[str, str]:
    """Name of each published table -> the command that makes it, from the table of data/README.md."""
    text = (published_folder().parent / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+?) \| .+? \| `(.+?)`[^|]* \| [^|]+ \|$", text, re.MULTILINE)
    return {name: command for names, command in rows for name in re.findall("`(.+?)`", names)}


def published(name: str | Path) -> pd.DataFrame:
    """A table of our own runs; an empty text in it is "" and not NaN, as `tidy_runs` has it.

    name: as in data/README.md ("digits/runs"), or the path, without .csv, of one that `--publish` wrote elsewhere
    Raises FileNotFoundError with the command that makes the table.
    """
    file = published_folder() / f"{name}.csv"
    if not file.is_file():
        command = made_by().get(str(name), f"polkit reproduce --publish {file.parent}")
        raise FileNotFoundError(f"{file} is missing: `{command}` makes it")
    table = pd.read_csv(file, dtype=dict.fromkeys(TEXTS, str))
    return table.fillna({name: "" for name in table if name in TEXTS})


def paper_data(name: str) -> pd.DataFrame:
    """A table of the paper's own numbers: claims, costs, settings, tables, verifiable_computation or windows."""
    file = published_folder().parent / "paper" / f"{name}.csv"
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing: the paper's numbers lie in data/paper of a checkout of polkit")
    return pd.read_csv(file, keep_default_na=False, na_values=[""])
