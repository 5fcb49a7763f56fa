"""The closed form beside spoofs that were made: by hand, and on the published runs."""

import numpy as np
import pandas as pd
import pytest

import polkit as pk
from polkit.experiments.published import published
from polkit.experiments.window import (
    ATTACKS,
    SCALES,
    above_the_path,
    agreement,
    boundary,
    break_even,
    closed_window,
    path_rows,
    spoof_rows,
    window_grid,
)
from polkit.training.data import derive_seed
from polkit.training.step import PARTS

THRESHOLDS = {"threshold.l1": 1.0, "threshold.l2": 1.0, "threshold.linf": 1.0, "threshold.cos": 0.1}


def made(attack, seed, steps, linf, cos, share=0.5):
    found = {"attack": attack, "seed": seed, "spoof_steps": steps, "steps": 100, "l1": 0.1, "l2": 0.1, "linf": linf}
    return found | {"cos": cos, "floating_point_operations": share, "wall_seconds": 2 * share} | THRESHOLDS


def path(seed, steps, linf, cos):
    return {"seed": seed, "spoof_steps": steps, "l1": 0.1, "l2": 0.1, "linf": linf, "cos": cos}


SPOOFS = pd.DataFrame(
    [
        made("Attack II", 0, 10, 0.9, 0.05, 0.2),
        made("Attack II", 1, 10, 1.1, 0.05, 0.4),
        made("Attack II", 0, 20, 0.8, 0.02, 0.8),
        made("Attack III", 0, 10, 0.5, 0.3, 0.1),
    ]
)
PATHS = pd.DataFrame([path(0, 10, 0.9, 0.15), path(1, 10, 0.9, 0.05), path(0, 20, 0.4, 0.02)])


@pytest.fixture(scope="module")
def grid():
    return window_grid(SPOOFS, PATHS, scales=(0.5, 1.0, 2.0))


def test_the_grid_by_hand(grid):
    table = grid.set_index(["attack", "scale", "spoof_steps"])[["repeats", "measured", "closed_form", "agree"]]
    assert table.loc["Attack II", 1.0, 10].tolist() == [2, 1, 1, 0]  # the cosine shuts the first, l∞ opened the second
    assert table.loc["Attack II", 1.0, 20].tolist() == [1, 1, 1, 1]
    assert table.loc["Attack II", 0.5, 20].tolist() == [1, 0, 1, 0]
    assert table.loc["Attack II", 2.0, 10].tolist() == [2, 2, 2, 2]
    assert table.loc["Attack III", 2.0, 10].tolist() == [1, 0, 1, 0]
    assert len(table) == 3 * 3


def test_the_agreement_counts_who_accepts_alone(grid):
    found = agreement(grid)
    assert found.loc["Attack II"].tolist() == [9, pytest.approx(6 / 9), 2, 1]
    assert found.loc["Attack III"].tolist() == [3, pytest.approx(2 / 3), 1, 0]


def test_the_boundary_is_the_mean_of_what_each_training_needs():
    assert boundary(SPOOFS, PATHS).to_dict() == pytest.approx({10: (1.5 + 0.9) / 2, 20: 0.4})


def test_the_factor_above_the_path_is_of_the_distance_nearest_to_its_threshold():
    found = above_the_path(SPOOFS, PATHS)
    assert found.loc["Attack II", 10] == pytest.approx((0.9 / 0.9 + 1.1 / 0.9) / 2)
    assert found.loc["Attack II", 20] == pytest.approx(2)
    assert found.loc["Attack III", 10] == pytest.approx(0.3 / 0.15)


def test_the_break_even_of_four_meters():
    found = break_even(SPOOFS, {"Attack II": 25.0, "Attack III": 20.0}, interval=10)
    assert found.loc["Attack II"].to_dict() == pytest.approx(
        {"paper": 100 / 31, "counted": 4, "operations": (50 + 25 + 25) / 3, "seconds": (25 + 12.5 + 12.5) / 3}
    )
    assert found.loc["Attack III", "paper"] == pytest.approx(1000 / 31)


def test_a_spoof_without_a_path_is_refused():
    with pytest.raises(ValueError, match="1 of 4 spoofs have no path to compare with"):
        window_grid(SPOOFS, PATHS[PATHS["spoof_steps"] == 10])


def test_a_path_is_the_spacing_of_the_spoof_that_was_made(small_task, small_proof, small_calibration, tmp_path):
    final = small_proof.final_weights()
    spoof = pk.interpolation_only(final, small_task, spoof_steps=8, seed=1, out=tmp_path / "spoof", progress=False)
    (row,) = path_rows(small_proof, small_calibration, [8], seed=0).to_dict("records")
    spacing = pk.distances(spoof.checkpoint(4).weights, spoof.checkpoint(0).weights)
    for name in ("l1", "l2", "linf"):
        assert row[name] == pytest.approx(spacing[name] / small_calibration.reference["weights"][name], rel=1e-4)
    assert (row["seed"], row["spoof_steps"]) == (0, 8)
    first = pk.sorted_initialisation(small_task, final, derive_seed(1, "adversary"))
    assert pk.distances(first.weights, spoof.checkpoint(0).weights)["linf"] == 0


