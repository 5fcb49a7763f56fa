"""The published tables, read in one way: the paper's own numbers (data/paper) and ours (data/results)."""

from pathlib import Path

import pandas as pd

# Command -> the files of data/results that it writes; data/README.md says more about each.
COMMANDS = {
    "make bench": "bench",
    "make cifar10": "cifar10/draws cifar10/first_interval cifar10/intervals cifar10/spoofs",
    "make crossing": "digits/crossing",
    "make examples": "digits/runs_paper digits/averages_paper",
    "make exact": "digits/exact_costs digits/exact_freedom digits/exact_machines digits/exact_spoofs "
    "digits/exact_thresholds",
    "make forge_costs": "folder-32x32/forge_costs",
    "make growth": "digits/growth digits/growth_slopes digits/optimum digits/optimum_cheapest digits/storage",
    "make memorisation": "digits/memorised_folders digits/memorised_stages digits/seeds_by_lot",
    "make paths": "digits/paths",
    "make places": "fashion/places",
    'make places OUT=digits P="-p task digits"': "digits/places",
    "make reproducibility": "digits/reproducibility",
    "make results": "digits/runs digits/averages digits/claims digits/matrix digits/matrix_costs digits/matrix_errors "
    "digits/matrix_trainings",
    "make snark": "snark/steps",
    "make stages": "digits/stages",
    "polkit reproduce presets --repeats 20 --publish data/results/digits": "digits/presets digits/verifiers",
    "polkit reproduce figure-2 figure-5 momentum --task folder:colour --epochs 50 --checkpoint-interval 20 "
    "--train-size 2560 --regime strict --precision bf16 --repeats 1 --publish data/results/folder-32x32": (
        "folder-32x32/runs folder-32x32/averages folder-32x32/claims"
    ),
    "python -m tests.benchmarks steps": "gpu/steps",
    "papermill notebooks/experiments/spoof.ipynb build/spoof.ipynb -p task cifar10 -p epochs 40 -p device cuda "
    "-p precision bf16 -p attack ATTACK -p spoof_steps STEPS": "gpu/runs",
}
MADE_BY = {name: command for command, names in COMMANDS.items() for name in names.split()}
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


def published(name: str | Path) -> pd.DataFrame:
    """A table of our own runs; an empty text in it is "" and not NaN, as `tidy_runs` has it.

    name: as in MADE_BY, such as "digits/runs", or the path, without .csv, of one that `--publish` wrote elsewhere
    Raises FileNotFoundError with the command that makes the table.
    """
    file = published_folder() / f"{name}.csv"
    if not file.is_file():
        command = MADE_BY.get(str(name), f"polkit reproduce --publish {file.parent}")
        raise FileNotFoundError(f"{file} is missing: `{command}` makes it")
    table = pd.read_csv(file, dtype=dict.fromkeys(TEXTS, str))
    return table.fillna({name: "" for name in table if name in TEXTS})


def paper_data(name: str) -> pd.DataFrame:
    """A table of the paper's own numbers: claims, costs, settings, tables, verifiable_computation or windows."""
    file = published_folder().parent / "paper" / f"{name}.csv"
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing: the paper's numbers lie in data/paper of a checkout of polkit")
    return pd.read_csv(file, keep_default_na=False, na_values=[""])
