"""The spoofs of the book and the table of what they cost: four meters, as spent and as shares of the proof's."""

import inspect
from pathlib import Path

import nbformat
import pytest

import polkit as pk
from polkit.experiments.gallery import TABLE, lengths
from polkit.experiments.published import published
from polkit.experiments.stages import staged_pace


def test_every_spoof_has_the_length_that_suits_it():
    task, pace = pk.task("digits"), staged_pace((0.0, 0.5), (1.0, 0.5))
    steps = lengths(task, 14, pace)
    assert (steps["short"], steps["usual"], steps["early"]) == (40, 140, 400)
    assert steps["staged"] == 190  # the first half walks two thirds of the path: 14 · 4/3 intervals
    assert steps["blindfold"] == 50
    assert steps["crossing"] >= 100 * task.steps_per_epoch + 20  # the rate drops after 100 epochs
    assert steps["whole"] == steps["hops"] == task.steps
    assert lengths(task.replace(epochs=2), 14, ())["hops"] is None  # 22 steps before the rate drops
    assert lengths(task, 14, ())["staged"] == 0
    for attack, length, taken, settings in TABLE.values():
        known = inspect.signature(attack).parameters
        assert length in steps
        assert {*taken, *settings} <= set(known)


@pytest.fixture(scope="module")
def shown():
    """What the cells of appendix E make of the published results."""
    notebook = nbformat.read(Path(__file__).parents[1] / "notebooks/appendices/E_matrix.ipynb", as_version=4)
    names = {}
    for cell in notebook.cells:
        if cell.cell_type == "code" and "import" in cell.source:
            exec(cell.source, names)
    return names


def test_the_published_costs_fit_what_an_attack_computes(shown):
    table = shown["costs"].set_index(["data", "folder"])
    assert not table[[*shown["meters"], *(f"share.{meter}" for meter in shown["meters"])]].isna().any().any()
    for data, steps in (("8x8 digits", 4400), ("32x32 colour", 1000)):
        known = table.loc[data]
        for attack in ("Attack I", "Attack II", "Attack III", "borrowed momentum", "distillation"):
            assert attack in known.index
        plain = known.loc["interpolation only"]  # one update a step, nothing else
        assert plain["share.gradient_evaluations"] == pytest.approx(plain["steps"] / steps, rel=1e-4)
        assert plain["share.floating_point_operations"] == pytest.approx(plain["steps"] / steps, rel=1e-4)
        assert known.loc["infinitesimal update", "gradient_evaluations"] == 0
        whole = known["floating_point_operations"] / known["share.floating_point_operations"]
        assert whole.max() == pytest.approx(whole.min(), rel=1e-4)


def test_the_table_shows_value_and_share(shown):
    costs = shown["costs"].set_index(["data", "folder"])
    (spent,) = costs.loc[[("8x8 digits", "Attack II")]].to_dict("records")
    told = [f"{spent['gradient_evaluations']:,.0f} ({spent['share.gradient_evaluations']:.3f})"]
    told += [f"{spent['floating_point_operations'] / 1e9:,.0f} G ({spent['share.floating_point_operations']:.3f})"]
    told += [f"{spent['wall_seconds']:,.1f} s ({spent['share.wall_seconds']:.3f})"]
    told += [f"{spent['stored_bytes'] / 1e6:,.1f} MB ({spent['share.stored_bytes']:.3f})"]
    columns = shown["pd"].DataFrame(shown["columns"]).to_numpy().tolist()
    assert columns[1] == [f"{spent['steps']:,.0f}", *told]


def test_a_cost_on_digits_is_its_share_of_what_three_proofs_cost_in_the_mean(shown):
    runs, shares = published("digits/runs"), published("digits/matrix_costs").set_index("folder")
    proofs = runs[(runs["experiment"] == "honest") & (runs["task"] == "digits")]
    costs = shown["costs"].set_index(["data", "folder"]).loc["8x8 digits"]
    for meter in shown["meters"]:
        expected = shares.loc["Attack III", meter] * proofs[f"cost.{meter}"].mean()
        assert costs.loc["Attack III", meter] == pytest.approx(expected)
