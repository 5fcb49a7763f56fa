"""The published tables: each has a command, one reader, and a notebook that makes the same columns on a small task."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import papermill
import pytest

import polkit.experiments.published as module
from polkit.defences.circuit import Circuit
from polkit.experiments.gallery import SPOOFS
from polkit.experiments.published import GUIDE, find_notebooks, made_by, paper_data, published, published_folder
from polkit.experiments.stages import EVEN, SCHEDULED, STAGED
from polkit.reproduce.records import PARAMETERS

ROOT = find_notebooks().parent
EXPERIMENTS = ROOT / "notebooks" / "experiments"
SMALL = {"task": "digits", "epochs": 10, "train_size": 640, "checkpoint_interval": 5}
SMALLER = {"task": "digits", "epochs": 4, "train_size": 256, "checkpoint_interval": 4}


def committed():
    return {str(file.relative_to(published_folder()).with_suffix("")) for file in published_folder().rglob("*.csv")}


def test_every_committed_table_has_a_command_and_every_command_its_tables():
    assert committed() == set(made_by())


def test_the_readme_of_the_data_names_each_table_of_the_paper():
    assert {file.stem for file in (ROOT / "data" / "paper").glob("*.csv")} <= set(
        re.findall(r"^\| `(\w+)` \|", (ROOT / "data" / "README.md").read_text(), re.MULTILINE)
    )


@pytest.mark.parametrize("command", sorted({each for each in made_by().values() if each.startswith("make ")}))
def test_every_make_command_is_a_target(command):
    asked = [*shlex.split(command), "--dry-run"]
    assert subprocess.run(asked, cwd=ROOT, capture_output=True, check=False).returncode == 0


def test_every_notebook_that_a_command_runs_is_left_to_the_tests_below():
    ignored = re.findall(r"--ignore=notebooks/experiments/(\w+)\.ipynb", (ROOT / "pyproject.toml").read_text())
    assert sorted(ignored) == sorted({"matrix", "presets", *RUNS})
    assert {file.stem for file in EXPERIMENTS.glob("*.ipynb")} == {"honest", "prepare", "spoof", *ignored}


def test_a_missing_table_is_one_sentence_with_the_command(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / GUIDE).touch()
    (tmp_path / "data").mkdir()
    shutil.copy(ROOT / "data" / "README.md", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"snark/steps\.csv is missing: `make snark` makes it$"):
        published("snark/steps")
    with pytest.raises(FileNotFoundError, match=r"mine/runs\.csv is missing: `polkit reproduce --publish .*mine`"):
        published(tmp_path / "mine" / "runs")
    with pytest.raises(FileNotFoundError, match="the paper's numbers lie in data/paper"):
        paper_data("claims")


def test_a_checkout_is_found_from_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_notebooks() == Path(__file__).resolve().parents[1] / "notebooks"


def test_a_foreign_folder_of_notebooks_is_not_the_book(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01_my_own.ipynb").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert find_notebooks() == ROOT / "notebooks"
    assert published("digits/runs").equals(published(ROOT / "data" / "results" / "digits" / "runs"))
    monkeypatch.setattr(module, "__file__", str(tmp_path / "polkit" / "experiments" / "published.py"))  # no checkout
    with pytest.raises(FileNotFoundError, match="no folder `notebooks` with the book here: run polkit in a checkout"):
        find_notebooks()


def test_an_empty_text_is_a_text_and_a_missing_number_is_none():
    runs = published("digits/runs")
    texts = [name for name in runs if isinstance(PARAMETERS.get(name), str)]
    assert not runs[[*texts, "reasons"]].isna().any(axis=None)
    assert (runs["adversary_device"] == "").all()
    assert runs["evaluations"].isna().any()


# Parameters of a small run, and the place whose committed tables must have the same columns.
RUNS = {
    "cifar10": (SMALL | {"spoofs": [[3, 0], [3, 1]], "draws": 2}, "cifar10"),
    "crossing": (SMALL | {"trainings": 2, "hops": [3], "draws": 50}, "digits"),
    "exact": (SMALLER | {"intervals": 4, "steered_epochs": 2, "timed_steps": 4}, "digits"),
    "forge_costs": (SMALL | {"precision": "float32", "spoof_steps": 20}, "folder-32x32"),
    "memorisation": (SMALL | {"intervals": 4, "beginnings": 1, "tries": 20}, "digits"),
    "paths": (SMALL | {"trainings": 1}, "digits"),
    "places": (SMALL | {"batches": 1, "noise_weights": [0.0, 1.0]}, "fashion"),
    "snark": ({"sizes": [[16, 4]]}, "snark"),
    "stages": (SMALL | {"trainings": 1, "intervals": [4], "attacked_intervals": 4, "honest_proofs": 2}, "digits"),
    "trained_start": (SMALL | {"trainings": 1, "ways": [[20, 0, 0], [20, 5, 0], [20, 5, 5]]}, "digits"),
}


@pytest.fixture(scope="module", params=sorted(RUNS))
def made(request, tmp_path_factory):
    """The name of an experiment, and the tables that a small run of it has written."""
    name, out = request.param, tmp_path_factory.mktemp(request.param)
    if name == "snark":
        pytest.importorskip("ezkl", reason="ezkl is not installed: pip install 'polkit[snark]'")
    papermill.execute_notebook(
        EXPERIMENTS / f"{name}.ipynb",
        out / "executed.ipynb",
        parameters=RUNS[name][0] | {"out": str(out)},
        progress_bar=False,
        extra_arguments=["--log-level=40"],
    )
    return name, {file.stem: pd.read_csv(file) for file in out.glob("*.csv")}


@pytest.mark.slow
def test_a_small_run_writes_the_tables_that_are_committed(made):
    name, tables = made
    place = RUNS[name][1]
    wanted = {table for table, command in made_by().items() if command == f"make {name}"}
    assert {f"{place}/{table}" for table in tables} == wanted
    for table, found in tables.items():
        assert list(found) == list(published(f"{place}/{table}")), table
        assert len(found), table
    CHECKS[name](tables)


def check_crossing(tables):
    trials = tables["crossing"]
    assert trials[["seed", "hops", "preset"]].values.tolist() == [
        [seed, hops, preset] for seed, hops in ((0, 0), (1, 0), (0, 3)) for preset in ("recommended", "thorough")
    ]
    honest, spoof = (trials[trials["hops"] == hops] for hops in (0, 3))
    assert honest["other_checks"].all()
    own = honest[honest["seed"] == 0]  # on which the verifiers were calibrated
    assert own["fabricated"].tolist() == [0, 0]
    assert own["predicted"].tolist() == [1, 1]
    assert (spoof["fabricated"] >= 3).all()
    assert spoof["predicted"].tolist() == spoof["measured"].tolist() == [0, 0]  # both draw all of 20 intervals
    assert (spoof["floating_point_operations"] > 1).all()


def check_exact(tables):
    machines = tables["exact_machines"]
    assert (machines["largest_with_log"] == 0).all()
    assert machines["largest_float32"].dropna().gt(0).all()
    assert tables["exact_costs"]["log_bytes"].tolist()[0] == 0
    assert tables["exact_spoofs"].set_index("folder").loc["interpolation only", "smallest"] > 1e-3
    freedom = tables["exact_freedom"]
    steered = freedom[freedom["what"] == "steered"]
    assert (steered["apart"] < freedom["apart"].iloc[0]).all()
    assert tables["exact_thresholds"]["logged_share"].is_monotonic_decreasing


def check_memorisation(tables):
    folders = tables["memorised_folders"].set_index("folder")
    assert set(folders["kind"]) == {"honest", "beginning", "spoof", "fitted"}
    assert set(folders.index[folders["kind"] == "spoof"]) <= set(SPOOFS)
    assert folders.loc["honest proof", "z"] > folders.loc["interpolation only", "z"]
    lots = tables["seeds_by_lot"].iloc[0]
    assert lots["sorted"] < lots["nearest"] < lots["mean"]


def check_stages(tables):
    trials = tables["stages"]
    assert trials["path"].tolist() == [EVEN, STAGED, SCHEDULED, f"Attack II {STAGED}"]
    assert trials["intervals"].tolist() == [4] * 4
    assert trials["floating_point_operations"].tolist()[:3] == [0.2] * 3  # 20 of 100 steps
    honest = tables["stages_honest"].pivot(index="seed", columns="margin", values="above_stage")
    assert (honest.loc[0] == 0).all()  # the proof that the thresholds were set on
    assert (honest[4.0] <= honest[2.0]).all()


def check_trained_start(tables):
    trials = tables["trained_start"]
    assert (trials["accepted"] == (trials["ratio"] <= 1)).all()
    ways = ["trained_steps", "resting_steps"]
    operations = trials.pivot(index="attack", columns=ways, values="floating_point_operations")
    both = operations.loc[["attack_2", "attack_3"]]
    assert (both[5, 0] < both[0, 0]).all()
    assert operations.loc["interpolation_only"].tolist() == [0.2] * 3  # 20 of 100 steps


def check_places(tables):
    places = tables["places"]
    assert len(places) == 2 * 4 * 2  # kinds of W_0, places, noise weights, one batch each
    assert not places.duplicated(["keeps_normalisation", "place", "noise_weight", "batch"]).any()


def check_snark(tables):
    steps = tables["steps"]
    circuit = Circuit(16, 4)
    assert steps["operations"].tolist() == [circuit.operations] * 2
    assert steps["public_values"].tolist() == [160 + 64 + 40 + 160] * 2
    assert (steps["native_seconds"] < steps["verify_seconds"]).all()
    assert (steps["verify_seconds"] < steps["prove_seconds"]).all()
    assert steps["proof_bytes"].between(1000, 10_000).all()


def check_cifar10(tables):
    spoofs, intervals, draws = tables["spoofs"], tables["intervals"], tables["draws"]
    worst = intervals[intervals["distance"] == "l2"].groupby(["spoof_steps", "trained_steps"])["over_threshold"].max()
    assert spoofs["over_threshold.l2"].tolist() == pytest.approx(worst.tolist(), rel=1e-3)
    assert draws.groupby("start")["seed"].nunique().tolist() == [2, 2]
    first = tables["first_interval"].set_index("attack")
    assert first["optimisations"].tolist() == [0, 5, 1]
    attacks = first.iloc[1:]
    assert (attacks["gradient_squared_after"] < attacks["gradient_squared_before"]).all()


def check_forge_costs(tables):
    costs = tables["forge_costs"].set_index("folder")
    assert costs.index.tolist() == published("folder-32x32/forge_costs")["folder"].tolist()
    assert costs.loc["interpolation only", "share.floating_point_operations"] == 0.2  # 20 of 100 steps
    assert costs.loc["infinitesimal update", "gradient_evaluations"] == 0


def check_paths(tables):
    """The spacing of a straight path is its length over T'/k, in cos smaller still: a longer path is finer."""
    for _, rows in tables["paths"].groupby("seed"):
        rows = rows.sort_values("spoof_steps")
        lengths = rows["spoof_steps"].to_numpy()
        for name in ("l1", "l2", "linf"):
            assert np.allclose(rows[name] * lengths, rows[name].iloc[0] * lengths[0], rtol=0.01), name
        assert rows["cos"].is_monotonic_decreasing


CHECKS = {
    "cifar10": check_cifar10,
    "crossing": check_crossing,
    "exact": check_exact,
    "forge_costs": check_forge_costs,
    "memorisation": check_memorisation,
    "paths": check_paths,
    "places": check_places,
    "snark": check_snark,
    "stages": check_stages,
    "trained_start": check_trained_start,
}
