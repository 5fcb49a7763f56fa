"""Sources of noise, how it grows with the steps replayed, and what a verdict would be with another k or other δ."""

import dataclasses

import pandas as pd
import pytest

import polkit as pk
from polkit.experiments import noise
from polkit.experiments.noise import (
    calibration_for_interval,
    error_growth,
    growth_steps,
    noise_sources,
    verdict_at_interval,
)
from polkit.proof import ProofError
from polkit.proof.folder import proof_points
from polkit.training.conditions import applied
from polkit.training.data import derive_seed
from polkit.training.step import PARTS, Learner
from polkit.verifier.inspection import Reason
from polkit.verifier.replay import interval_errors

OWN = pk.Conditions()
REDRAWN = OWN.replace(augmentation="redraw")
COLUMNS = ["source", "start", "steps", "part", "distance", "error"]


@pytest.fixture(scope="module")
def growth(small_proof):
    """From W_0 and W_4, a quarter of the training, after 1, 2, 4 and 8 steps."""
    return error_growth(small_proof, {"nothing": OWN, "redrawn": REDRAWN}, steps=[1, 2, 4, 8])


@pytest.fixture(scope="module")
def everything(small_proof, small_calibration):
    return pk.verify(small_proof, small_calibration, top_q="all")


def test_the_sources_differ_from_the_verifiers_conditions_in_one_thing_each():
    sources = noise_sources(REDRAWN)
    assert sources.pop("nothing") == OWN
    assert sources.pop("redrawn augmentation") == REDRAWN
    for name, conditions in sources.items():
        mine, exact = conditions.to_json(), OWN.to_json()
        assert len([field for field in mine if mine[field] != exact[field]]) == 1, name


def test_a_replay_that_changes_nothing_errs_by_exactly_zero(growth):
    errors = growth[growth["source"] == "nothing"]
    assert len(errors) == 2 * 4 * len(PARTS) * len(pk.DISTANCES)
    assert errors["error"].eq(0).all()


def test_every_row_of_the_growth_is_there_once(growth):
    assert list(growth.columns) == COLUMNS
    assert len(growth) == 2 * 2 * 4 * 2 * 4
    assert not growth.duplicated(["source", "start", "steps", "part", "distance"]).any()
    assert set(growth["start"]) == {0, 4}
    assert set(growth["steps"]) == {1, 2, 4, 8}


@pytest.mark.parametrize("start", [0, 4])
def test_after_k_steps_the_growth_is_the_replay_of_an_interval(growth, small_proof, small_task, start):
    expected = interval_errors(small_proof, small_task, REDRAWN, [start], seed=0)
    rows = growth[(growth["source"] == "redrawn") & (growth["start"] == start) & (growth["steps"] == 4)]
    found = rows.set_index(["part", "distance"])["error"].to_dict()
    # The threads that sum a distance may differ, and 1 - cos θ keeps the last digits of a sum near 1.
    assert found == pytest.approx({(row["part"], row["distance"]): row["error"] for row in expected}, rel=1e-9)
    assert min(found["weights", name] for name in pk.DISTANCES) > 0


def test_the_growth_does_not_depend_on_which_steps_are_looked_at(growth, small_proof):
    alone = error_growth(small_proof, {"redrawn": REDRAWN}, steps=[2])
    rows = growth[(growth["source"] == "redrawn") & (growth["steps"] == 2)]
    pd.testing.assert_frame_equal(alone, rows.reset_index(drop=True))


def test_more_steps_than_the_proof_has_are_refused(small_proof):
    with pytest.raises(ValueError, match="a proof of T = 16 steps has not 13 of them after step 4"):
        error_growth(small_proof, {"nothing": OWN}, steps=[1, 13])


def test_steps_whose_augmentation_nobody_recorded_cannot_be_made_again(copied):
    (copied.folder / "augmentation.npy").unlink()
    with pytest.raises(ProofError, match="augmentation.npy"):
        error_growth(copied, {"nothing": OWN}, steps=[1])


@pytest.mark.parametrize(
    ("steps", "k", "expected"),
    [
        (16, 4, [1, 2, 4]),
        (4400, 10, [1, 2, 5, 10, 20, 50]),
        (100, 10, [1, 2, 5, 10, 20]),
        (36, 3, [1, 2, 3, 5]),
        (40, 40, [1, 2, 5, 10, 20, 40]),
        (156_000, 100, [1, 2, 5, 10, 20, 50, 100]),
    ],
)
def test_the_growth_is_looked_at_after_k_steps_and_up_to_fifty(small_proof, steps, k, expected):
    assert growth_steps(dataclasses.replace(small_proof, steps=steps, checkpoint_interval=k)) == expected


def test_the_growth_is_remembered_with_the_steps_that_it_looks_at_by_itself(small_proof, monkeypatch):
    found = error_growth(small_proof, {"nothing": OWN})
    assert set(found["start"]) == {0, 4}
    assert set(found["steps"]) == {1, 2, 4}
    monkeypatch.setattr(noise, "reached_after", None)  # nothing is replayed again
    pd.testing.assert_frame_equal(error_growth(small_proof, {"nothing": OWN}), found)


def plain_replay(proof, conditions, start, end, seed):
    """From the recorded W_start to W'_end, against the recorded W_end, step by step."""
    points, batches = proof_points(proof), proof.batches()
    with applied(conditions):
        learner = Learner(proof.task, conditions)
        learner.load(proof.checkpoint(start))
        for step in range(start, end):
            drawn = derive_seed(seed, "redraw", step)
            learner.update(points.take(batches[step]), step=step, augmentation_seed=drawn)
        reached = learner.snapshot()
    return {part: pk.distances(proof.checkpoint(end).parts()[part], reached.parts()[part]) for part in PARTS}


