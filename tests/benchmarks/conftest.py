"""`make bench`: ratios of interleaved repeats, printed as a table and kept in data/results/bench.csv."""

from statistics import median

import pandas as pd
import pytest

from polkit.book.chapters import chapters
from polkit.experiments.published import published_folder
from tests.benchmarks.__main__ import made_here

COLUMNS = ["what", "unit", "value", "at_most", "holds", "seconds", "against_seconds", "repeats"]


@pytest.fixture(scope="session")
def measured():
    """What this session has measured, a row each; printed when it ends."""
    rows: list[dict] = []
    yield rows
    if rows:
        print("\n" + pd.DataFrame(rows, columns=COLUMNS).to_string(index=False))


@pytest.fixture
def noted(measured):
    """Notes one figure in the table, whose other rows stay, and fails if it lies above its floor."""

    def note(what: str, value: float, *, unit: str = "ratio", at_most: float | None = None, **more) -> None:
        holds = at_most is None or value <= at_most
        measured.append({"what": what, "unit": unit, "value": value, "at_most": at_most, "holds": holds, **more})
        row = made_here(pd.DataFrame(measured[-1:], columns=COLUMNS))
        file = published_folder() / "bench.csv"
        kept = pd.read_csv(file).query("what != @what") if file.exists() else row.head(0)
        now = {f"make book, {chapter.stem}" for chapter in chapters()}
        kept = kept[~kept["what"].str.startswith("make book, ") | kept["what"].isin(now)]  # chapters come and go
        pd.DataFrame([*kept.to_dict("records"), *row.to_dict("records")]).sort_values("what").to_csv(
            file, index=False, float_format="%.4g"
        )
        assert holds, f"{what}: {value:.3g}, it must be at most {at_most}"

    return note


@pytest.fixture
def compared(benchmark, noted):
    """How many times the seconds of another thing one takes: the other runs, and says how long it took, before each
    repeat, and the value is the median of these ratios.

    On a busy machine that is steadier than the ratio of two medians: of the same `verify`, three times each, 1.05 to
    1.08 and 1.05 to 1.13.
    """

    def compare(what: str, tried, against, *, at_most: float | None = None, repeats: int = 5) -> None:
        other = []

        def interleave() -> None:
            other.append(against())

        interleave(), tried()  # what is done once, and kept in memory, is part of neither
        other.clear()
        benchmark.pedantic(tried, setup=interleave, rounds=repeats)
        taken = benchmark.stats.stats.data
        ratio = median(one / another for one, another in zip(taken, other, strict=True))
        noted(what, ratio, at_most=at_most, seconds=median(taken), against_seconds=median(other), repeats=repeats)

    return compare
