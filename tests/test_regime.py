"""A regime says who judges how; what it leaves to the prover, the prover decides, and nothing else."""

import json

import numpy as np
import pytest
import torch

import polkit as pk
from polkit.verifier import OPTIMISER, PAPER, STRICT, Regime, load_calibration


@pytest.fixture(scope="module")
def paper_task(small_task):
    return PAPER.task(small_task)


@pytest.fixture(scope="module")
def paper_proof(paper_task, tmp_path_factory):
    return pk.prove(paper_task, out=tmp_path_factory.mktemp("paper") / "proof", progress=False)


@pytest.fixture(scope="module")
def paper_calibration(paper_proof, tmp_path_factory):
    out = tmp_path_factory.mktemp("paper") / "c.json"
    return pk.calibrate(paper_proof, regime=PAPER, replays=2, workers=1, out=out, progress=False)


def test_the_papers_regime_trains_without_augmentation_and_replays_in_bf16(small_task, paper_task, paper_calibration):
    assert (paper_task.shift, paper_task.flip) == (0, False)
    assert STRICT.task(small_task) == small_task
    conditions = paper_calibration.conditions
    assert (conditions.precision, conditions.augmentation) == ("bf16", "replay")
    assert PAPER.conditions(pk.Conditions(threads=2)).threads == 2
    assert STRICT.conditions(pk.Conditions(precision="float64")).precision == "float64"


def test_q_may_be_a_whole_number_of_numpys(small_proof, small_calibration):
    known = STRICT.replace(top_q=np.int64(2))
    assert Regime.from_json(json.loads(json.dumps(known.to_json()))) == STRICT.replace(top_q=2)
    every, two = (pk.verify(small_proof, small_calibration, top_q=q, seed=np.uint8(0)) for q in ("all", np.int32(2)))
    assert two.intervals.equals(every.at(2).intervals)
    assert two.intervals.equals(every.at(np.int16(2)).intervals)
    for wrong in (2.0, "2", True, 0, np.float64(2), np.str_("most")):
        for judging in (lambda q: pk.verify(small_proof, small_calibration, top_q=q), every.at):
            with pytest.raises(ValueError, match="Q is a whole number of intervals per epoch from 1 up, or 'all'"):
                judging(wrong)


def test_a_calibration_keeps_its_regime_and_judges_by_it(paper_proof, paper_calibration, tmp_path):
    paper_calibration.save(tmp_path / "c.json")
    read = load_calibration(tmp_path / "c.json")
    assert read.regime == PAPER
    verdict = pk.verify(paper_proof, read)
    assert verdict.accepted
    assert verdict.intervals.groupby("epoch")["start"].nunique().eq(1).all()  # Q = 1


def test_the_buffers_decide_only_where_the_regime_compares_them(paper_proof, paper_calibration):
    strict = PAPER.replace(parts=("weights", "buffers"))
    tight = paper_calibration.scaled(1.0)
    tight.thresholds["buffers"]["l2"] = 0.0
    assert pk.verify(paper_proof, tight).accepted
    verdict = pk.verify(paper_proof, tight, regime=strict)
    assert verdict.reasons
    assert all("l2 of the buffers" in reason.detail for reason in verdict.reasons)


def test_a_spoof_may_claim_what_the_regime_leaves_to_the_prover(paper_task, paper_proof, paper_calibration, tmp_path):
    final, slow = paper_proof.final_weights(), paper_task.replace(learning_rate=paper_task.learning_rate / 10)
    given = {"spoof_steps": 8, "calibration": paper_calibration, "iterations": 1, "progress": False}
    spoof = pk.attack_2(final, slow, **given, out=tmp_path / "slow")
    assert spoof.task.learning_rate == slow.learning_rate
    assert "task" not in {reason.kind for reason in pk.verify(spoof, paper_calibration).reasons}
    mine = pk.verify(spoof, paper_calibration, regime=PAPER.replace(prover_decides=()))
    assert [reason.kind for reason in mine.reasons] == ["task"]
    with pytest.raises(ValueError, match="its shift is 0, the spoof's 1"):
        pk.attack_2(final, paper_task.replace(shift=1), **given)


