"""The spoofing window: in closed form, against the path itself and by hand, and beside the published spoofs."""

import dataclasses
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch

import polkit as pk
from polkit.experiments.published import published
from polkit.experiments.window import (
    ATTACKS,
    SCALES,
    above_the_path,
    agreement,
    attempt,
    boundary,
    break_even,
    path_errors,
    path_spacing,
    spoof_lengths,
    spoof_rows,
    updates_per_step,
    window,
    window_edges,
    window_grid,
)
from polkit.training import PARTS, Checkpoint, derive_seed


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Two threads would wait for each other while another process has a core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def heavy_tailed(task):
    """Weights as long as a fresh draw's but of another shape, so that the path comes nearest to 0 in its middle."""
    drawn = pk.initial_checkpoint(task, 5)
    weights = {}
    for name, value in drawn.weights.items():
        cubed = value**3
        weights[name] = cubed * (value.norm() / cubed.norm()) if cubed.any() else value
    return Checkpoint(weights, drawn.buffers, {})


@pytest.fixture(scope="module", params=["trained", "heavy-tailed"])
def final(request, small_task, small_proof):
    return small_proof.final_weights() if request.param == "trained" else heavy_tailed(small_task)


def plainly(task, final, steps, seed):
    """The largest distance between neighbours of the whole chain W_0, W_k, …, W_T'."""
    first, pieces = pk.sorted_initialisation(task, final, seed), steps // task.checkpoint_interval
    chain = [pk.on_the_path(first, final, number / pieces) for number in range(pieces + 1)]
    moves = [pk.distances(right, left) for left, right in pairwise(chain)]
    return {name: max(move[name] for move in moves) for name in pk.DISTANCES}


LENGTHS = [4, 8, 16, 40]


@pytest.fixture(scope="module")
def both(small_task, final):
    """The closed form and the plain maximum, at every length."""
    plain = [plainly(small_task, final, steps, seed=2) for steps in LENGTHS]
    return path_errors(small_task, final, LENGTHS, seed=2), pd.DataFrame(plain)


@pytest.mark.parametrize("distance", pk.DISTANCES)
def test_the_closed_form_is_the_largest_step_of_the_whole_path(both, distance):
    closed, plain = both
    assert closed["spoof_steps"].tolist() == LENGTHS
    assert closed[distance].tolist() == pytest.approx(plain[distance].tolist(), rel=1e-4)


def test_a_straight_path_is_cut_into_equal_pieces(small_task, final):
    whole = pk.distances(pk.sorted_initialisation(small_task, final, 0).weights, final.weights)
    for row in path_errors(small_task, final, np.array([4, 8, 12, 400])).itertuples():
        for name in ("l1", "l2", "linf"):
            assert getattr(row, name) == pytest.approx(whole[name] * 4 / row.spoof_steps, rel=1e-4)


def test_a_path_shorter_than_k_is_one_step_from_end_to_end(small_task, final):
    found = path_errors(small_task, final, [1, 4]).drop(columns="spoof_steps")
    assert found.iloc[0].to_dict() == found.iloc[1].to_dict()


def test_a_very_fine_path_turns_by_ever_smaller_angles(small_task, final):
    first = pk.sorted_initialisation(small_task, final, 0)
    coarse, fine, finest = path_spacing(first.weights, final.weights, [100, 1000, 100_000])["cos"]
    assert fine == pytest.approx(coarse / 100, rel=1e-2)
    assert finest == pytest.approx(fine / 10**4, rel=1e-3), "1 - cos of a small angle is not lost in rounding"


ERRORS = pd.DataFrame(
    {
        "spoof_steps": [4, 8, 16, 32, 64],
        "l1": [8.0, 4.0, 2.0, 1.0, 0.5],
        "l2": [4.0, 2.0, 1.0, 0.5, 0.25],
        "linf": [1.0, 0.5, 0.25, 0.125, 0.0625],
        "cos": [1.6, 0.4, 0.1, 0.025, 0.00625],
    }
)


@pytest.fixture
def known(small_calibration):
    """δ of 2, 1.6, 1 and 0.1 on the weights; the buffers' δ of 0 must not matter."""
    thresholds = {
        "weights": {"l1": 2.0, "l2": 1.6, "linf": 1.0, "cos": 0.1},
        "buffers": dict.fromkeys(pk.DISTANCES, 0.0),
    }
    return dataclasses.replace(small_calibration, thresholds=thresholds)


