"""Spoofs with a seam: what is real in front of it, what is not behind it, and who sees it."""

import pytest

import polkit as pk
from polkit.experiments.evasion import concatenation, non_finite
from polkit.verifier.replay import interval_errors

BUDGET = {"spoof_steps": 16, "seed": 1, "progress": False}


@pytest.fixture(scope="module")
def spoofs(small_task, small_proof, tmp_path_factory):
    folder, final = tmp_path_factory.mktemp("patchwork"), small_proof.final_weights()
    return {
        make.__name__: make(final, small_task, out=folder / make.__name__, **BUDGET)
        for make in (concatenation, non_finite)
    }


@pytest.mark.parametrize("name", ["concatenation", "non_finite"])
def test_the_first_half_is_a_training_and_the_last_model_is_the_claimed_one(name, spoofs, small_task, small_proof):
    spoof = spoofs[name]
    assert {row["error"] for row in interval_errors(spoof, small_task, pk.Conditions(), [0, 4], 0)} == {0.0}
    assert pk.test_initialisation(small_task, spoof.checkpoint(0))["passed"].all()
    final = small_proof.final_weights()
    assert set(pk.distances(spoof.checkpoint(16).weights, final.weights).values()) == {0.0}
    assert spoof.counts() == {"update": 8}
    update = pk.unit_costs(small_task)["update"].floating_point_operations
    assert spoof.cost().floating_point_operations == 8 * update


def test_only_the_seam_of_a_concatenation_jumps(spoofs, small_calibration):
    spoof = spoofs["concatenation"]
    verdict = pk.verify(spoof, small_calibration, top_q="all")
    errors = verdict.intervals[(verdict.intervals["part"] == "weights") & (verdict.intervals["distance"] == "l2")]
    errors = errors.set_index("start")["normalised_error"]
    assert errors.idxmax() == 8
    assert errors[8] > 0.5  # nearly as far as two models that were trained apart
    assert errors[12] < errors[8] / 3
    assert not verdict.accepted
    assert not verdict.at(1).accepted  # the seam is the largest update of its epoch
    rest = spoof.checkpoint(12), spoof.checkpoint(16)
    assert set(pk.distances(rest[0].weights, rest[1].weights).values()) == {0.0}


def test_nan_is_no_distance_below_delta(spoofs, small_calibration):
    verdict = pk.verify(spoofs["non_finite"], small_calibration.scaled(1e9), top_q="all")
    assert not verdict.accepted
    assert "not finite" in {reason.kind for reason in verdict.reasons}
    found = [str(reason) for reason in verdict.reasons if reason.kind == "not finite"]
    assert "12.safetensors: weights." in found[0]


@pytest.mark.parametrize("make", [concatenation, non_finite])
def test_one_interval_has_no_seam(make, small_task, small_proof):
    with pytest.raises(ValueError, match="T' = 4 steps are fewer than two intervals of k = 4: there is no seam"):
        make(small_proof.final_weights(), small_task, spoof_steps=4)


def test_a_finished_one_is_not_made_again(small_task, small_proof):
    final = small_proof.final_weights()
    first = concatenation(final, small_task, **BUDGET)
    assert concatenation(final, small_task, **BUDGET).digest == first.digest
    assert non_finite(final, small_task, **BUDGET).folder != first.folder
