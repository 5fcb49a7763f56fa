"""The one replay engine: what it computes for an interval, which intervals Q picks, and the comparison with δ."""

import numpy as np
import pandas as pd
import pytest

import polkit as pk
from polkit.proof import proof_points
from polkit.training import Learner, applied, derive_seed
from polkit.verifier import STATE
from polkit.verifier import replay as engine
from polkit.verifier.replay import compared, looked_up, replay, select_intervals

REDRAWN = pk.Conditions(augmentation="redraw")


def test_a_row_holds_the_distances_of_a_plain_replay(small_task, small_proof):
    found = replay(small_proof, small_task, REDRAWN, [4], seed=3, parts=STATE).set_index(["part", "distance"])
    points, batches = proof_points(small_proof), small_proof.batches()
    before, recorded = small_proof.checkpoint(4), small_proof.checkpoint(8)
    with applied(REDRAWN):
        learner = Learner(small_task, REDRAWN)
        learner.load(before)
        for step in range(4, 8):
            learner.update(points.take(batches[step]), step=step, augmentation_seed=derive_seed(3, "redraw", step))
        reached = learner.snapshot()
    for part in STATE:
        left, right, replayed = (each.parts()[part] for each in (before, recorded, reached))
        plain = pd.DataFrame(
            {
                "error": pk.distances(right, replayed),
                "moved": pk.distances(right, left),
                "replay_moved": pk.distances(replayed, left),
            }
        )
        np.testing.assert_allclose(found.loc[part][list(plain)], plain.loc[found.loc[part].index], rtol=1e-9)
    assert (found["error"] > 0).all()
    assert (set(found["start"]), set(found["end"])) == ({4}, {8})


def test_under_the_provers_own_conditions_the_whole_state_is_reproduced(small_task, small_proof):
    found = replay(small_proof, small_task, pk.Conditions(), parts=STATE, workers=2)
    assert found["start"].drop_duplicates().tolist() == [0, 4, 8, 12]
    assert set(found["part"]) == {"weights", "buffers", "momentum"}
    assert (found["error"] == 0).all()
    assert (found["replay_moved"] == found["moved"]).all()
    assert (found.loc[found["distance"] != "cos", "moved"] > 0).all()


def test_an_interval_that_follows_another_is_replayed_as_by_itself(small_task, small_proof):
    together = replay(small_proof, small_task, REDRAWN, [4, 8]).drop(columns="seconds")
    alone = replay(small_proof, small_task, REDRAWN, [8]).drop(columns="seconds")
    pd.testing.assert_frame_equal(together[together["start"] == 8].reset_index(drop=True), alone)


def test_what_was_remembered_is_not_replayed_again(small_task, small_proof, monkeypatch):
    first = replay(small_proof, small_task, REDRAWN, [4, 8], remember=True)
    monkeypatch.setattr(engine, "interval_errors", lambda *_: pytest.fail("replayed again"))
    again = replay(small_proof, small_task, REDRAWN, [4, 8], remember=True)
    pd.testing.assert_frame_equal(first, again, check_dtype=False)
    with pytest.raises(pytest.fail.Exception):
        replay(small_proof, small_task, REDRAWN, [4], remember=True)


def test_an_augmentation_that_was_not_recorded_cannot_be_replayed(copied, small_task):
    (copied.folder / "augmentation.npy").unlink()
    with pytest.raises(pk.ProofError, match="augmentation.npy is missing"):
        replay(copied, small_task, pk.Conditions(), [0])


def test_top_q_takes_the_largest_updates_of_every_epoch_the_last_included():
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({"start": range(0, 440, 10), "end": range(10, 450, 10), "magnitude": generator.random(44)})
    frame["epoch"] = frame["start"] // 22
    for top_q in (1, 2, 99):
        expected = []
        for epoch in range(20):
            within = [row for row in frame.itertuples() if row.epoch == epoch]
            expected += [row.start for row in sorted(within, key=lambda row: -row.magnitude)[:top_q]]
        assert select_intervals(frame, top_q)["start"].tolist() == sorted(expected)
    assert len(select_intervals(frame, "all")) == 44
    frame.loc[3, "magnitude"] = float("nan")
    assert 30 in select_intervals(frame, 1)["start"].tolist()


def test_an_error_is_compared_with_what_its_part_and_distance_allow():
    limits = {"weights": {"l1": 2.0, "l2": 0.0}, "buffers": {"l1": np.inf, "l2": 0.5}}
    rows = pd.DataFrame(
        [
            ("weights", "l1", 1.0, 0.5, True),
            ("weights", "l1", 2.0, 1.0, True),
            ("weights", "l1", 2.5, 1.25, False),
            ("weights", "l1", np.nan, np.nan, False),
            ("weights", "l2", 0.0, 0.0, True),
            ("weights", "l2", 1e-9, np.inf, False),
            ("weights", "l2", np.nan, np.nan, False),
            ("buffers", "l1", 1e9, 0.0, True),
            ("buffers", "l1", np.nan, np.nan, False),
            ("buffers", "l2", 1.0, 2.0, False),
        ],
        columns=["part", "distance", "error", "expected_ratio", "expected"],
    )
    found = compared(rows, looked_up(limits, rows))
    np.testing.assert_array_equal(found["ratio"], rows["expected_ratio"])
    np.testing.assert_array_equal(found["passed"], rows["expected"])
