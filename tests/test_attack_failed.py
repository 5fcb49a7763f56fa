"""What must not pass for a success: an attack that misses its aim."""

import json

import pytest
import torch

import polkit as pk
from polkit.adversary import AttackFailed
from polkit.adversary.forge import movement_missed


def test_an_attack_that_misses_says_by_how_much_and_is_kept_only_if_asked(
    small_task, small_proof, small_calibration, tmp_path
):
    """γ so small that a single iteration cannot reach it."""
    given = {
        "spoof_steps": 8,
        "calibration": small_calibration,
        "iterations": 1,
        "movement_limit": 1e-6,
        "progress": False,
    }
    for name, attack in (("2", pk.attack_2), ("3", pk.attack_3)):
        with pytest.raises(AttackFailed, match=r"updates do not end within γ after 1 iterations; the worst"):
            attack(small_proof.final_weights(), small_task, out=tmp_path / name, keep_failed=False, **given)
        assert list(tmp_path.iterdir()) == []
    kept = pk.attack_2(small_proof.final_weights(), small_task, out=tmp_path / "kept", **given)
    worst = kept.trace()["movement_over_limit"]
    assert f"8 of 8 updates do not end within γ after 1 iterations; the worst, of step {worst.idxmax()}, moves" in (
        kept.missed()
    )
    assert f"{worst.max():.3g} γ" in kept.missed()
    assert json.loads((tmp_path / "kept.record.json").read_text())["missed"] == kept.missed()


def test_an_attack_in_the_cache_that_missed_is_no_success_either(small_task, small_proof, small_calibration):
    given = {"spoof_steps": 4, "calibration": small_calibration, "iterations": 1, "movement_limit": 1e-6, "seed": 77}
    final = small_proof.final_weights()
    made = pk.attack_2(final, small_task, progress=False, **given)
    with pytest.raises(AttackFailed) as failed:
        pk.attack_2(final, small_task, progress=False, keep_failed=False, **given)
    assert str(failed.value) == made.missed() != ""


def test_an_attack_that_reaches_its_aim_has_missed_nothing(small_task, small_proof, small_calibration, tmp_path):
    spoof = pk.attack_2(
        small_proof.final_weights(),
        small_task,
        spoof_steps=4,
        calibration=small_calibration,
        movement_limit=1.0,
        out=tmp_path / "spoof",
        keep_failed=False,
        progress=False,
    )
    assert spoof.missed() == ""
    assert (spoof.trace()["movement_over_limit"] <= 1).all()
    assert small_proof.missed() == ""


def test_attack_1_misses_by_what_lies_between_its_last_update_and_w_t(
    small_task, small_proof, small_calibration, tmp_path
):
    given = {"spoof_steps": 8, "calibration": small_calibration, "iterations": 2, "progress": False}
    with pytest.raises(AttackFailed, match=r"does not end within δ of W_T after 2 iterations: the largest error is"):
        pk.attack_1(small_proof.final_weights(), small_task, out=tmp_path / "spoof", keep_failed=False, **given)
    spoof = pk.attack_1(small_proof.final_weights(), small_task, out=tmp_path / "spoof", **given)
    row, delta = spoof.trace().iloc[0], small_calibration.thresholds["weights"]
    assert row["missed_over_threshold"] >= row["missed_after"] / delta["l2"] * (1 - 1e-6)
    assert f"{row['missed_over_threshold']:.3g} δ" in spoof.missed()
    errors = pk.verify(spoof, small_calibration, top_q="all").intervals
    last = errors[(errors["start"] == 4) & (errors["part"] == "weights")]
    # The verifier replays the same last update, with augmentation of its own.
    assert float((last["error"] / last["threshold"]).max()) == pytest.approx(row["missed_over_threshold"], rel=0.1)


def test_nan_counts_as_missed():
    rows = [
        {"step": 0, "iterations": 3, "movement_over_limit": 0.5, "settled": True},
        {"step": 1, "iterations": 3, "movement_over_limit": float(torch.nan), "settled": False},
    ]
    assert "1 of 2" in movement_missed(rows)
    assert "1 of 2" in movement_missed([*rows, {"step": 2, "evaluations": 0}])  # one that was left alone does not count
    arrived = {"step": 3, "iterations": 2, "movement_over_limit": 5.0, "settled": True}  # in an interval that will do
    assert "1 of 3 updates" in movement_missed([*rows, arrived])
    assert "of step 1, moves the weights by nan γ" in movement_missed(rows)
    assert movement_missed(rows[:1]) == movement_missed([]) == ""