def test_a_spoof_may_have_its_own_k_and_batch_size_where_the_prover_decides(
    paper_task, paper_proof, paper_calibration, tmp_path
):
    """Section IV-A: "we could use different T, k and batch size in our attacks"."""
    own = paper_task.replace(checkpoint_interval=2, batch_size=32, learning_rate=0.0)
    far = pk.interpolation_only(paper_proof.final_weights(), own, spoof_steps=16, out=tmp_path / "s", progress=False)
    assert far.checkpoint_steps == list(range(0, 17, 2))
    verdict = pk.verify(far, paper_calibration.scaled(1e9), top_q="all")
    assert verdict.accepted
    assert verdict.intervals["start"].nunique() == 8
    assert verdict.cost.floating_point_operations == far.cost().floating_point_operations  # 16 updates of 32 images
    assert verdict.replayed == 16 * 32 / (paper_task.steps * 64)
    mine = pk.verify(far, paper_calibration.scaled(1e9), regime=PAPER.replace(prover_decides=OPTIMISER))
    assert sorted(reason.detail for reason in mine.reasons) == [
        "manifest.json claims batch_size = 32, this task has 64",
        "manifest.json claims checkpoint_interval = 2, this task has 4",
        "manifest.json claims k = 2, the task has 4",
    ]


def test_a_claim_that_no_training_can_have_is_a_reason_and_no_error(paper_task, paper_calibration, tmp_path):
    most = paper_calibration.task.train_size  # a batch of all images leaves the verifier's epochs too few steps for k
    wide = paper_task.replace(batch_size=most, epochs=20, checkpoint_interval=20)
    proof = pk.prove(wide, out=tmp_path / "wide", progress=False)
    (reason,) = pk.verify(proof, paper_calibration).reasons
    assert reason.kind == "unusable"
    assert "claims what no training can have" in reason.detail
    assert "k = 20 must not exceed" in reason.detail


def test_delta_belongs_to_the_augmentation_it_was_calibrated_with(small_proof, paper_proof, small_calibration):
    with pytest.raises(ValueError, match=r"calibrated with the augmentation 'redrawn', the regime 'paper' has 'none'"):
        pk.verify(small_proof, small_calibration, regime=PAPER)
    with pytest.raises(ValueError, match=r"the regime 'paper' has no augmentation: prove regime.task\(task\)"):
        pk.calibrate(small_proof, regime=PAPER, progress=False)


def test_a_calibration_whose_conditions_are_not_its_regimes_is_refused(paper_calibration, tmp_path):
    file = tmp_path / "c.json"
    paper_calibration.save(file)
    file.write_text(file.read_text().replace('"precision": "bf16"', '"precision": "float32"', 1))
    with pytest.raises(ValueError, match="its conditions are not those of its regime"):
        load_calibration(file)


@pytest.mark.parametrize("attack", [pk.attack_2, pk.attack_3])
def test_an_attack_takes_the_pace_the_trained_steps_and_the_noise_weight(small_task, small_proof, tmp_path, attack):
    final, given = small_proof.final_weights(), {"spoof_steps": 12, "seed": 1, "iterations": 2, "progress": False}
    given |= {"stopping_test": False, "pace": [(0, 0), (0.5, 0.9), (1, 1)], "trained_steps": 4}
    plain = pk.interpolation_only(
        final,
        small_task,
        spoof_steps=12,
        seed=1,
        pace=given["pace"],
        trained_steps=4,
        out=tmp_path / "p",
        progress=False,
    )
    spoof, still = (
        attack(final, small_task, **given, noise_weight=weight, out=tmp_path / str(weight)) for weight in (1e-3, 1e9)
    )
    for step in (0, 4, 8, 12):  # the same path as without examples, whose first interval is trained
        assert pk.distances(spoof.checkpoint(step).weights, plain.checkpoint(step).weights)["linf"] == 0
    assert set(spoof.trace()["step"]) <= set(range(4, 12))
    assert not torch.equal(spoof.points().images, still.points().images)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prover_decides": ("model",)}, r"prover_decides is \('model',\): choose from learning_rate, momentum"),
        ({"augmentation": "some"}, "choose from none, recorded, redrawn"),
        ({"parts": ("momentum",)}, "choose from weights, buffers"),
        ({"parts": ()}, "the regime's parts are empty"),
        ({"precision": "fp8"}, "choose from float32, bf16, float64"),
        ({"top_q": 0}, "top_q is 0"),
        ({"name": "\x1b[31m"}, "must be of small letters"),
    ],
)
def test_a_regime_that_cannot_be_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        STRICT.replace(**change)


def test_a_regime_survives_json_and_nothing_else_is_one():
    for regime in (PAPER, STRICT, PAPER.replace(prover_decides=OPTIMISER[:1])):
        assert Regime.from_json(json.loads(json.dumps(regime.to_json()))) == regime
    for wrong in ({"parts": 3}, {"name": None}, {"prover_decides": [1]}, {"top_q": [1]}, {"more": 1}):
        with pytest.raises((ValueError, TypeError)):
            Regime.from_json(PAPER.to_json() | wrong)
