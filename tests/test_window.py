"""The spoofing window in closed form, against the path itself and against numbers worked out by hand."""

import dataclasses
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch

import polkit as pk
from polkit.experiments.window import (
    Attempt,
    attempt,
    measured_costs,
    path_errors,
    spoof_lengths,
    steps_per_update,
    window,
    window_edges,
)
from polkit.training import Checkpoint


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """`path_errors` of 93 lengths takes 6.6 s with two threads and 0.3 s with one while another process has a core."""
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


@pytest.mark.parametrize("iterations", [1, 10])
def test_a_step_of_a_spoof_costs_its_counted_operations(small_task, iterations):
    operations = {kind: unit.floating_point_operations for kind, unit in pk.unit_costs(small_task).items()}
    expected = (2 * operations["update"] + iterations * operations["objective"]) / operations["update"]
    found = steps_per_update(small_task, iterations)
    assert found["interpolation only"] == 1
    assert found["Attack II"] == found["Attack III"] == pytest.approx(expected)
    assert expected > 2 + iterations


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
    assert measured_costs({"a": made}, 16) == {"a": made.cost * 2}
    assert measured_costs({"a": made}, 16)["a"] == pytest.approx(steps_per_update(small_task)["interpolation only"])


def test_a_measured_cost_is_operations_per_step_in_updates():
    made = {"short": Attempt("a", 20, 4, None, 0.5), "long": Attempt("b", 400, 4, None, 0.1)}
    assert measured_costs(made, 1000) == pytest.approx({"short": 25.0, "long": 0.25})
