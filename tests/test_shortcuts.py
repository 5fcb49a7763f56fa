"""Spoofs without adversarial examples, and a verifier who lets the prover decide."""

import json

import pytest

import polkit as pk
from polkit.verifier.inspection import OPTIMISER


@pytest.fixture(scope="module")
def infinitesimal(small_task, small_proof, tmp_path_factory):
    out = tmp_path_factory.mktemp("shortcuts") / "spoof"
    final = small_proof.final_weights()
    return pk.infinitesimal_update(final, small_task, spoof_steps=16, seed=1, out=out, progress=False)


def test_an_infinitesimal_update_errs_by_the_spacing_of_its_path_and_nothing_else(infinitesimal, small_calibration):
    first, last = infinitesimal.checkpoint(0), infinitesimal.checkpoint(16)
    spacing = {name: value / 4 for name, value in pk.distances(first.weights, last.weights).items()}
    verdict = pk.verify(infinitesimal, small_calibration, top_q="all", prover_decides=("learning_rate",))
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
    other = pk.verify(infinitesimal, small_calibration, prover_decides=("momentum", "weight_decay"))
    assert other.reasons == verdict.reasons


def test_an_honest_proof_has_the_same_verdict_whoever_decides(small_proof, small_calibration):
    mine, theirs = (
        pk.verify(small_proof, small_calibration, top_q="all", prover_decides=decided) for decided in ((), OPTIMISER)
    )
    assert mine.accepted
    assert mine.reasons == theirs.reasons
    assert mine.intervals.equals(theirs.intervals)


def test_the_prover_decides_nothing_but_the_optimiser(small_proof, small_calibration):
    with pytest.raises(ValueError, match="prover_decides is \\['model'\\]: choose from learning_rate, momentum"):
        pk.verify(small_proof, small_calibration, prover_decides=("model",))


@pytest.mark.parametrize("claim", [{"learning_rate": -1.0}, {"momentum": -0.5}, {"learning_rate_drop": 0.0}])
def test_an_optimiser_that_cannot_be_is_a_reason_and_no_crash(claim, copied, small_calibration):
    manifest = json.loads((copied.folder / "manifest.json").read_text())
    manifest["task"] |= claim
    (copied.folder / "manifest.json").write_text(json.dumps(manifest))
    verdict = pk.verify(copied.folder, small_calibration, prover_decides=OPTIMISER)
    assert not verdict.accepted
    assert any(next(iter(claim)) in str(reason) for reason in verdict.reasons)
