"""Spoofs against verifiers that replay only some intervals: what is real in them, and what a random draw sees."""

import math

import numpy as np
import pytest
from scipy.stats import hypergeom

import polkit as pk
from polkit.defences import CommittedData, derived_start, detection_probability, random_starts
from polkit.experiments.evasion import (
    concatenation,
    crossing_in_hops,
    crossing_length,
    hidden_crossing,
    non_finite,
    shortest_blindfold,
)
from polkit.training.data import derive_seed
from polkit.verifier.replay import STATE, interval_errors, replay


@pytest.fixture(scope="module")
def task_of_2(small_task):
    return small_task.replace(checkpoint_interval=2)  # S = 4, T = 16


def test_all_but_the_intervals_around_the_jump_are_real(task_of_2, small_proof, tmp_path):
    final, adversary = small_proof.final_weights(), derive_seed(1, "adversary")
    spoof = hidden_crossing(final, task_of_2, spoof_steps=16, seed=1, out=tmp_path / "s", progress=False)
    found = replay(spoof, task_of_2, pk.Conditions(), parts=STATE)
    errors = found.groupby("start")["error"].max()
    assert set(errors[errors > 0].index) == {10, 14}
    moved = found[(found["part"] == "weights") & (found["distance"] == "l2")].set_index("start")["moved"]
    assert moved[10] == 0  # it only claims a momentum
    assert moved.idxmax() == 12
    assert spoof.trace()["moved"].item() == pytest.approx(moved[12])
    last, wanted = spoof.checkpoint(16).parts(), final.parts()
    assert all(pk.distances(last[part], wanted[part])["linf"] == 0 for part in ("weights", "buffers"))
    assert not derived_start(spoof, task_of_2, CommittedData(pk.training_points(task_of_2)).commitment, adversary)


def test_the_landing_must_not_be_alone_in_its_epoch(task_of_2, small_proof, tmp_path):
    assert crossing_length(task_of_2, 9) == 12
    assert crossing_length(pk.task("digits"), 4400) == 4400  # so that it stands where T' = T is asked for
    assert crossing_length(task_of_2.replace(checkpoint_interval=4), 4) is None
    with pytest.raises(ValueError, match=r"T' = 14 steps are no crossing of k = 2: it takes 4 intervals or more"):
        hidden_crossing(small_proof.final_weights(), task_of_2, spoof_steps=14, out=tmp_path / "s", progress=False)
    with pytest.raises(ValueError, match="without momentum or a learning rate: there is nothing to borrow"):
        hidden_crossing(small_proof.final_weights(), task_of_2.replace(momentum=0.0), spoof_steps=16, progress=False)


def test_a_crossing_in_hops_trains_hops_and_trains_again(small_task, small_proof, tmp_path):
    """k = 1: two trained intervals, three hops, and the rate drops at step 8; the gap is closed over the eight left."""
    task, final = small_task.replace(checkpoint_interval=1), small_proof.final_weights()
    spoof = crossing_in_hops(final, task, hops=3, spoof_steps=16, seed=1, out=tmp_path / "s", progress=False)
    found = replay(spoof, task, pk.Conditions(), parts=STATE)
    errors = found.groupby("start")["error"].max()
    assert set(errors[errors == 0].index) == {0, 1, 3, 5, 7}
    l2 = found[found["distance"] == "l2"].pivot(index="start", columns="part", values="error")
    assert (l2.loc[[2, 4, 6], "momentum"] > 0).all()
    assert (l2.loc[8:, "momentum"] == 0).all()  # after the hops nothing but the weights is touched up
    moved = found[(found["part"] == "weights") & (found["distance"] == "l2")].set_index("start")["moved"]
    assert (moved[[2, 4, 6]] == 0).all()
    assert spoof.trace()["step"].tolist() == [3, 5, 7]
    assert spoof.trace()["moved"].tolist() == pytest.approx(moved[[3, 5, 7]].tolist())
    left = [pk.distances(spoof.checkpoint(step).weights, final.weights)["l2"] for step in (2, 4, 6, 8, 16)]
    assert left == sorted(left, reverse=True)
    assert left[-1] == 0
    assert pk.distances(spoof.checkpoint(16).buffers, final.buffers)["linf"] == 0
    commitment = CommittedData(pk.training_points(spoof.task)).commitment
    assert not derived_start(spoof, spoof.task, commitment, derive_seed(1, "adversary"))
    assert spoof.counts() == {"update": 2 + 3 * 3 + 8}  # a push is tried three times


def test_hops_need_room_before_the_rate_drops(small_task, small_proof, tmp_path):
    task, final = small_task.replace(checkpoint_interval=1), small_proof.final_weights()
    most = crossing_in_hops(final, task, spoof_steps=9, out=tmp_path / "s", progress=False)
    assert most.trace()["step"].tolist() == [3, 5, 7]  # of fourteen
    for changes, settings in (
        ({}, {"spoof_steps": 8}),
        ({}, {"hops": 0, "spoof_steps": 16}),
        ({"checkpoint_interval": 4}, {"spoof_steps": 16}),
    ):
        with pytest.raises(ValueError, match=f"no room for a hop in T' = {settings['spoof_steps']}"):
            crossing_in_hops(final, task.replace(**changes), out=tmp_path / "t", progress=False, **settings)


