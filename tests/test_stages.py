"""Thresholds by stage of training, and the path of an adversary who knows them."""

from itertools import pairwise

import pytest

import polkit as pk
from polkit.adversary.path import staged_pace
from polkit.defences import cost_of_stages, stage_threshold

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
    spoof = pk.interpolation_only(final, small_task, spoof_steps=32, pace=staged_pace(EDGES, SCALES),
                                  out=tmp_path / "spoof", progress=False)  # fmt: skip
    lengths = walked(spoof, final)
    allowed = [stage_threshold(EDGES, SCALES, number / 8) for number in range(8)]
    # The longest interval is that of an even path of 8 / cost_of_stages intervals.
    assert lengths == pytest.approx([each * cost_of_stages(EDGES, SCALES) / 8 for each in allowed], rel=1e-3)
    assert sum(lengths) == pytest.approx(1, rel=1e-4)


def test_one_stage_divides_the_way_evenly():
    assert staged_pace((0.0,), (0.3,)) == ((0, 0), (1, 1))


def test_attack_2_walks_the_path_it_was_given(small_task, small_proof, tmp_path):
    final = small_proof.final_weights()
    spoof = pk.attack_2(final, small_task, spoof_steps=12, pace=((0, 0), (0.5, 0.9), (1, 1)), iterations=1,
                        out=tmp_path / "spoof", progress=False)  # fmt: skip
    assert walked(spoof, final) == pytest.approx([0.6, 0.3 + 0.1 / 3, 0.2 / 3], rel=1e-3)


@pytest.mark.parametrize("pace", [((0, 0), (0.5, 1)), ((0.1, 0), (1, 1)), ((0, 0), (0.7, 0.2), (0.6, 0.3), (1, 1))])
def test_a_pace_that_is_no_way_is_refused(pace, small_task, small_proof, tmp_path):
    with pytest.raises(ValueError, match="its knots must rise from"):
        pk.interpolation_only(small_proof.final_weights(), small_task, spoof_steps=12, pace=pace,
                              out=tmp_path / "spoof", progress=False)  # fmt: skip
