"""Attack I: what it writes, what it costs, and by how much it misses."""

import polkit as pk


def test_attack_1_fails_in_its_last_interval_by_far(small_task, small_proof, small_calibration, tmp_path):
    spoof = pk.attack_1(
        small_proof.final_weights(),
        small_task,
        spoof_steps=16,
        calibration=small_calibration,
        iterations=3,
        out=tmp_path / "spoof",
        progress=False,
    )
    verdict = pk.verify(spoof, small_calibration, top_q=1)
    assert {(reason.kind, reason.step) for reason in verdict.reasons} == {("error", 12)}
    missed = spoof.trace().iloc[0]["missed_after"]
    assert missed > 3 * small_calibration.thresholds["weights"]["l2"]
    assert spoof.counts() == {"update": 15 + 2, "objective": 3}
    assert len(spoof.points()) == 256 + 64  # D, and the one batch that was changed