@pytest.fixture(scope="module")
def of_the_runs():
    return spoof_rows(published("digits/runs")), published("digits/paths")


def test_the_published_runs_make_a_whole_grid(of_the_runs):
    spoofs, paths = of_the_runs
    assert spoofs.groupby("attack").size().to_dict() == {"Attack II": 18, "Attack III": 18, "interpolation only": 18}
    assert not spoofs.isna().any().any()
    cells = window_grid(spoofs, paths)
    assert (cells["repeats"] == 3).all()
    assert len(cells) == 3 * 6 * len(SCALES)


def test_at_the_calibrated_threshold_the_grid_is_the_verdict_of_the_runs(of_the_runs):
    """`within.all` of a run is the paper's verdict at Q = all; both counted from it, not read off the errors."""
    runs = published("digits/runs")
    spoofs, paths = of_the_runs
    cells = window_grid(spoofs, paths, scales=(1.0,)).set_index(["attack", "spoof_steps"])["measured"]
    names = {"attack_2": "Attack II", "attack_3": "Attack III", "interpolation_only": "interpolation only"}
    plain = runs[
        (runs["task"] == "digits")
        & (runs[["adversary_half", "adversary_device", "adversary_precision"]] == "").all(axis=1)
        & (runs["off_path"] == 0)
    ]
    for (attack, steps), rows in plain[plain["attack"].isin(names)].groupby(["attack", "spoof_steps"]):
        assert cells[names[attack], steps] == (rows["within.all"].astype(str) == "True").sum()


def test_a_longer_path_is_finer_but_no_spoof_gets_far_below_its_threshold(of_the_runs):
    spoofs, paths = of_the_runs
    assert boundary(spoofs, paths).is_monotonic_decreasing
    cells = window_grid(spoofs, paths)
    assert cells.loc[cells["scale"] < 0.6, "measured"].sum() == 0
    assert cells.loc[np.isclose(cells["scale"], 0.25), "closed_form"].sum() > 0


RUNS = published("digits/runs")


@pytest.mark.parametrize("replayed", ["one", "most", "all"])
def test_a_published_spoof_is_judged_as_its_run_judged_it(replayed):
    """The recorded verdicts, from the recorded errors: with the buffers, and by the weights alone."""
    names = {shown: name for name, shown in ATTACKS.items()}
    plain = (RUNS[["adversary_half", "adversary_device", "adversary_precision"]] == "").all(axis=1)
    recorded = RUNS[plain & (RUNS["off_path"] == 0) & (RUNS["task"] == "digits")]
    recorded = recorded.set_index(["attack", "seed", "spoof_steps"])
    for parts, column in ((PARTS, "accepted"), (("weights",), "within")):
        judged = spoof_rows(RUNS, replayed=replayed, parts=parts)
        keys = [(names[row.attack], row.seed, row.spoof_steps) for row in judged.itertuples()]
        assert judged["accepted"].tolist() == recorded.loc[keys, f"{column}.{replayed}"].astype(bool).tolist()
        assert judged["cost"].tolist() == recorded.loc[keys, "share.floating_point_operations"].tolist()


def test_a_published_spoofs_ratio_falls_as_delta_rises():
    once, twice = spoof_rows(RUNS, parts=PARTS), spoof_rows(RUNS, parts=PARTS, threshold_scale=2.0)
    assert twice["ratio"].tolist() == pytest.approx((once["ratio"] / 2).tolist())
    assert twice["accepted"].tolist() == (once["ratio"] <= 2).tolist()


def test_the_closed_window_goes_through_the_published_lengths_and_on_as_one_over_t():
    spoofs, paths = spoof_rows(RUNS), published("digits/paths")
    least = boundary(spoofs, paths)
    table = closed_window(spoofs, paths, np.array([40, 70, 290, 2900]), break_even=580.0, threshold_scale=0.5)
    ratios = table["error_over_threshold"].tolist()
    assert ratios[:3] == pytest.approx([least[40] / 0.5, least[70] / 0.5, least[290] / 0.5])
    assert ratios[3] == pytest.approx(ratios[2] / 10, rel=1e-4), "l∞ decides, and the pieces are ten times shorter"
    assert table["cost"].tolist() == pytest.approx([40 / 580, 70 / 580, 0.5, 5.0])
    assert table["feasible"].tolist() == [False, False, True, False]