@pytest.mark.parametrize("interval", [8, 16])
def test_a_larger_k_is_replayed_from_checkpoint_to_checkpoint(everything, small_proof, small_calibration, interval):
    wider = verdict_at_interval(everything, small_proof, small_calibration, interval)
    assert sorted(set(wider.intervals["start"])) == list(range(0, 16, interval))
    for start in range(0, 16, interval):
        expected = plain_replay(small_proof, small_calibration.conditions, start, start + interval, seed=0)
        rows = wider.intervals[wider.intervals["start"] == start]
        assert set(rows["end"]) == {start + interval}
        assert set(rows["epoch"]) == {start // 4}
        for part in PARTS:
            found = rows[rows["part"] == part].set_index("distance")
            assert found["error"].to_dict() == pytest.approx(expected[part], rel=1e-9)
            assert found["threshold"].to_dict() == small_calibration.thresholds[part]
            assert found["passed"].to_dict() == {
                name: error <= small_calibration.thresholds[part][name] for name, error in expected[part].items()
            }
    above = wider.intervals[~wider.intervals["passed"].astype(bool)]
    assert sorted(reason.step for reason in wider.reasons) == sorted(above["start"])
    assert wider.accepted == above.empty


@pytest.mark.parametrize("interval", [2, 6, 10])
def test_a_k_without_its_checkpoints_is_refused(everything, small_proof, small_calibration, interval):
    with pytest.raises(ValueError, match=f"k = {interval} is no multiple of 4"):
        verdict_at_interval(everything, small_proof, small_calibration, interval)


def test_a_short_patience_still_replays_two_intervals_spread_over_the_training(
    everything, small_proof, small_calibration, monkeypatch
):
    whole = verdict_at_interval(everything, small_proof, small_calibration, 4)
    mine, theirs = (v.intervals.set_index(["start", "part", "distance"])["error"] for v in (whole, everything))
    assert mine.to_dict() == theirs.to_dict()
    assert whole.cost.floating_point_operations == everything.cost.floating_point_operations
    monkeypatch.setattr(noise, "STEPS_REPLAYED", 4)
    short = verdict_at_interval(everything, small_proof, small_calibration, 4)
    assert sorted(set(short.intervals["start"])) == [0, 8]


def test_what_else_was_wrong_with_a_proof_is_wrong_with_a_larger_k_too(everything, small_proof, small_calibration):
    bad = dataclasses.replace(everything, accepted=False, reasons=(Reason("signature", "the batch of step 3"),))
    wider = verdict_at_interval(bad, small_proof, small_calibration.scaled(1e6), 8)
    assert (wider.accepted, wider.reasons) == (False, bad.reasons)


def test_another_k_scales_every_threshold_by_the_measured_growth(growth, small_calibration):
    redrawn = growth[growth["source"] == "redrawn"]
    wider = calibration_for_interval(small_calibration, redrawn, 8)
    assert wider.task == small_calibration.task.replace(checkpoint_interval=8)
    assert wider.reference == small_calibration.reference
    for part in PARTS:
        for name in pk.DISTANCES:
            rows = redrawn[(redrawn["part"] == part) & (redrawn["distance"] == name)]
            ratio = max(rows[rows["steps"] == 8]["error"]) / max(rows[rows["steps"] == 4]["error"])
            assert wider.thresholds[part][name] == small_calibration.thresholds[part][name] * ratio
            assert wider.honest_maximum[part][name] == small_calibration.honest_maximum[part][name] * ratio
    assert wider.thresholds["weights"]["l2"] > small_calibration.thresholds["weights"]["l2"]


def test_the_calibrated_k_needs_no_scaling_and_an_unmeasured_one_has_none(growth, small_calibration):
    redrawn = growth[growth["source"] == "redrawn"]
    assert calibration_for_interval(small_calibration, redrawn, 4) == small_calibration
    with pytest.raises(KeyError):
        calibration_for_interval(small_calibration, redrawn, 16)


@pytest.mark.parametrize("scale", [0.05, 1.0])
def test_other_thresholds_on_the_same_errors_give_the_verdict_of_a_verifier_who_has_them(
    everything, small_proof, small_calibration, scale
):
    direct = pk.verify(small_proof, small_calibration.scaled(scale), top_q="all")
    derived = everything.under(small_calibration.scaled(scale))
    assert derived.accepted == direct.accepted == (scale == 1)
    assert set(derived.reasons) == set(direct.reasons)
    pd.testing.assert_frame_equal(derived.intervals, direct.intervals)
    assert derived.under(small_calibration).reasons == everything.reasons


def test_other_thresholds_take_back_errors_and_nothing_else(everything, small_calibration):
    others = (Reason("digest", "batches.npy"), Reason("initialisation", "W_0"))
    bad = dataclasses.replace(everything, accepted=False, reasons=(*others, Reason("error", "steps 0 to 4", step=0)))
    lenient, strict = bad.under(small_calibration.scaled(1e6)), bad.under(small_calibration.scaled(1e-6))
    assert (lenient.accepted, lenient.reasons) == (False, others)
    assert strict.reasons[:2] == others
    assert {reason.kind for reason in strict.reasons[2:]} == {"error"}


def test_a_nan_is_above_every_threshold(everything, small_calibration):
    intervals = everything.intervals.copy()
    intervals.loc[intervals.index[3], "error"] = float("nan")
    (reason,) = dataclasses.replace(everything, intervals=intervals).under(small_calibration.scaled(1e9)).reasons
    assert (reason.kind, reason.step) == ("error", intervals["start"].iloc[3])
