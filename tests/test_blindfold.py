"""Blindfold top-Q: the intervals that are looked at reproduce to the last bit, and only those."""

import math

import numpy as np
import pytest
from scipy.stats import hypergeom

import polkit as pk
from polkit.adversary.momentum import shortest_blindfold
from polkit.defences import detection_probability, random_starts
from polkit.verifier import STATE
from polkit.verifier.replay import replay

EXACT = pk.Conditions()


@pytest.fixture(scope="module")
def spoof(small_task, small_proof, tmp_path_factory):
    """S = 4 and k = 2: two intervals in an epoch, T' = 12 has three epochs."""
    task = small_task.replace(checkpoint_interval=2)
    out = tmp_path_factory.mktemp("blindfold") / "spoof"
    return pk.blindfold_top_q(small_proof.final_weights(), task, spoof_steps=12, seed=1, out=out, progress=False)


@pytest.fixture(scope="module")
def calibration(small_task, tmp_path_factory):
    task, folder = small_task.replace(checkpoint_interval=2), tmp_path_factory.mktemp("blindfold")
    proof = pk.prove(task, 0, out=folder / "proof", progress=False)
    return pk.calibrate(proof, replays=2, workers=1, out=folder / "calibration.json", progress=False)


def test_real_and_made_up_intervals_take_turns_and_the_real_ones_are_the_largest(spoof):
    trace = spoof.trace()
    assert trace["real"].tolist() == [True, False] * 3
    moved = trace["moved"].to_numpy()
    assert (moved[1::2] <= 0.5 * moved[::2] * (1 + 1e-6)).all()
    recorded = [
        pk.distances(spoof.checkpoint(start + 2).weights, spoof.checkpoint(start).weights)["l2"]
        for start in trace["step"]
    ]
    assert recorded == pytest.approx(moved.tolist(), abs=1e-5)


def test_top_q_replays_the_real_ones_which_end_in_their_recorded_state_bit_for_bit(spoof, calibration):
    blind = pk.verify(spoof, calibration, top_q=1)
    assert sorted(set(blind.intervals["start"])) == [0, 4, 8]
    exact = replay(spoof, spoof.task, EXACT, [0, 4, 8], parts=STATE)
    assert set(exact["part"]) == {"weights", "buffers", "momentum"}
    assert (exact["error"] == 0).all()
    everything = replay(spoof, spoof.task, EXACT, [2, 6, 10], parts=STATE)
    assert (everything.loc[everything["distance"] == "l2", "error"] > 0).all()


def test_it_ends_at_the_claimed_model_and_starts_from_a_fresh_draw(spoof, small_proof):
    final, last = small_proof.final_weights(), spoof.checkpoint(12)
    for part in ("weights", "buffers"):
        assert set(pk.distances(last.parts()[part], final.parts()[part]).values()) == {0.0}
    assert pk.test_initialisation(spoof.task, spoof.checkpoint(0))["passed"].all()


def test_made_up_intervals_cost_nothing(spoof):
    assert spoof.counts() == {"update": 2 + 2 * 2 * 3}  # one trained, two pushed with two corrections each


def test_a_verifier_who_draws_lots_sees_it_at_the_rate_of_the_formula(spoof):
    made_up = set(spoof.trace().loc[~spoof.trace()["real"], "step"])
    draws = 3000
    for looked_at in (1, 2, 3):
        seen = np.mean([bool(made_up & set(random_starts(spoof, looked_at, seed))) for seed in range(draws)])
        expected = detection_probability(6, 3, looked_at)
        assert abs(seen - expected) < 4 * math.sqrt(expected * (1 - expected) / draws), looked_at
    assert detection_probability(6, 3, 1) == 0.5
    assert detection_probability(6, 3, 4) == 1
    assert detection_probability(440, 0, 10) == 0
    for forgiven in (0, 3, 12):
        tail = hypergeom(440, 90, 60).sf(forgiven)
        assert detection_probability(440, 90, 60, forgiven) == pytest.approx(tail, rel=1e-9)
    assert random_starts(spoof, 6, 0) == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"spoof_steps": 4}, "lie within one epoch of S = 4"),
        ({"spoof_steps": 6}, "epoch 1 has 1 intervals in T' = 6 steps: 1 real and 1 made-up ones need 2"),
        ({"spoof_steps": 8, "top_q": 2}, "2 real and 2 made-up ones need 4"),
    ],
)
def test_what_has_no_room_is_one_sentence(settings, message, small_task, small_proof, tmp_path):
    task = small_task.replace(checkpoint_interval=2)
    with pytest.raises(ValueError, match=message):
        pk.blindfold_top_q(small_proof.final_weights(), task, out=tmp_path / "s", progress=False, **settings)


def test_no_more_intervals_are_drawn_than_there_are(spoof):
    with pytest.raises(ValueError, match="7 intervals cannot be drawn from the 6 of this proof"):
        random_starts(spoof, 7, 0)


def test_the_shortest_blindfold_is_the_shortest(small_task, small_proof, tmp_path):
    for interval, top_q, least in ((1, 1, 6), (1, 2, 8), (2, 1, 8)):
        task = small_task.replace(checkpoint_interval=interval)
        assert shortest_blindfold(task, top_q) == least
        settings = {"top_q": top_q, "corrections": 0, "progress": False}
        final = small_proof.final_weights()
        made = pk.blindfold_top_q(final, task, spoof_steps=least, out=tmp_path / f"{interval}-{top_q}", **settings)
        assert made.trace()["real"].sum() == 2 * top_q
        with pytest.raises(ValueError, match="need|lie within one epoch"):
            pk.blindfold_top_q(final, task, spoof_steps=least - interval, out=tmp_path / "s", **settings)
    assert shortest_blindfold(small_task.replace(checkpoint_interval=3)) is None
    assert shortest_blindfold(pk.task("digits")) == 50