@pytest.fixture(scope="module")
def blindfold(task_of_2, small_proof, tmp_path_factory):
    """S = 4 and k = 2: two intervals in an epoch, T' = 12 has three epochs."""
    out = tmp_path_factory.mktemp("blindfold") / "spoof"
    return pk.blindfold_top_q(small_proof.final_weights(), task_of_2, spoof_steps=12, seed=1, out=out, progress=False)


@pytest.fixture(scope="module")
def calibration(task_of_2, tmp_path_factory):
    folder = tmp_path_factory.mktemp("blindfold")
    proof = pk.prove(task_of_2, 0, out=folder / "proof", progress=False)
    return pk.calibrate(proof, replays=2, workers=1, out=folder / "calibration.json", progress=False)


def test_real_and_made_up_intervals_take_turns_and_the_real_ones_are_the_largest(blindfold):
    trace = blindfold.trace()
    assert trace["real"].tolist() == [True, False] * 3
    moved = trace["moved"].to_numpy()
    assert (moved[1::2] <= 0.5 * moved[::2] * (1 + 1e-6)).all()
    recorded = [
        pk.distances(blindfold.checkpoint(start + 2).weights, blindfold.checkpoint(start).weights)["l2"]
        for start in trace["step"]
    ]
    assert recorded == pytest.approx(moved.tolist(), abs=1e-5)


def test_top_q_replays_the_real_ones_which_end_in_their_recorded_state_bit_for_bit(blindfold, calibration):
    blind = pk.verify(blindfold, calibration, top_q=1)
    assert sorted(set(blind.intervals["start"])) == [0, 4, 8]
    exact = replay(blindfold, blindfold.task, pk.Conditions(), [0, 4, 8], parts=STATE)
    assert set(exact["part"]) == {"weights", "buffers", "momentum"}
    assert (exact["error"] == 0).all()
    everything = replay(blindfold, blindfold.task, pk.Conditions(), [2, 6, 10], parts=STATE)
    assert (everything.loc[everything["distance"] == "l2", "error"] > 0).all()


def test_it_ends_at_the_claimed_model_and_starts_from_a_fresh_draw(blindfold, small_proof):
    final, last = small_proof.final_weights(), blindfold.checkpoint(12)
    for part in ("weights", "buffers"):
        assert set(pk.distances(last.parts()[part], final.parts()[part]).values()) == {0.0}
    assert pk.test_initialisation(blindfold.task, blindfold.checkpoint(0))["passed"].all()


def test_made_up_intervals_cost_nothing(blindfold):
    assert blindfold.counts() == {"update": 2 + 2 * 2 * 3}  # one trained, two pushed with two corrections each


def test_a_verifier_who_draws_lots_sees_it_at_the_rate_of_the_formula(blindfold):
    made_up = set(blindfold.trace().loc[~blindfold.trace()["real"], "step"])
    draws = 3000
    for looked_at in (1, 2, 3):
        seen = np.mean([bool(made_up & set(random_starts(blindfold, looked_at, seed))) for seed in range(draws)])
        expected = detection_probability(6, 3, looked_at)
        assert abs(seen - expected) < 4 * math.sqrt(expected * (1 - expected) / draws), looked_at
    assert detection_probability(6, 3, 1) == 0.5
    assert detection_probability(6, 3, 4) == 1
    assert detection_probability(440, 0, 10) == 0
    assert detection_probability(440, 90, 60) == pytest.approx(hypergeom(440, 90, 60).sf(0), rel=1e-9)
    assert random_starts(blindfold, 6, 0) == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"spoof_steps": 4}, "lie within one epoch of S = 4"),
        ({"spoof_steps": 6}, "epoch 1 has one interval in T' = 6 steps: a real and a made-up one need two"),
    ],
)
def test_what_has_no_room_is_one_sentence(settings, message, task_of_2, small_proof, tmp_path):
    with pytest.raises(ValueError, match=message):
        pk.blindfold_top_q(small_proof.final_weights(), task_of_2, out=tmp_path / "s", progress=False, **settings)


def test_no_more_intervals_are_drawn_than_there_are(blindfold):
    with pytest.raises(ValueError, match="7 intervals cannot be drawn from the 6 of this proof"):
        random_starts(blindfold, 7, 0)


def test_the_shortest_blindfold_is_the_shortest(small_task, small_proof, tmp_path):
    final = small_proof.final_weights()
    for interval, least in ((1, 6), (2, 8)):
        task = small_task.replace(checkpoint_interval=interval)
        assert shortest_blindfold(task) == least
        made = pk.blindfold_top_q(final, task, spoof_steps=least, out=tmp_path / str(interval), progress=False)
        assert made.trace()["real"].sum() == 2
        with pytest.raises(ValueError, match="need|lie within one epoch"):
            pk.blindfold_top_q(final, task, spoof_steps=least - interval, out=tmp_path / "s", progress=False)
    assert shortest_blindfold(small_task.replace(checkpoint_interval=3)) is None
    assert shortest_blindfold(pk.task("digits")) == 50


# ---- a seam: what is real in front of it, what is not behind it, and who sees it ----

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
