"""Thresholds by stage of training, and the path of an adversary who knows them."""

from itertools import pairwise

import pandas as pd
import pytest

import polkit as pk
from polkit.defences import cost_of_stages, stage_edges, stage_threshold, stages
from polkit.experiments.published import published
from polkit.experiments.stages import EVEN, SCHEDULED, STAGED, own_schedule, passing, staged_pace, staged_spoofs
from polkit_course.chapter_10 import for_both

EDGES, SCALES = (0.0, 0.5, 0.75), (1.0, 0.1, 0.01)


def walked(spoof, final):
    """How much of the way from W_0 to W_T each interval covers."""
    whole = pk.distances(spoof.checkpoint(0).weights, final.weights)["l2"]
    return [
        pk.distances(spoof.checkpoint(end).weights, spoof.checkpoint(start).weights)["l2"] / whole
        for start, end in pairwise(spoof.checkpoint_steps)
    ]


def test_a_staged_path_takes_the_same_multiple_of_every_stages_threshold(small_task, small_proof, tmp_path):
    final = small_proof.final_weights()
    spoof = pk.interpolation_only(
        final, small_task, spoof_steps=32, pace=staged_pace(EDGES, SCALES), out=tmp_path / "spoof", progress=False
    )
    lengths = walked(spoof, final)
    allowed = [stage_threshold(EDGES, SCALES, number / 8) for number in range(8)]
    # The longest interval is that of an even path of 8 / cost_of_stages intervals.
    assert lengths == pytest.approx([each * cost_of_stages(EDGES, SCALES) / 8 for each in allowed], rel=1e-3)
    assert sum(lengths) == pytest.approx(1, rel=1e-4)


def test_an_interval_counts_for_the_stage_of_its_share_of_all_steps(monkeypatch):
    """Also where the last one that was replayed does not end with the proof."""
    replayed = pd.DataFrame({"start": [0, 49], "end": [10, 98], "ratio": [0.1, 0.4]})
    monkeypatch.setattr(stages, "worst_ratios", lambda *_: replayed)
    assert stages.stage_scales(None, None, (0.0, 0.5), margin=1.0, steps=100) == (0.4, 0.4)
    assert stages.stage_scales(None, None, (0.0, 0.5), margin=1.0) == (0.1, 0.4)


def test_one_stage_divides_the_way_evenly():
    assert staged_pace((0.0,), (0.3,)) == ((0, 0), (1, 1))


def test_a_spoof_walks_the_path_it_was_given(small_task, small_proof, tmp_path):
    final, pace = small_proof.final_weights(), ((0, 0), (0.5, 0.9), (1, 1))
    spoof = pk.interpolation_only(final, small_task, spoof_steps=12, pace=pace, out=tmp_path / "spoof", progress=False)
    assert walked(spoof, final) == pytest.approx([0.6, 0.3 + 0.1 / 3, 0.2 / 3], rel=1e-3)


@pytest.mark.parametrize("pace", [((0, 0), (0.5, 1)), ((0.1, 0), (1, 1)), ((0, 0), (0.7, 0.2), (0.6, 0.3), (1, 1))])
def test_a_pace_that_is_no_way_is_refused(pace, small_task, small_proof, tmp_path):
    with pytest.raises(ValueError, match="its knots must rise from"):
        pk.interpolation_only(
            small_proof.final_weights(), small_task, spoof_steps=12, pace=pace, out=tmp_path / "spoof", progress=False
        )


def test_a_schedule_of_its_own_drops_at_the_same_shares_in_whole_epochs(small_task):
    digits = pk.task("digits")
    assert own_schedule(digits, 200).milestones == (4, 6)  # of 9 epochs of 22 steps; 100 and 150 of 200
    assert own_schedule(digits, digits.steps).milestones == digits.milestones
    assert own_schedule(digits, 200).replace(milestones=digits.milestones) == digits
    assert own_schedule(small_task, 4).milestones == (1, 1)


@pytest.fixture(scope="module")
def staged(small_proof, small_calibration):
    made = list(staged_spoofs(small_proof, small_calibration, EDGES, SCALES, 16))
    return {name: (spoof, verdict) for name, spoof, verdict in made}


def test_the_three_paths_differ_in_pace_and_schedule_and_in_nothing_else(staged, small_proof, small_task):
    final = small_proof.final_weights()
    assert list(staged) == [EVEN, STAGED, SCHEDULED]
    pace = [1, 1, 0.1, 0.01]
    for name, expected in (
        (EVEN, [0.25] * 4),
        (STAGED, [each / 2.11 for each in pace]),
        (SCHEDULED, [each / 2.11 for each in pace]),
    ):
        assert walked(staged[name][0], final) == pytest.approx(expected, rel=1e-3)
    claimed = {name: spoof.task for name, (spoof, _) in staged.items()}
    assert claimed[EVEN] == claimed[STAGED] == small_task
    assert claimed[SCHEDULED] == own_schedule(small_task, 16)


def test_a_schedule_of_its_own_is_judged_only_by_who_lets_the_prover_decide_it(small_proof, small_calibration):
    longer = dict(
        (name, (spoof, verdict))
        for name, spoof, verdict in staged_spoofs(small_proof, small_calibration, EDGES, SCALES, 8)
    )
    spoof, verdict = longer[SCHEDULED]
    assert spoof.task.milestones == (1, 1)
    assert not [reason for reason in verdict.reasons if reason.kind == "task"]
    strict = pk.verify(spoof, small_calibration)
    assert [reason.kind for reason in strict.reasons] == ["task"]


def test_a_path_passes_if_the_one_threshold_and_every_stage_accept():
    rows = [("a", True, 0), ("a", True, 1), ("a", False, 0), ("a", True, 0)]
    trials = pd.DataFrame(
        [
            {"seed": seed, "path": EVEN, "spoof_steps": 140, "accepted": accepted, "above_stage": above}
            for seed, (_, accepted, above) in enumerate(rows)
        ]
    )
    assert passing(trials).loc[EVEN, 140] == 2


def test_in_no_published_training_did_a_closer_path_alone_pass_its_stages():
    trials = published("digits/stages")
    assert trials.groupby(["path", "spoof_steps"])["seed"].nunique().eq(3).all()
    passed = passing(trials)
    assert passed.loc[STAGED].sum() == passed.loc[EVEN].sum() == 0
    assert passed.loc[SCHEDULED, 200] > 0


def test_an_answer_that_lets_the_even_path_pass_is_told_so(small_proof, small_calibration):
    """Whether multiples near 1 let it pass in chapter 10 depends on the processor: so here on verdicts that do."""
    generous = small_calibration.scaled(1e6)
    edges = stage_edges(generous.task)
    loose = pk.verify(small_proof, generous, top_q="all")
    judged = dict.fromkeys(("honest proof", "stages' pace", "even path"), loose)
    said = for_both.judge((0.9,) * len(edges), judged=judged, calibration=generous, edges=edges)
    assert said.startswith("The even path passes as well")
