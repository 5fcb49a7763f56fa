"""Checks beyond Algorithm 2: what each of them sees, on numbers one can work out by hand and on real folders."""

import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

import polkit as pk
from polkit.defences import (
    adaptive_threshold,
    limits_of,
    mostly_within,
    relative_error,
    relative_limit,
    set_standards,
    speeds,
    straight_path,
    straightness,
    too_fast,
    within_limits,
)
from polkit.defences.checks import times_the_limit
from polkit.defences.standards import LOOSE
from polkit.experiments.matrix import COLUMNS, PUBLISHED, defence_matrix
from polkit.verifier import replay as evidence_room
from polkit.verifier.replay import Evidence, gather, interval_errors, spread_starts

REDRAWN = pk.Conditions(augmentation="redraw")


def seen(*rows):
    """Evidence from (start, part, distance, error, moved, replay_moved), intervals of 4 steps."""
    frame = pd.DataFrame(rows, columns=["start", "part", "distance", "error", "moved", "replay_moved"])
    frame.insert(1, "end", frame["start"] + 4)
    return Evidence(None, None, pk.Conditions(), frame)


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
    assert [finding.start for finding in found] == [4, 8]
    assert str(found[0]) == "adaptive: steps 4 to 8: l2 of the weights is 1.5, above 1 min(g, g') = 1"
    assert not adaptive_threshold(seen((4, "weights", "l2", 1.5, 2.0, 1.0)), alpha=1.5)


def test_the_relative_error_is_of_the_distance_as_recorded():
    rows = seen((0, "weights", "l1", 1.0, 4.0, 1.0), (4, "weights", "l2", 3.0, 4.0, 9.0))
    assert relative_limit(rows, margin=2) == 1.5
    assert [finding.start for finding in relative_error(rows, 0.5)] == [4]
    assert not relative_error(rows, 0.75)


def test_nan_is_within_no_limit_and_an_honest_zero_within_all():
    honest = seen(*((0, part, name, 0.0, 1.0, 1.0) for part in ("weights", "buffers") for name in pk.DISTANCES))
    limits = limits_of(honest)
    assert limits["weights"] == dict.fromkeys(pk.DISTANCES, 0.0)
    assert not within_limits(honest, limits)
    broken = seen((0, "weights", "l2", math.nan, math.nan, math.nan))
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
    both = seen(
        (0, "weights", "l1", 3.0, 1, 1),
        (0, "momentum", "cos", 8.0, 1, 1),
        (4, "weights", "l1", math.nan, 1, 1),
        (4, "momentum", "l1", 1.0, 1, 1),
    )
    times = times_the_limit(both, limits)
    assert times[0] == 3.0  # the cosine's multiple is 4, and its root 2
    assert math.isnan(times[4])
    nothing = {"weights": dict.fromkeys(pk.DISTANCES, 0.0)}
    assert times_the_limit(seen((0, "weights", "l1", 0.0, 1, 1)), nothing, ("weights",))[0] == 0
    assert times_the_limit(seen((0, "weights", "l1", 1e-9, 1, 1)), nothing, ("weights",))[0] == math.inf


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
    assert [finding.start for finding in too_fast(moved, task, 2.0)] == [4, 8]
    assert "moves 20 for each unit of learning rate, at most 2 may be" in str(too_fast(moved, task, 2.0)[0])


def test_evidence_has_the_errors_of_the_verifiers_own_replay(small_task, small_proof):
    found = gather(small_proof, small_task, REDRAWN, seed=3).intervals
    plain = pd.DataFrame(interval_errors(small_proof, small_task, REDRAWN, small_proof.checkpoint_steps[:-1], 3))
    keys = ["start", "end", "part", "distance"]
    both = plain.merge(found, on=keys, suffixes=("_plain", ""))
    assert len(both) == len(plain) == 4 * 2 * 4
    assert (both["error"] == both["error_plain"]).all()
    assert (both["error"] > 0).all()
    left, right = (small_proof.checkpoint(step).momentum for step in (4, 8))
    momentum = found[(found["part"] == "momentum") & (found["start"] == 4)].set_index("distance")
    assert momentum["moved"].to_dict() == pytest.approx(pk.distances(right, left), rel=1e-12)


def test_under_the_provers_own_conditions_the_whole_state_is_reproduced(small_task, small_proof):
    found = gather(small_proof, small_task, pk.Conditions(), workers=2).intervals
    assert set(found["part"]) == {"weights", "buffers", "momentum"}
    assert (found["error"] == 0).all()
    assert (found["replay_moved"] == found["moved"]).all()
    assert (found.loc[found["distance"] != "cos", "moved"] > 0).all()


