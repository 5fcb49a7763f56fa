"""The book, run headlessly: each chapter through papermill, then every claim and outcome in one table."""

from pathlib import Path

import pandas as pd


def find_notebooks() -> Path:
    """The folder `notebooks` of the working directory, or of the checkout that polkit runs from."""
    here, checkout = Path.cwd() / "notebooks", Path(__file__).resolve().parent.parent / "notebooks"
    for folder in (here, checkout):
        if folder.is_dir():
            return folder
    raise FileNotFoundError("there is no folder `notebooks` here: run `polkit book` in a checkout of polkit")


def paper_data(name: str) -> pd.DataFrame:
    """A table of the paper's published numbers: claims, costs, settings, tables or windows."""
    file = find_notebooks().parent / "data" / "paper" / f"{name}.csv"
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing: the paper's numbers lie in data/paper of a checkout of polkit")
    return pd.read_csv(file, keep_default_na=False, na_values=[""])


def read_matrix(folder: Path) -> dict[str, pd.DataFrame]:
    """The published tables. Raises FileNotFoundError if there are none."""
    names = ("matrix", "matrix_trainings", "matrix_costs", "matrix_errors")
    files = {name: folder / f"{name}.csv" for name in names}
    for file in files.values():
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing: `polkit reproduce matrix --publish {folder}` writes it")
    return {name: pd.read_csv(file) for name, file in files.items()}


TABLES = (
    "exact_machines",
    "exact_thresholds",
    "exact_spoofs",
    "exact_freedom",
    "exact_costs",
    "memorised_stages",
    "memorised_folders",
    "seeds_by_lot",
)


def read_origins(folder: Path) -> dict[str, pd.DataFrame]:
    """The published tables. Raises FileNotFoundError, with the command that writes them, if one is missing."""
    for name in TABLES:
        if not (folder / f"{name}.csv").is_file():
            raise FileNotFoundError(
                f"{folder / name}.csv is missing: `python -m notebooks.experiments.origins` writes it"
            )
    return {name: pd.read_csv(folder / f"{name}.csv") for name in TABLES}


def read_presets(folder: Path) -> dict[str, pd.DataFrame]:
    """The published tables. Raises FileNotFoundError if there are none."""
    files = {name: folder / f"{name}.csv" for name in ("presets", "verifiers")}
    for file in files.values():
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing: `polkit reproduce presets --publish {folder}` writes it")
    return {name: pd.read_csv(file) for name, file in files.items()}


def read_steps(folder: Path | None = None) -> pd.DataFrame:
    """The published measurement, a row per circuit. Raises FileNotFoundError if there is none."""
    file = (folder or published("snark")) / "steps.csv"
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing: `make snark` writes it")
    return pd.read_csv(file)


TEXTS = ("attack", "adversary_half", "adversary_device", "adversary_precision", "reasons")


def published(name: str = "digits") -> Path:
    """Where the results of the book's own runs lie."""
    return find_notebooks().parent / "data" / "results" / name


def read_results(folder: Path) -> dict[str, pd.DataFrame]:
    """The tables of `summarise`: runs, averages, claims. Raises FileNotFoundError if there are none."""
    missing = [name for name in ("runs", "averages", "claims") if not (folder / f"{name}.csv").is_file()]
    if missing:
        raise FileNotFoundError(f"{folder} has no {missing[0]}.csv: `polkit reproduce --publish {folder}` writes it")
    texts = dict.fromkeys(TEXTS, str)
    tables = {name: pd.read_csv(folder / f"{name}.csv", dtype=texts) for name in ("runs", "averages", "claims")}
    for table in tables.values():  # an empty text is written as nothing at all
        kept = [name for name in table if name in TEXTS]
        table[kept] = table[kept].fillna("")
    return tables


def read_paths(folder: Path) -> pd.DataFrame:
    """The published closed form. Raises FileNotFoundError if there is none."""
    file = folder / "paths.csv"
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing: `path_rows` of every training in runs.csv make it")
    return pd.read_csv(file)
