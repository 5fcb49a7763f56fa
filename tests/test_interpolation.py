"""Spoofs without adversarial examples, and a verifier who lets the prover decide."""

import dataclasses
import json

import pytest
import torch

import polkit as pk
from polkit.verifier import OPTIMISER, STRICT

EXACT = pk.Conditions(precision="float64")


@pytest.fixture(scope="module")
def final(small_proof):
    return small_proof.final_weights()


def test_interpolation_only_pays_one_update_a_batch(small_task, final, tmp_path):
    spoof = pk.interpolation_only(final, small_task, spoof_steps=8, out=tmp_path / "spoof", progress=False)
    assert spoof.counts() == {"update": 8}
    assert spoof.cost().gradient_evaluations == 8


def test_a_path_that_begins_with_training_errs_where_it_begins_and_costs_no_more(
    small_task, final, small_calibration, tmp_path
):
    common = {"spoof_steps": 16, "seed": 1, "progress": False}
    plain = pk.interpolation_only(final, small_task, **common, out=tmp_path / "plain")
    begun = pk.interpolation_only(final, small_task, **common, trained_steps=8, out=tmp_path / "begun")
    assert begun.counts() == plain.counts() == {"update": 16}
    assert begun.cost().floating_point_operations == plain.cost().floating_point_operations
    exact = dataclasses.replace(small_calibration, conditions=pk.Conditions())
    errors = pk.verify(begun, exact, top_q="all").intervals.groupby("start")["error"].max()
    assert errors[[0, 4]].tolist() == [0, 0]
    assert errors[[8, 12]].min() > 0
    chain = [begun.checkpoint(step).weights for step in begun.checkpoint_steps]
    assert set(pk.distances(chain[0], plain.checkpoint(0).weights).values()) == {0.0}
    assert set(pk.distances(chain[4], final.weights).values()) == {0.0}
    there, back = (pk.distances(chain[3], chain[end]) for end in (2, 4))
    whole = pk.distances(chain[2], chain[4])
    for name in ("l1", "l2", "linf"):
        assert [there[name], back[name]] == pytest.approx([whole[name] / 2] * 2, rel=1e-4)
    for steps in (3, 16, -4):
        with pytest.raises(ValueError, match=f"{steps} trained steps are not one or more intervals of k = 4"):
            pk.interpolation_only(final, small_task, **common, trained_steps=steps, out=tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_fewer_steps_mean_longer_pieces_of_the_same_path(small_task, final, tmp_path):
    common = {"seed": 1, "conditions": EXACT, "progress": False}
    short, long = (
        pk.interpolation_only(final, small_task, spoof_steps=steps, **common, out=tmp_path / str(steps))
        for steps in (8, 16)
    )
    pieces = {
        spoof.steps: [
            pk.distances(spoof.checkpoint(t).weights, spoof.checkpoint(t + 4).weights)["l2"]
            for t in spoof.checkpoint_steps[:-1]
        ]
        for spoof in (short, long)
    }
    whole = pk.distances(short.checkpoint(0).weights, final.weights)["l2"]
    assert pieces[8] == pytest.approx([whole / 2] * 2, rel=1e-3)
    assert pieces[16] == pytest.approx([whole / 4] * 4, rel=1e-3)


@pytest.fixture(scope="module")
def infinitesimal(small_task, small_proof, tmp_path_factory):
    out = tmp_path_factory.mktemp("shortcuts") / "spoof"
    final = small_proof.final_weights()
    return pk.infinitesimal_update(final, small_task, spoof_steps=16, seed=1, out=out, progress=False)


def test_an_infinitesimal_update_errs_by_the_spacing_of_its_path_and_nothing_else(infinitesimal, small_calibration):
    first, last = infinitesimal.checkpoint(0), infinitesimal.checkpoint(16)
    spacing = {name: value / 4 for name, value in pk.distances(first.weights, last.weights).items()}
    verdict = pk.verify(
        infinitesimal, small_calibration, top_q="all", regime=STRICT.replace(prover_decides=("learning_rate",))
    )
    errors = verdict.intervals[verdict.intervals["part"] == "weights"]
    assert errors["start"].nunique() == 4
    for name in ("l1", "l2", "linf"):
        assert errors.loc[errors["distance"] == name, "error"].tolist() == pytest.approx([spacing[name]] * 4, rel=1e-3)
    assert {reason.kind for reason in verdict.reasons} == {"error"}  # the small task's path is too coarse for its δ


def test_it_costs_one_forward_pass_a_batch(infinitesimal, small_task):
    assert infinitesimal.counts() == {"forward": 16}
    assert infinitesimal.cost().gradient_evaluations == 0
    forward = pk.unit_costs(small_task)["forward"].floating_point_operations
    assert infinitesimal.cost().floating_point_operations == 16 * forward


def test_the_verifier_who_decides_the_learning_rate_never_replays_it(infinitesimal, small_calibration):
    verdict = pk.verify(infinitesimal, small_calibration, top_q="all")
    assert [str(reason) for reason in verdict.reasons] == [
        "task: manifest.json claims learning_rate = 1e-09, this task has 0.05"
    ]
    assert verdict.intervals.empty
    other = pk.verify(
        infinitesimal, small_calibration, regime=STRICT.replace(prover_decides=("momentum", "weight_decay"))
    )
    assert other.reasons == verdict.reasons


def test_an_honest_proof_has_the_same_verdict_whoever_decides(small_proof, small_calibration):
    mine, theirs = (
        pk.verify(small_proof, small_calibration, regime=STRICT.replace(prover_decides=decided))
        for decided in ((), OPTIMISER)
    )
    assert mine.accepted
    assert mine.reasons == theirs.reasons
    assert mine.intervals.equals(theirs.intervals)


@pytest.mark.parametrize("claim", [{"learning_rate": -1.0}, {"momentum": -0.5}, {"learning_rate_drop": 0.0}])
def test_an_optimiser_that_cannot_be_is_a_reason_and_no_crash(claim, copied, small_calibration):
    manifest = json.loads((copied.folder / "manifest.json").read_text())
    manifest["task"] |= claim
    (copied.folder / "manifest.json").write_text(json.dumps(manifest))
    verdict = pk.verify(copied.folder, small_calibration, regime=STRICT.replace(prover_decides=OPTIMISER))
    assert not verdict.accepted
    assert any(next(iter(claim)) in str(reason) for reason in verdict.reasons)


def test_interpolation_with_forward_passes_costs_a_third_and_moves_no_weight(small_task, small_proof, tmp_path):
    replayed, passed = (
        pk.interpolation_only(
            small_proof.final_weights(),
            small_task,
            spoof_steps=8,
            seed=1,
            replayed_intervals=number,
            out=tmp_path / str(number),
            progress=False,
        )
        for number in (None, 1)
    )
    assert replayed.counts() == {"update": 8}
    assert passed.counts() == {"update": 4, "forward": 4}
    for step in (0, 4, 8):
        ours, theirs = passed.checkpoint(step), replayed.checkpoint(step)
        assert all(torch.equal(value, theirs.weights[name]) for name, value in ours.weights.items())


@pytest.mark.parametrize("intervals", [1.3, -3])
def test_replayed_intervals_are_a_whole_number(intervals, small_task, final, tmp_path):
    with pytest.raises(ValueError, match="replayed_intervals"):
        pk.interpolation_only(final, small_task, spoof_steps=8, replayed_intervals=intervals, out=tmp_path / "s")