def test_what_was_remembered_is_not_replayed_again(small_task, small_proof, monkeypatch):
    first = gather(small_proof, small_task, REDRAWN, [4, 8], remember=True)
    monkeypatch.setattr(evidence_room, "_rows", lambda *_: pytest.fail("replayed again"))
    again = gather(small_proof, small_task, REDRAWN, [4, 8], remember=True)
    pd.testing.assert_frame_equal(first.intervals, again.intervals, check_dtype=False)
    with pytest.raises(pytest.fail.Exception):
        gather(small_proof, small_task, REDRAWN, [4], remember=True)


def test_a_momentum_at_rest_or_borrowed_is_no_chain(small_task, small_proof, interpolated, tmp_path):
    exact, final = pk.Conditions(), small_proof.final_weights()
    generous = {part: dict.fromkeys(pk.DISTANCES, math.inf) for part in ("weights", "buffers")}
    limits = generous | {"momentum": dict.fromkeys(pk.DISTANCES, 1e-6)}
    parts = ("weights", "buffers", "momentum")
    assert not within_limits(gather(small_proof, small_task, exact), limits, parts)
    borrowed = pk.borrowed_momentum(final, small_task, spoof_steps=16, out=tmp_path / "s", progress=False)
    for spoof, broken in ((interpolated, {0, 4, 8, 12}), (borrowed, {0, 4, 8})):
        found = within_limits(gather(spoof, small_task, exact), limits, parts)
        assert {finding.start for finding in found} == broken
        assert all("of the momentum" in finding.detail for finding in found)


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


def test_honest_intervals_are_looked_at_where_errors_are_largest(small_proof):
    assert spread_starts(small_proof) == [0, 4, 8, 12]
    long = pk.Proof(small_proof.folder, small_proof.task, 4400, 10, {})
    starts = spread_starts(long)
    assert len(starts) == 30
    assert sum(start < 550 for start in starts) == 20
    assert np.diff(starts).min() >= 10
    assert starts[-1] >= 4000


def test_the_matrix_is_what_its_checks_say(small_task, small_proof, small_calibration, interpolated, tmp_path):
    final, generous = small_proof.final_weights(), small_calibration.scaled(100)
    claimed = pk.infinitesimal_update(final, small_task, spoof_steps=16, seed=1, out=tmp_path / "s", progress=False)
    spoofs = {"interpolation only": interpolated, "infinitesimal update": claimed}
    standards = set_standards(small_proof, generous)
    judged = defence_matrix(small_proof, spoofs, generous, standards)
    table = judged.accepted
    assert table.index.tolist() == ["honest proof", *spoofs]
    assert table["as published"].all()  # with a δ a hundred times too large
    assert table["η decided by the verifier"].tolist() == [True, True, False]
    assert table["path not straight"].tolist()[1:] == [False, False]
    assert table.loc["honest proof", "augmentation recorded"]
    assert not table.loc["interpolation only", "augmentation recorded"]
    assert table.columns.tolist() == [PUBLISHED, *COLUMNS]
    # These are 16 steps.
    needs_a_real_training = ["adaptive threshold", "accuracy trend", "memorised", "path not straight", "all"]
    assert table.loc["honest proof"].drop(needs_a_real_training).all()
    assert table["start from the seed"].tolist() == [True, False, False]  # a sorted W_0 is no draw
    assert table["data committed"].all()
    assert table["nothing perturbed"].all()  # neither spoof has changed an image
    assert table["T decided by the verifier"].all()  # all three have the task's 16 steps
    assert table["exact initial values"].all()
    assert table["recommended"].tolist() == [True, False, False]
    assert (table["recommended"] == table["recommended, any T'"]).all()
    assert judged.errors["honest proof"]["loose"] <= 1 / LOOSE  # the limit was set on these very intervals
    # Multiples of a δ of 50 honest errors or more, which are larger on one processor than on another.
    assert judged.errors["honest proof"]["tight"] <= 1
    assert judged.errors["interpolation only"]["tight"] > max(1, 100 * judged.errors["honest proof"]["tight"])
    replayed = small_task.replace(learning_rate=1e-9)
    for name, folder, task in (
        ("interpolation only", interpolated, small_task),
        ("infinitesimal update", claimed, replayed),
    ):
        alone = adaptive_threshold(gather(folder, task, REDRAWN))
        assert table.loc[name, "adaptive threshold"] == (not alone)
    strict = defence_matrix(small_proof, spoofs, small_calibration.scaled(1e-6), standards).accepted
    beneath = strict.drop(columns=["recommended", "recommended, any T'"])  # which do not stand on the paper's check
    assert not beneath.to_numpy().any()  # no defence accepts what the verifier beneath it rejects
    assert strict["recommended"].equals(table["recommended"])
