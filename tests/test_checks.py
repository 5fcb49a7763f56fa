"""Checks beyond Algorithm 2: what each of them sees, on numbers one can work out by hand and on real folders."""

import math
from itertools import pairwise

import pandas as pd
import pytest

import polkit as pk
from polkit.defences.checks import (
    adaptive_threshold,
    limits_of,
    mostly_within,
    relative_error,
    relative_limit,
    speeds,
    straight_path,
    straightness,
    too_fast,
    within_limits,
)
from polkit.verifier import STATE
from polkit.verifier.replay import replay


def seen(*rows):
    """Replayed rows from (start, part, distance, error, moved, replay_moved), intervals of 4 steps."""
    frame = pd.DataFrame(rows, columns=["start", "part", "distance", "error", "moved", "replay_moved"])
    return frame.assign(end=frame["start"] + 4)


@pytest.fixture(scope="module")
def interpolated(small_task, small_proof, tmp_path_factory):
    out = tmp_path_factory.mktemp("defences") / "spoof"
    return pk.interpolation_only(
        small_proof.final_weights(), small_task, spoof_steps=16, seed=1, out=out, progress=False
    )


def test_fangs_threshold_is_the_smaller_of_the_two_updates():
    found = adaptive_threshold(
        seen(
            (0, "weights", "l2", 1.0, 1.0, 2.0),
            (4, "weights", "l2", 1.5, 2.0, 1.0),
            (8, "weights", "linf", 0.9, 0.0, 3.0),
            (12, "weights", "cos", 9.0, 0.0, 0.0),
            (16, "buffers", "l2", 9.0, 0.0, 0.0),
        )
    )
    assert [reason.step for reason in found] == [4, 8]
    assert str(found[0]) == "adaptive: steps 4 to 8: l2 of the weights is 1.5, above min(g, g') = 1"


def test_the_relative_error_is_of_the_distance_as_recorded():
    rows = seen((0, "weights", "l1", 1.0, 4.0, 1.0), (4, "weights", "l2", 3.0, 4.0, 9.0))
    assert relative_limit(rows, margin=2) == 1.5
    assert [reason.step for reason in relative_error(rows, 0.5)] == [4]
    assert not relative_error(rows, 0.75)


def test_nan_is_within_no_limit_and_an_honest_zero_within_all():
    honest = seen(*((0, part, name, 0.0, 1.0, 1.0) for part in ("weights", "buffers") for name in pk.DISTANCES))
    limits = limits_of(honest, margin=1.5)
    assert limits["weights"] == dict.fromkeys(pk.DISTANCES, 0.0)
    assert not within_limits(honest, limits)
    broken = seen((0, "weights", "l2", math.nan, math.nan, math.nan))
    with pytest.raises(ValueError, match="no finite number: no limit can be set by it"):
        limits_of(pd.concat([honest, broken]), margin=1.5)
    assert len(within_limits(broken, limits)) == len(adaptive_threshold(broken)) == len(relative_error(broken, 9)) == 1


def test_the_tight_limit_forgives_a_share_of_the_intervals_and_no_more():
    limits = {"weights": dict.fromkeys(pk.DISTANCES, 1.0), "momentum": dict.fromkeys(pk.DISTANCES, 2.0)}
    rows = [(4 * number, "weights", "l2", 0.5, 1.0, 1.0) for number in range(8)]
    rows += [(32, "momentum", "l2", 2.1, 1.0, 1.0), (36, "weights", "l2", math.nan, 1.0, 1.0)]
    found = seen(*rows)
    assert not mostly_within(found, limits, 0.2)
    assert str(mostly_within(found, limits, 0.19)[0]) == (
        "tight: 2 of 10 intervals are above the tight δ, at most 1 may be"
    )


def test_a_cosine_distance_has_the_square_of_a_margin_and_a_quantile_leaves_the_worst_out():
    errors = [1.0, 2.0, 3.0, 4.0, 100.0]
    rows = seen(
        *(
            (4 * number, "weights", name, error, 1.0, 1.0)
            for number, error in enumerate(errors)
            for name in pk.DISTANCES
        )
    )
    assert limits_of(rows, margin=3)["weights"] == {"l1": 300, "l2": 300, "linf": 300, "cos": 900}
    assert limits_of(rows, margin=1, quantile=0.75)["weights"] == dict.fromkeys(pk.DISTANCES, 4.0)


def test_speed_is_the_way_for_each_unit_of_learning_rate(small_task):
    task = small_task.replace(learning_rate=0.1, milestones=(1, 2), learning_rate_drop=10.0)  # S = 4
    moved = pd.DataFrame({"start": [0, 2, 4, 8], "end": [2, 4, 6, 10], "magnitude": [0.4, 0.2, 0.4, math.nan]})
    assert speeds(moved, task).to_dict() == pytest.approx({0: 2, 2: 1, 4: 20, 8: math.nan}, nan_ok=True)
    assert [reason.step for reason in too_fast(moved, task, 2.0)] == [4, 8]
    assert "moves 20 for each unit of learning rate, at most 2 may be" in str(too_fast(moved, task, 2.0)[0])


def test_a_momentum_at_rest_or_borrowed_is_no_chain(small_task, small_proof, interpolated, tmp_path):
    exact, final = pk.Conditions(), small_proof.final_weights()
    generous = {part: dict.fromkeys(pk.DISTANCES, math.inf) for part in ("weights", "buffers")}
    limits = generous | {"momentum": dict.fromkeys(pk.DISTANCES, 1e-6)}
    assert not within_limits(replay(small_proof, small_task, exact, parts=STATE), limits, STATE)
    borrowed = pk.borrowed_momentum(final, small_task, spoof_steps=16, out=tmp_path / "s", progress=False)
    for spoof, broken in ((interpolated, {0, 4, 8, 12}), (borrowed, {0, 4, 8})):
        found = within_limits(replay(spoof, small_task, exact, parts=STATE), limits, STATE)
        assert {reason.step for reason in found} == broken
        assert all("of the momentum" in reason.detail for reason in found)


def test_a_drawn_path_is_straight_and_a_training_is_not(small_proof, interpolated):
    assert straightness(interpolated) == pytest.approx(1, abs=1e-6)
    wandering = straightness(small_proof)
    chain = [small_proof.checkpoint(step).weights for step in (0, 4, 8, 12, 16)]
    pieces = [pk.distances(a, b)["l2"] for a, b in pairwise(chain)]
    assert wandering == pytest.approx(pk.distances(chain[0], chain[-1])["l2"] / sum(pieces))
    assert wandering < 0.95
    assert not straight_path(small_proof, 0.95)
    assert str(straight_path(interpolated, 0.95)[0]) == (
        "straight: the checkpoints' way is 100% straight, at most 95% is allowed"
    )