def test_the_window_by_hand(known):
    found = window(ERRORS, known, proof_steps=64, cost_per_step=1.5)
    assert found["spoof_steps"].tolist() == [4, 8, 16, 32, 64]
    assert found["error_over_threshold"].tolist() == pytest.approx([16, 4, 1, 0.5, 0.25])
    assert found["binding"].tolist() == ["cos", "cos", "l1", "l1", "l1"]
    assert found["cost"].tolist() == [0.09375, 0.1875, 0.375, 0.75, 1.5]
    assert found["feasible"].tolist() == [False, False, True, True, False]
    assert window_edges(found) == (16, 32)


def test_a_looser_threshold_opens_the_window_on_the_left(known):
    found = window(ERRORS, known, proof_steps=64, cost_per_step=1.5, threshold_scale=4)
    assert found["error_over_threshold"].tolist() == pytest.approx([4, 1, 0.25, 0.125, 0.0625])
    assert window_edges(found) == (8, 32)
    assert window_edges(window(ERRORS, known, proof_steps=64, cost_per_step=1.5, threshold_scale=16)) == (4, 32)


def test_a_dearer_step_closes_the_window_on_the_right(known):
    assert window_edges(window(ERRORS, known, proof_steps=64, cost_per_step=3)) == (16, 16)
    assert window_edges(window(ERRORS, known, proof_steps=65, cost_per_step=1)) == (16, 64)


@pytest.mark.parametrize("change", [{"cost_per_step": 4.0}, {"threshold_scale": 0.2}, {"proof_steps": 16}])
def test_a_window_that_is_shut_has_no_edges(known, change):
    found = window(ERRORS, known, **{"proof_steps": 64, "cost_per_step": 1.0} | change)
    assert not found["feasible"].any()
    assert window_edges(found) is None


def test_what_costs_as_much_as_the_proof_does_not_pay(known):
    found = window(ERRORS, known, proof_steps=64, cost_per_step=1.0).set_index("spoof_steps")
    assert found["cost"][64] == 1
    assert not found["feasible"][64]
    assert found["feasible"][32]


def test_a_step_of_a_spoof_costs_its_counted_operations(small_task):
    operations = {kind: unit.floating_point_operations for kind, unit in pk.unit_costs(small_task).items()}
    expected = (2 * operations["update"] + 10 * operations["objective"]) / operations["update"]
    found = updates_per_step(small_task)
    assert found["interpolation only"] == 1
    assert found["Attack II"] == pytest.approx(expected)
    assert expected > 12


@pytest.mark.parametrize("interval", [4, 11])
def test_the_cost_of_a_step_is_that_of_spoofs_that_take_all_their_iterations(interval, small_proof, tmp_path):
    task = small_proof.task.replace(batch_size=4, checkpoint_interval=interval)
    update = pk.unit_costs(task)["update"].floating_point_operations
    for attack in (pk.attack_2, pk.attack_3):
        how = {"spoof_steps": interval, "stopping_test": False, "iterations": 10, "progress": False}
        made = attack(small_proof.final_weights(), task, out=tmp_path / attack.__name__, **how)
        name = {pk.attack_2: "Attack II", pk.attack_3: "Attack III"}[attack]
        counted = made.cost().floating_point_operations / update / interval
        assert counted == pytest.approx(updates_per_step(task)[name], rel=1e-3)


