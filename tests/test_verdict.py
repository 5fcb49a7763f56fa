"""Algorithm 2: what an honest proof, a changed one and no proof at all are told, and at which Q."""

import dataclasses
import inspect
import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from mutations import change_tensor, reseal

import polkit as pk
from polkit.training import PARTS, jobs
from polkit.verifier import PAPER, STRICT, worst_ratios
from polkit.verifier.replay import replay


@pytest.mark.parametrize("top_q", [1, 2, "all"])
def test_an_honest_proof_is_accepted_under_redrawn_augmentation(small_proof, small_calibration, top_q):
    verdict = pk.verify(small_proof, small_calibration, top_q=top_q)
    assert verdict.accepted, verdict
    assert str(verdict) == "accepted (4 intervals replayed)"
    assert set(verdict.intervals["distance"]) == set(pk.DISTANCES)
    assert set(verdict.intervals["part"]) == set(PARTS)
    assert verdict.intervals["start"].nunique() == 4  # S/k = 1 interval in each of the 4 epochs
    assert (verdict.intervals["error"] > 0).any()
    assert verdict.cost.gradient_evaluations == 16
    assert verdict.replayed == 1


def test_a_replay_under_identical_conditions_errs_by_exactly_zero(small_proof, small_calibration):
    nothing = {part: dict.fromkeys(pk.DISTANCES, 0.0) for part in PARTS}
    exact = dataclasses.replace(small_calibration, conditions=pk.Conditions(), thresholds=nothing)
    verdict = pk.verify(small_proof, exact, top_q="all")
    assert verdict.accepted, verdict
    assert (verdict.intervals["error"] == 0).all()


@pytest.mark.parametrize("processes_from", [5, pytest.param(4, marks=pytest.mark.slow)])  # each imports torch
def test_workers_do_not_change_a_verdict(small_proof, small_calibration, monkeypatch, processes_from):
    monkeypatch.setattr(jobs, "JOBS_FOR_PROCESSES", processes_from)  # of the four intervals each is a job
    alone = pk.verify(small_proof, small_calibration, top_q="all", workers=1)
    shared = pk.verify(small_proof, small_calibration, top_q="all", workers=2)
    pd.testing.assert_frame_equal(alone.intervals, shared.intervals)


def test_the_verifier_cannot_be_told_what_it_judges():
    known = "proof calibration regime top_q seed workers remember progress"
    assert set(inspect.signature(pk.verify).parameters) == set(known.split())


