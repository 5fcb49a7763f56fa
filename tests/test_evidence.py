"""What a verifier finds out about a folder: which intervals, replayed how, each once, and what its checks cost."""

from dataclasses import replace

import pytest

import polkit as pk
from polkit.defences import RECORDED, REDRAWN, STRETCHED, Check, Dispute, gather, stage_threshold
from polkit.defences.presets import LARGEST, RANDOM, recommended_intervals
from polkit.defences.stages import within_stages
from polkit.training import unit_costs


def looking(replay="", starts=(), **costs):
    """A check that finds nothing in these intervals."""
    return Check("looking", lambda seen, rows: [], replay, lambda seen: list(starts), **costs)


@pytest.fixture
def seen(small_proof, small_calibration, small_standards):
    """Everything is replayed, in all three ways."""
    dispute = Dispute(small_proof.final_weights(), revealed_seed=0)
    checks = [looking(RECORDED, [0, 4, 8]), looking(REDRAWN, [0, 4, 8, 12]), looking(STRETCHED, [0, 8])]
    return gather(small_proof, checks, small_calibration, small_standards, dispute)


def test_a_verifier_is_billed_for_all_that_its_checks_look_at_once(seen, small_task):
    unit = unit_costs(small_task)["update"].floating_point_operations
    first = seen.verdict([looking(RECORDED, [0, 4])])
    second = seen.verdict([looking(RECORDED, [4, 8]), looking(RECORDED, [8])])
    assert first.accepted
    assert second.accepted
    assert first.cost.floating_point_operations == second.cost.floating_point_operations == 8 * unit
    assert first.replayed == second.replayed == 0.5
    same = [found.intervals.query("start == 4").reset_index(drop=True) for found in (first, second)]
    assert same[0].equals(same[1])  # to the seconds that it took
    assert second.cost.wall_seconds >= second.intervals.drop_duplicates("start")["seconds"].sum()
    forwards = seen.verdict([looking(samples=lambda seen: 65)]).cost
    assert forwards.gradient_evaluations == 0
    assert forwards.floating_point_operations == 2 * unit_costs(small_task)["forward"].floating_point_operations
    wide = seen.verdict([looking(STRETCHED, [0, 8])])
    assert wide.cost.gradient_evaluations == 16 + 8  # four intervals at a time, and the proof has 16 steps


def test_a_stretched_replay_does_not_look_at_the_checkpoints_between(seen, small_proof):
    wide = seen.rows(looking(STRETCHED, [0]))
    assert (wide["end"] == 16).all()
    moved = wide[(wide["part"] == "weights") & (wide["distance"] == "l2")]["moved"].item()
    first, last = small_proof.checkpoint(0), small_proof.checkpoint(16)
    assert moved == pytest.approx(pk.distances(last.weights, first.weights)["l2"], rel=1e-9)


def test_the_redrawn_replay_is_that_of_verify_with_the_verifiers_seed(seen, small_proof, small_calibration):
    """With a constant one an adversary could foresee every draw."""
    found = []
    for seed in (0, 5):
        dispute = replace(seen.dispute, verifier_seed=seed)
        check = looking(REDRAWN, small_proof.checkpoint_steps[:-1])
        mine = gather(small_proof, [check], small_calibration, seen.standards, dispute).replays[REDRAWN]
        found.append(mine.query("part != 'momentum'")["error"].tolist())
        verdict = pk.verify(small_proof, small_calibration, top_q="all", seed=seed)
        assert found[-1] == verdict.intervals["error"].tolist()
    assert found[0] != found[1]


def test_random_and_largest_intervals_are_what_they_say(seen):
    order = seen.inspection.magnitudes.sort_values("magnitude", ascending=False)["start"].tolist()
    assert seen.largest(2) == sorted(order[:2])
    assert seen.random(3) == replace(seen, replays={}).random(3)
    draws = [replace(seen, dispute=replace(seen.dispute, verifier_seed=seed)).random(2) for seed in range(20)]
    assert len(set(map(tuple, draws))) > 3
    assert recommended_intervals(seen) == seen.largest_of_each_epoch() == seen.every_interval() == [0, 4, 8, 12]
    assert LARGEST + RANDOM == 80


def test_each_interval_is_held_against_the_stage_it_stands_in(seen, small_calibration):
    edges, scales = (0.0, 0.5), (1e9, 1e-9)
    found = within_stages(seen.replays[REDRAWN], 16, small_calibration, edges, scales)
    assert {reason.step for reason in found} == {8, 12}
    assert stage_threshold(edges, scales, 0.49) == 1e9


def test_a_folder_that_is_refused_is_not_replayed(copied, small_calibration, small_standards):
    (copied.folder / "batches.npy").unlink()
    dispute = Dispute(copied.final_weights(), revealed_seed=0)
    checks = [looking(REDRAWN, [0], samples=lambda seen: pytest.fail("asked"))]
    seen = gather(copied, checks, small_calibration, small_standards, dispute)
    verdict = seen.verdict(checks)
    assert (verdict.accepted, verdict.usable, verdict.replayed) == (False, True, 0)
    assert "missing" in {reason.kind for reason in verdict.reasons}
    assert seen.replays == {}