def test_the_lengths_are_multiples_of_k_from_k_to_the_longest():
    for k, most in ((4, 16), (10, 4400), (100, 156_400), (7, 7)):
        lengths = spoof_lengths(k, most)
        assert (lengths[0], lengths[-1]) == (k, most // k * k)
        assert (lengths % k == 0).all()
        assert (np.diff(lengths) > 0).all()


def test_an_attempt_says_what_was_made_and_what_it_cost(small_proof, small_task, small_calibration, tmp_path):
    spoof = pk.interpolation_only(
        small_proof.final_weights(), small_task, spoof_steps=8, out=tmp_path / "spoof", progress=False
    )
    verdict = pk.verify(spoof, small_calibration, top_q="all")
    made = attempt("interpolation only", spoof, verdict, small_proof)
    assert (made.attack, made.spoof_steps, made.interval, made.verdict) == ("interpolation only", 8, 4, verdict)
    spent = [proof.cost().floating_point_operations for proof in (spoof, small_proof)]
    assert made.cost == spent[0] / spent[1]
    assert made.cost * 16 / 8 == pytest.approx(updates_per_step(small_task)["interpolation only"])  # c


THRESHOLDS = {"threshold.l1": 1.0, "threshold.l2": 1.0, "threshold.linf": 1.0, "threshold.cos": 0.1}


def made(attack, seed, steps, linf, cos, share=0.5):
    ratio, binding = max((linf, "linf"), (cos / 0.1, "cos"))
    found = {"attack": attack, "seed": seed, "spoof_steps": steps, "steps": 100, "ratio": ratio, "binding": binding}
    return found | {"cost": share, "seconds": 2 * share} | THRESHOLDS


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
    return window_grid(SPOOFS, PATHS)


def test_the_grid_by_hand(grid):
    table = grid.set_index(["attack", "scale", "spoof_steps"])[["repeats", "measured", "closed_form", "agree"]]
    assert table.loc["Attack II", 1.0, 10].tolist() == [2, 1, 1, 0]  # the cosine shuts the first, l∞ opened the second
    assert table.loc["Attack II", 1.0, 20].tolist() == [1, 1, 1, 1]
    assert table.loc["Attack II", 0.5, 20].tolist() == [1, 0, 1, 0]
    assert table.loc["Attack II", 2.0, 10].tolist() == [2, 2, 2, 2]
    assert table.loc["Attack III", 2.0, 10].tolist() == [1, 0, 1, 0]
    assert len(table) == 3 * len(SCALES)


def test_the_agreement_counts_who_accepts_alone(grid):
    found = agreement(grid[grid["scale"].isin([0.5, 1.0, 2.0])])
    assert found.loc["Attack II"].tolist() == [9, pytest.approx(6 / 9), 2, 1]
    assert found.loc["Attack III"].tolist() == [3, pytest.approx(2 / 3), 1, 0]


def test_the_boundary_is_the_mean_of_what_each_training_needs():
    assert boundary(SPOOFS, PATHS).to_dict() == pytest.approx({10: (1.5 + 0.9) / 2, 20: 0.4})


def test_the_factor_above_the_path_is_of_the_distance_nearest_to_its_threshold():
    found = above_the_path(SPOOFS, PATHS)
    assert found.loc["Attack II", 10] == pytest.approx((0.9 / 0.9 + 1.1 / 0.9) / 2)
    assert found.loc["Attack II", 20] == pytest.approx(2)
    assert found.loc["Attack III", 10] == pytest.approx(0.3 / 0.15)


def test_the_break_even_as_the_paper_counts_and_by_what_was_measured():
    found = break_even(SPOOFS, interval=10)
    assert found.loc["Attack II"].tolist() == pytest.approx([100 / 31, (50 + 25 + 25) / 3])
    assert found.loc["Attack III"].iloc[0] == pytest.approx(1000 / 31)


def test_a_spoof_without_a_path_is_refused():
    with pytest.raises(ValueError, match="1 of 4 spoofs have no path to compare with"):
        window_grid(SPOOFS, PATHS[PATHS["spoof_steps"] == 10])


def test_a_path_is_the_spacing_of_the_spoof_that_was_made(small_task, small_proof, tmp_path):
    final = small_proof.final_weights()
    spoof = pk.interpolation_only(final, small_task, spoof_steps=8, seed=1, out=tmp_path / "spoof", progress=False)
    (row,) = path_errors(small_task, final, [8], seed=derive_seed(1, "adversary")).to_dict("records")
    spacing = pk.distances(spoof.checkpoint(4).weights, spoof.checkpoint(0).weights)
    for name in ("l1", "l2", "linf"):
        assert row[name] == pytest.approx(spacing[name], rel=1e-4)


RUNS = published("digits/runs")
PLAIN = RUNS[(RUNS[["adversary_half", "adversary_device", "adversary_precision", "pace"]] == "").all(axis=1)]
PLAIN = PLAIN[(PLAIN["off_path"] == 0) & PLAIN["stopping_test"] & (PLAIN["task"] == "digits")]


@pytest.fixture(scope="module")
def of_the_runs():
    return spoof_rows(RUNS), published("digits/paths")


def test_the_published_runs_make_a_whole_grid(of_the_runs):
    spoofs, paths = of_the_runs
    assert spoofs.groupby("attack").size().to_dict() == {"Attack II": 18, "Attack III": 18, "interpolation only": 18}
    assert not spoofs.isna().any().any()
    cells = window_grid(spoofs, paths)
    assert (cells["repeats"] == 3).all()
    assert len(cells) == 3 * 6 * len(SCALES)


def test_at_the_calibrated_threshold_the_grid_is_the_verdict_of_the_runs(of_the_runs):
    """`within.all` of a run is the paper's verdict at Q = all; both counted from it, not read off the errors."""
    cells = window_grid(*of_the_runs).query("scale == 1").set_index(["attack", "spoof_steps"])["measured"]
    for (attack, steps), rows in PLAIN[PLAIN["attack"].isin(ATTACKS)].groupby(["attack", "spoof_steps"]):
        assert cells[ATTACKS[attack], steps] == (rows["within.all"].astype(str) == "True").sum()


def test_a_longer_path_is_finer_but_no_spoof_gets_far_below_its_threshold(of_the_runs):
    spoofs, paths = of_the_runs
    assert boundary(spoofs, paths).is_monotonic_decreasing
    cells = window_grid(spoofs, paths)
    assert cells.loc[cells["scale"] < 0.6, "measured"].sum() == 0
    assert cells.loc[np.isclose(cells["scale"], 0.25), "closed_form"].sum() > 0


@pytest.mark.parametrize("replayed", ["one", "most", "all"])
def test_a_published_spoof_is_judged_as_its_run_judged_it(replayed):
    """The recorded verdicts, from the recorded errors: with the buffers, and by the weights alone."""
    names = {shown: name for name, shown in ATTACKS.items()}
    recorded = PLAIN.set_index(["attack", "seed", "spoof_steps"])
    for parts, column in ((PARTS, "accepted"), (("weights",), "within")):
        judged = spoof_rows(RUNS, replayed=replayed, parts=parts)
        keys = [(names[row.attack], row.seed, row.spoof_steps) for row in judged.itertuples()]
        assert judged["accepted"].tolist() == recorded.loc[keys, f"{column}.{replayed}"].astype(bool).tolist()
        assert judged["cost"].tolist() == recorded.loc[keys, "share.floating_point_operations"].tolist()


def test_a_delta_that_rejects_nothing_bounds_nothing():
    """On colour images no δ of the buffers lies below d_ref: it is ∞, and an empty cell of the table."""
    runs = published("folder-32x32/runs")
    judged = spoof_rows(runs, task="folder:colour", parts=PARTS)
    made = runs[(runs["experiment"] == "spoof") & (runs["task"] == "folder:colour")]
    recorded = made.set_index(["attack", "seed", "spoof_steps"])["accepted.all"]
    names = {shown: name for name, shown in ATTACKS.items()}
    keys = [(names[row.attack], row.seed, row.spoof_steps) for row in judged.itertuples()]
    assert len(keys) > 3
    assert judged["accepted"].tolist() == recorded.loc[keys].astype(bool).tolist()


def test_without_a_delta_of_the_weights_nothing_is_accepted():
    lost = RUNS.copy()
    names = [name for name in lost if name.startswith("threshold.weights.")]
    lost.loc[(lost["experiment"] == "honest") & (lost["seed"] == 0), names] = None
    accepted = spoof_rows(lost, parts=PARTS).groupby("seed")["accepted"].sum()
    assert accepted[0] == 0
    assert (accepted.drop(0) > 0).all()


def test_a_published_spoofs_ratio_falls_as_delta_rises():
    once, twice = spoof_rows(RUNS, parts=PARTS), spoof_rows(RUNS, parts=PARTS, threshold_scale=2.0)
    assert twice["ratio"].tolist() == pytest.approx((once["ratio"] / 2).tolist())
    assert twice["accepted"].tolist() == (once["ratio"] <= 2).tolist()