@pytest.mark.parametrize(
    "wrong",
    [
        *({"top_q": top_q} for top_q in (0, -1, 1.5, "2", "some", True)),
        {"regime": STRICT.replace(augmentation="recorded")},
        {"regime": PAPER},
    ],
)
def test_a_bad_call_is_the_callers_mistake(small_proof, small_calibration, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        pk.verify(small_proof, small_calibration, **wrong)


@pytest.mark.parametrize("content", [None, b"{}", b"not json", b"\xff\xfe\x00", b"[1]", b"null", b"[" * 200_000])
def test_what_is_no_proof_is_unusable_and_raises_nothing(tmp_path, small_calibration, content):
    if content:
        (tmp_path / "manifest.json").write_bytes(content)
    verdict = pk.verify(tmp_path, small_calibration, top_q="all")
    assert (verdict.accepted, verdict.usable) == (False, False)
    assert [reason.kind for reason in verdict.reasons] == ["unusable"]
    assert verdict.to_json()["usable"] is False
    assert "not a usable proof" in str(verdict)
    assert verdict.at(1).cost.gradient_evaluations == 0


@pytest.mark.parametrize(("share", "accepted"), [(0.9, True), (1.1, False)])
def test_delta_is_where_a_changed_weight_begins_to_be_rejected(copied, small_calibration, share, accepted):
    """Replayed exactly, W_16 errs by what was added to it and by nothing else."""
    exact = dataclasses.replace(small_calibration, conditions=pk.Conditions())
    limit = exact.thresholds["weights"]["linf"]
    change_tensor(copied.folder, 16, "weights.head.bias", lambda t: t + share * limit * (torch.arange(10) == 3))
    reseal(copied.folder)
    verdict = pk.verify(copied, exact, regime=STRICT.replace(parts=("weights",)))
    assert verdict.accepted == accepted, verdict
    found = verdict.intervals.query("part == 'weights' and distance == 'linf'").set_index("start")["error"]
    assert found[12] == pytest.approx(share * limit, rel=1e-4)
    assert found.drop(12).eq(0).all()
    assert [(reason.kind, reason.step) for reason in verdict.reasons] == ([] if accepted else [("error", 12)])


@pytest.fixture(scope="module")
def fine(small_task, tmp_path_factory):
    """A proof with four intervals in each of two epochs, and its calibration."""
    folder = tmp_path_factory.mktemp("fine")
    proof = pk.prove(small_task.replace(checkpoint_interval=1, epochs=2), out=folder / "proof", progress=False)
    return proof, pk.calibrate(proof, replays=2, workers=1, out=folder / "c.json", progress=False)


def test_a_smaller_q_is_judged_from_the_intervals_of_a_larger_one(fine):
    proof, calibration = fine[0], fine[1].scaled(0.6)
    everything = pk.verify(proof, calibration, top_q="all")
    assert not everything.accepted
    for top_q in (1, 2):
        direct, derived = pk.verify(proof, calibration, top_q=top_q), everything.at(top_q)
        assert direct.reasons == derived.reasons
        assert direct.replayed == derived.replayed == top_q / 4
        assert direct.cost.gradient_evaluations == pytest.approx(derived.cost.gradient_evaluations)
        pd.testing.assert_frame_equal(direct.intervals.reset_index(drop=True), derived.intervals.reset_index(drop=True))


def test_the_largest_move_of_the_last_epoch_is_replayed_and_its_neighbours_are_not(fine, tmp_path):
    calibration = fine[1]
    proof = pk.open_proof(shutil.copytree(fine[0].folder, tmp_path / "copy"))
    # W_T: only the last interval ends there, which the printed algorithm never replays.
    change_tensor(proof.folder, 8, "weights.head.weight", lambda tensor: tensor + 1)
    reseal(proof.folder)
    verdict = pk.verify(proof, calibration, top_q=1)
    assert {(reason.kind, reason.step) for reason in verdict.reasons} == {("error", 7)}
    assert verdict.intervals.groupby("epoch")["start"].nunique().to_dict() == {0: 1, 1: 1}
    assert verdict.cost.gradient_evaluations == 2


def test_a_chain_of_nan_is_not_accepted_in_any_distance_and_is_still_json(copied, small_calibration):
    parts = copied.checkpoint(4).parts()
    for step in (4, 8, 12, 16):
        for part, name in (("weights", "conv.weight"), ("buffers", "norm.running_var")):
            assert name in parts[part]
            change_tensor(copied.folder, step, f"{part}.{name}", lambda tensor: tensor * math.nan)
    reseal(copied.folder)
    verdict = pk.verify(copied, small_calibration)
    assert {"not finite", "error"} <= {reason.kind for reason in verdict.reasons}
    assert not verdict.intervals["passed"].any()
    text = json.dumps(verdict.to_json())
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def test_one_nan_among_small_errors_is_not_reported_as_a_small_error(copied, small_calibration):
    change_tensor(copied.folder, 8, "weights.conv.weight", lambda tensor: tensor.fill_(math.nan))
    reseal(copied.folder)
    verdict = pk.verify(copied, small_calibration, top_q="all")
    assert verdict.intervals["error"].notna().any()
    assert all(np.isnan(error) for error in verdict.largest_errors().values())
    assert set(verdict.to_json()["largest_normalised_errors"].values()) == {None}
    assert str(verdict).splitlines()[-1] == f"  and {len(verdict.reasons) - 8} more"


def test_other_thresholds_judge_the_same_errors(small_proof, small_calibration):
    verdict = pk.verify(small_proof, small_calibration, top_q="all")
    worst = worst_ratios(verdict, small_calibration)
    assert worst["ratio"].max() <= 1
    for start, rows in verdict.intervals.groupby("start"):
        ratios = rows["error"] / rows["threshold"]
        assert worst.set_index("start")["ratio"][start] == ratios.max()
    strict = verdict.under(small_calibration.scaled(worst["ratio"].max() * 0.99))
    above = strict.intervals[strict.intervals["error"] > strict.intervals["threshold"]]
    assert not strict.accepted
    assert [reason.step for reason in strict.reasons] == above["start"].tolist()
    assert strict.under(small_calibration).accepted


def test_a_remembered_replay_is_the_same_replay_and_no_other(small_proof, small_calibration, copied):
    first = pk.verify(small_proof, small_calibration, top_q=1, remember=True)
    again = pk.verify(small_proof, small_calibration, top_q=1, remember=True)
    plain = pk.verify(small_proof, small_calibration, top_q=1)
    pd.testing.assert_frame_equal(again.intervals, plain.intervals)
    pd.testing.assert_frame_equal(first.intervals, plain.intervals)
    other = pk.verify(small_proof, small_calibration, top_q=1, seed=9, remember=True)
    assert not np.allclose(other.intervals["error"].astype(float), plain.intervals["error"].astype(float))
    file = copied.folder / "checkpoints" / "00000008.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0\1")
    tampered = pk.verify(copied, small_calibration, top_q=1, remember=True)
    assert tampered.reasons[0].kind == "digest"


def test_the_seconds_of_a_verdict_are_those_of_its_replay_though_it_is_remembered(small_proof, small_calibration):
    one, two = (pk.verify(small_proof, small_calibration, top_q="all", seed=7, remember=True) for _ in range(2))
    rows = replay(small_proof, small_proof.task, small_calibration.conditions, seed=7, remember=True)
    assert min(one.cost.wall_seconds, two.cost.wall_seconds) > rows.drop_duplicates("start")["seconds"].sum()
