"""Spoofs from momenta that nobody has earned: what they write and cost, how near they land, what gives them away."""

import numpy as np
import pytest
import torch

import polkit as pk
from polkit.defences import straightness
from polkit.training.conditions import applied
from polkit.training.data import derive_seed
from polkit.training.step import Learner
from polkit.verifier.replay import interval_errors, reached_after, recorded_data

EXACT = pk.Conditions(precision="float64")


@pytest.fixture(scope="module")
def exact_spoof(small_task, small_proof, tmp_path_factory):
    """In float64, with room for many corrections: T' = 20, five intervals of k = 4."""
    out = tmp_path_factory.mktemp("momentum") / "spoof"
    return pk.borrowed_momentum(
        small_proof.final_weights(),
        small_task,
        spoof_steps=20,
        seed=1,
        corrections=8,
        conditions=EXACT,
        out=out,
        progress=False,
    )


def test_every_recorded_update_reproduces_and_the_last_model_is_the_claimed_one(exact_spoof, small_task, small_proof):
    final = small_proof.final_weights()
    last = exact_spoof.checkpoint(exact_spoof.steps)
    assert set(pk.distances(last.weights, final.weights).values()) == {0.0}
    rows = interval_errors(exact_spoof, small_task, EXACT, exact_spoof.checkpoint_steps[:-1], 0)
    errors = {row["start"]: row["error"] for row in rows if row["part"] == "weights" and row["distance"] == "l2"}
    missed = dict(zip(exact_spoof.trace()["step"], exact_spoof.trace()["missed"], strict=True))
    assert errors == pytest.approx(missed, rel=1e-3, abs=1e-6)
    assert errors[0] < 1e-6  # the first interval was trained; float32 is what is recorded
    crossed = pk.distances(exact_spoof.checkpoint(4).weights, last.weights)["l2"]
    assert max(errors.values()) < crossed / 20  # while one interval moves half of that


def test_w_0_is_fresh_and_its_momentum_zero_and_the_way_ends_two_intervals_early(exact_spoof, small_task):
    first = exact_spoof.checkpoint(0)
    assert pk.test_initialisation(small_task, first)["passed"].all()
    ends = [exact_spoof.checkpoint(step).weights for step in (12, 16, 20)]
    assert all(torch.equal(ends[0][name], other[name]) for other in ends[1:] for name in other)
    middle = {name: (exact_spoof.checkpoint(4).weights[name] + value) / 2 for name, value in ends[0].items()}
    assert pk.distances(exact_spoof.checkpoint(8).weights, middle)["l2"] < 1e-6


def test_the_images_are_the_data_sets_own(exact_spoof):
    assert exact_spoof.points() is None
    assert len(np.unique(exact_spoof.batches()[:4])) == 4 * 64


def test_the_momentum_is_not_the_one_that_the_interval_before_left(exact_spoof, small_task):
    """What a verifier would have to compare."""
    data = recorded_data(exact_spoof, EXACT)
    with applied(EXACT):
        learner = Learner(small_task, EXACT)
        reached = reached_after(learner, exact_spoof.checkpoint(4), data, 4, [4], 0)[4]
    recorded = exact_spoof.checkpoint(8)
    missed = pk.distances(recorded.momentum, reached.momentum)["l2"]
    zero = {name: torch.zeros_like(value) for name, value in recorded.momentum.items()}
    assert missed > 0.5 * pk.distances(recorded.momentum, zero)["l2"]


def test_more_corrections_land_nearer_and_cost_k_updates_each(small_task, small_proof, tmp_path):
    final, missed = small_proof.final_weights(), {}
    for corrections in (0, 2):
        spoof = pk.borrowed_momentum(
            final,
            small_task,
            spoof_steps=16,
            seed=1,
            corrections=corrections,
            out=tmp_path / str(corrections),
            progress=False,
        )
        assert spoof.counts() == {"update": 4 + 3 * 4 * (1 + corrections)}
        missed[corrections] = spoof.trace()["missed"].max()
    assert missed[2] < missed[0] / 2


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        ({}, {"spoof_steps": 12}, "T' = 12 steps are fewer than 4 intervals of k = 4"),
        ({}, {"spoof_steps": 18}, "no multiple of the checkpoint interval"),
        ({"momentum": 0.0}, {"spoof_steps": 16}, "trains without momentum"),
    ],
)
def test_what_it_cannot_do_is_one_sentence(changes, settings, message, small_task, small_proof, tmp_path):
    task = small_task.replace(**changes)
    with pytest.raises(ValueError, match=message):
        pk.borrowed_momentum(small_proof.final_weights(), task, out=tmp_path / "s", progress=False, **settings)
    (tmp_path / "there").mkdir()
    with pytest.raises(FileExistsError, match="exists already"):
        pk.borrowed_momentum(small_proof.final_weights(), small_task, spoof_steps=16, out=tmp_path / "there")


def test_the_crossing_can_leave_the_straight_path_and_start_anywhere(small_task, small_proof, tmp_path):
    final, budget = small_proof.final_weights(), {"spoof_steps": 28, "seed": 1, "progress": False}
    bent = pk.borrowed_momentum(
        final, small_task, out=tmp_path / "bent", off_path=0.6, corrections=8, conditions=EXACT, **budget
    )
    trained, beside, back = (bent.checkpoint(step).weights for step in (4, 8, 12))
    way = pk.distances(trained, final.weights)["l2"]
    straight = {name: value + (final.weights[name] - value) / 4 for name, value in trained.items()}
    assert pk.distances(beside, straight)["l2"] == pytest.approx(0.6 * way, rel=1e-3)
    straight = {name: value + (final.weights[name] - value) / 2 for name, value in trained.items()}
    assert pk.distances(back, straight)["l2"] < 1e-5 * way
    assert straightness(bent) < 0.6
    fresh = pk.borrowed_momentum(final, small_task, out=tmp_path / "fresh", fresh_start=True, **budget)
    drawn = pk.initial_checkpoint(small_task, derive_seed(1, "adversary"))
    assert set(pk.distances(fresh.checkpoint(0).weights, drawn.weights).values()) == {0.0}
    assert bent.digest != fresh.digest
