"""One verifier: an honest proof passes, and each tampering fails for its own reason."""

import dataclasses
import inspect
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

import polkit as pk
from polkit.proof.folder import write_manifest
from polkit.training.step import PARTS
from polkit.verifier.replay import select_intervals


def reseal(proof):
    """What a careful tamperer does: the manifest names the files as they are now."""
    facts = {name: value for name, value in proof.manifest.items() if name != "files"}
    write_manifest(proof.folder, facts)


def change_tensor(proof, step, key, change):
    file = proof.folder / "checkpoints" / f"{step:08d}.safetensors"
    tensors = load_file(file)
    tensors[key] = change(tensors[key].clone())
    save_file(tensors, file)


def change_array(proof, name, change):
    values = np.load(proof.folder / name)
    change(values)
    np.save(proof.folder / name, values)


def put(value, index=(0, 0, 0, 0)):
    def change(tensor):
        tensor[index if tensor.dim() == 4 else 0] = value
        return tensor

    return change


@pytest.fixture(scope="module")
def proof_with_points(small_task, small_calibration, small_proof, tmp_path_factory):
    """A folder whose data travel with it: the kind a flipped pixel can be found in."""
    return pk.attack_2(
        small_proof.final_weights(),
        small_task,
        spoof_steps=16,
        calibration=small_calibration,
        out=tmp_path_factory.mktemp("points") / "spoof",
        progress=False,
        iterations=1,
    )


@pytest.mark.parametrize("top_q", [1, 2, "all"])
def test_an_honest_proof_is_accepted_under_redrawn_augmentation(small_proof, small_calibration, top_q):
    verdict = pk.verify(small_proof, small_calibration, top_q=top_q)
    assert verdict.accepted, verdict
    assert set(verdict.intervals["distance"]) == set(pk.DISTANCES)
    assert verdict.intervals["start"].nunique() == 4  # S/k = 1 interval in each of the 4 epochs
    assert (verdict.intervals["error"] > 0).any()
    assert verdict.cost.gradient_evaluations == 16


def test_a_replay_under_identical_conditions_errs_by_exactly_zero(small_proof, small_calibration):
    nothing = {part: dict.fromkeys(pk.DISTANCES, 0.0) for part in PARTS}
    exact = dataclasses.replace(small_calibration, conditions=pk.Conditions(), thresholds=nothing)
    verdict = pk.verify(small_proof, exact, top_q="all")
    assert verdict.accepted, verdict
    assert (verdict.intervals["error"] == 0).all()


def test_processes_do_not_change_a_verdict(small_proof, small_calibration):
    alone = pk.verify(small_proof, small_calibration, top_q="all", workers=1)
    shared = pk.verify(small_proof, small_calibration, top_q="all", workers=2)
    pd.testing.assert_frame_equal(alone.intervals, shared.intervals)


def test_the_verifier_cannot_be_told_what_it_judges():
    assert set(inspect.signature(pk.verify).parameters) == {
        "proof",
        "calibration",
        "top_q",
        "distances",
        "parts",
        "seed",
        "workers",
        "remember",
        "prover_decides",
        "progress",
    }


TAMPERINGS = {
    "changed weight": (lambda p: change_tensor(p, 8, "weights.head.weight", lambda t: t + 1), "error", "steps 4 to 8"),
    "changed buffer": (
        lambda p: change_tensor(p, 8, "buffers.norm.running_mean", lambda t: t + 9),
        "error",
        "of the buffers",
    ),
    "swapped index": (
        lambda p: change_array(p, "batches.npy", lambda b: b[6].__setitem__([0, 1], b[6][[1, 0]])),
        "signature",
        "the batch of step 6",
    ),
    "changed signature": (
        lambda p: change_array(p, "signatures.npy", lambda s: s.__setitem__((5, 31), s[5, 31] ^ 1)),
        "signature",
        "the batch of step 5",
    ),
    "index out of range": (
        lambda p: change_array(p, "batches.npy", lambda b: b.__setitem__((7, 0), 256)),
        "malformed",
        "step 7 names a point outside 0 to 255",
    ),
    "negative index": (
        lambda p: change_array(p, "batches.npy", lambda b: b.__setitem__((7, 0), -1)),
        "malformed",
        "step 7",
    ),
    "missing checkpoint": (
        lambda p: (p.folder / "checkpoints" / "00000008.safetensors").unlink(),
        "missing",
        "checkpoints/00000008.safetensors",
    ),
    "W_0 from a uniform distribution": (
        lambda p: change_tensor(p, 0, "weights.blocks.2.conv2.weight", lambda t: (torch.rand(t.shape) * 2 - 1) * 0.144),
        "initialisation",
        "weights.blocks.2.conv2.weight is not normal",
    ),
    "W_0 of another scale": (
        lambda p: change_tensor(p, 0, "weights.blocks.2.conv1.weight", lambda t: 1.2 * t),
        "initialisation",
        "weights.blocks.2.conv1.weight",
    ),
    "trained normalisation weight in W_0": (
        lambda p: change_tensor(p, 0, "weights.norm.weight", lambda t: t * 1.01),
        "initialisation",
        "weights.norm.weight is not constant 1",
    ),
    "trained normalisation bias in W_0": (
        lambda p: change_tensor(p, 0, "weights.norm.bias", lambda t: t + 0.01),
        "initialisation",
        "weights.norm.bias is not constant 0",
    ),
    "trained running mean in W_0": (
        lambda p: change_tensor(p, 0, "buffers.norm.running_mean", lambda t: t + 0.01),
        "initialisation",
        "buffers.norm.running_mean is not constant 0",
    ),
    "momentum in W_0": (
        lambda p: change_tensor(p, 0, "momentum.head.bias", lambda t: t + 0.01),
        "initialisation",
        "momentum.head.bias is not constant 0",
    ),
    "NaN in W_0": (
        lambda p: change_tensor(p, 0, "weights.conv.weight", put(float("nan"))),
        "initialisation",
        "weights.conv.weight is not normal",
    ),
    "NaN in the last weights": (
        lambda p: change_tensor(p, 16, "weights.conv.weight", put(float("nan"))),
        "not finite",
        "checkpoints/00000016.safetensors: weights.conv.weight",
    ),
    "infinity in a buffer": (
        lambda p: change_tensor(p, 4, "buffers.norm.running_var", put(float("inf"))),
        "not finite",
        "checkpoints/00000004.safetensors: buffers.norm.running_var",
    ),
    "infinity in a momentum": (
        lambda p: change_tensor(p, 12, "momentum.conv.weight", put(float("-inf"))),
        "not finite",
        "checkpoints/00000012.safetensors: momentum.conv.weight",
    ),
    "half precision": (
        lambda p: change_tensor(p, 8, "weights.conv.weight", lambda t: t.half()),
        "malformed",
        "is of type F16",
    ),
    "another shape": (
        lambda p: change_tensor(p, 8, "weights.conv.weight", lambda t: t[:, :, :2].contiguous()),
        "malformed",
        "has shape",
    ),
    "an extra file": (lambda p: (p.folder / "notes.txt").write_text("hello"), "extra", "notes.txt"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_tampering_is_rejected_for_its_own_reason(copied, small_calibration, name):
    tamper, kind, detail = TAMPERINGS[name]
    tamper(copied)
    reseal(copied)
    verdict = pk.verify(copied, small_calibration, top_q="all")
    assert verdict.usable
    assert not verdict.accepted
    found = [reason for reason in verdict.reasons if reason.kind == kind and detail in reason.detail]
    assert found, verdict
    assert not any(reason.kind == "digest" for reason in verdict.reasons)


@pytest.mark.parametrize("name", ["batches.npy", "augmentation.npy", "checkpoints/00000008.safetensors"])
def test_a_changed_file_is_not_the_one_the_manifest_names(copied, small_calibration, name):
    raw = bytearray((copied.folder / name).read_bytes())
    raw[-1] ^= 1
    (copied.folder / name).write_bytes(raw)
    verdict = pk.verify(copied, small_calibration)
    assert [str(r) for r in verdict.reasons if r.kind == "digest"] == [
        f"digest: {name} is not the file that manifest.json names"
    ]


@pytest.mark.parametrize("pixel", [0, 63])
def test_one_flipped_pixel_is_found_wherever_it_is(proof_with_points, small_calibration, tmp_path, pixel):
    proof = pk.open_proof(shutil.copytree(proof_with_points.folder, tmp_path / "copy"))
    file = proof.folder / "points.safetensors"
    tensors = load_file(file)
    chosen = int(proof.batches()[9, 40])
    tensors["images"][chosen].view(-1)[pixel] ^= 1
    save_file(tensors, file)
    plain = pk.verify(proof, small_calibration)
    assert "points.safetensors" in {r.detail.split()[0] for r in plain.reasons if r.kind == "digest"}
    reseal(proof)
    verdict = pk.verify(proof, small_calibration)
    assert [r.detail for r in verdict.reasons if r.kind == "signature"] == [
        "the batch of step 9 is not the one that was signed"
    ]


def test_a_chain_of_nan_is_not_accepted_in_any_distance(copied, small_calibration):
    for step in (4, 8, 12, 16):
        for key in load_file(copied.folder / "checkpoints" / f"{step:08d}.safetensors"):
            change_tensor(copied, step, key, lambda tensor: tensor * float("nan"))
    reseal(copied)
    for distance in pk.DISTANCES:
        verdict = pk.verify(copied, small_calibration, distances=[distance])
        assert {"not finite", "error"} <= {reason.kind for reason in verdict.reasons}
        assert not verdict.intervals["passed"].any()


def test_a_proof_without_any_checkpoint_is_rejected_not_raised(copied, small_calibration):
    shutil.rmtree(copied.folder / "checkpoints")
    verdict = pk.verify(copied, small_calibration)
    assert len([reason for reason in verdict.reasons if reason.kind == "missing"]) == 5
    assert verdict.to_json()["replayed_intervals"] == 0
    assert "rejected (0 intervals replayed)" in str(verdict)


def test_a_verifier_who_replays_the_augmentation_needs_its_seeds(copied, small_calibration):
    (copied.folder / "augmentation.npy").unlink()
    reseal(copied)
    assert pk.verify(copied, small_calibration).accepted
    exact = dataclasses.replace(small_calibration, conditions=pk.Conditions())
    (reason,) = pk.verify(copied, exact).reasons
    assert str(reason).startswith("malformed: augmentation.npy is missing")


@pytest.mark.parametrize("change", [{"learning_rate": 0.01}, {"momentum": 0.0}, {"checkpoint_interval": 8}])
def test_the_verifiers_task_wins_over_the_claimed_one(small_task, small_calibration, tmp_path, change):
    other = pk.prove(small_task.replace(**change), out=tmp_path / "other", progress=False)
    verdict = pk.verify(other, small_calibration)
    (name,) = change
    assert not verdict.accepted
    assert any(reason.kind == "task" and name in reason.detail for reason in verdict.reasons)


@pytest.mark.parametrize("content", [None, "{}", "not json"])
def test_what_is_no_proof_is_unusable_and_raises_nothing(tmp_path, small_calibration, content):
    if content:
        (tmp_path / "manifest.json").write_text(content)
    verdict = pk.verify(tmp_path, small_calibration)
    assert (verdict.accepted, verdict.usable) == (False, False)
    assert verdict.reasons[0].kind == "unusable"
    assert verdict.to_json()["usable"] is False
    assert "not a usable proof" in str(verdict)


def test_a_bad_call_is_the_callers_mistake(small_proof, small_calibration):
    for wrong in ({"top_q": 0}, {"top_q": "some"}, {"distances": ["l3"]}, {"distances": []}, {"parts": ["momentum"]}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            pk.verify(small_proof, small_calibration, **wrong)


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


def test_a_smaller_q_is_judged_from_the_intervals_of_a_larger_one(small_task, tmp_path):
    task = small_task.replace(checkpoint_interval=1)  # four intervals an epoch
    proof = pk.prove(task, out=tmp_path / "fine", progress=False)
    calibration = pk.calibrate(proof, replays=2, workers=1, out=tmp_path / "c.json", progress=False).scaled(0.6)
    everything = pk.verify(proof, calibration, top_q="all")
    assert not everything.accepted
    for top_q in (1, 2):
        direct, derived = pk.verify(proof, calibration, top_q=top_q), everything.at(top_q)
        assert direct.reasons == derived.reasons
        assert direct.cost.gradient_evaluations == pytest.approx(derived.cost.gradient_evaluations)
        pd.testing.assert_frame_equal(direct.intervals.reset_index(drop=True), derived.intervals.reset_index(drop=True))


def test_the_last_interval_is_replayed_though_the_printed_algorithm_stops_before(copied, small_calibration):
    change_tensor(copied, 16, "weights.head.weight", lambda tensor: tensor + 1)
    reseal(copied)
    verdict = pk.verify(copied, small_calibration, top_q=1)
    assert {reason.step for reason in verdict.reasons if reason.kind == "error"} == {12}


def test_an_honest_w_0_passes_and_the_test_can_be_counted_on(small_task):
    rejected = sum(
        not pk.test_initialisation(small_task, pk.initial_checkpoint(small_task, seed))["passed"].all()
        for seed in range(200)
    )
    assert rejected <= 3  # one in a thousand by design: more than 3 of 200 has probability 1e-4


CHANGED_FILES = {
    name: f"checkpoints/{step}.safetensors"
    for name, step in {
        "changed weight": "00000008",
        "changed buffer": "00000008",
        "W_0 of another scale": "00000000",
        "trained normalisation weight in W_0": "00000000",
        "trained running mean in W_0": "00000000",
        "NaN in the last weights": "00000016",
        "infinity in a buffer": "00000004",
        "infinity in a momentum": "00000012",
        "half precision": "00000008",
        "another shape": "00000008",
    }.items()
} | {"swapped index": "batches.npy", "changed signature": "signatures.npy"}


@pytest.mark.parametrize("name", CHANGED_FILES)
def test_the_same_tampering_under_the_old_manifest_is_a_wrong_digest(copied, small_calibration, name):
    TAMPERINGS[name][0](copied)
    digests = [r.detail for r in pk.verify(copied, small_calibration).reasons if r.kind == "digest"]
    assert digests == [f"{CHANGED_FILES[name]} is not the file that manifest.json names"]


@pytest.mark.parametrize(("share", "accepted"), [(0.9, True), (1.1, False)])
def test_delta_is_where_a_changed_weight_begins_to_be_rejected(copied, small_calibration, share, accepted):
    """Replayed exactly, W_16 errs by what was added to it and by nothing else."""
    exact = dataclasses.replace(small_calibration, conditions=pk.Conditions())
    limit = exact.thresholds["weights"]["linf"]
    change_tensor(copied, 16, "weights.head.bias", lambda t: t + share * limit * (torch.arange(10) == 3))
    reseal(copied)
    verdict = pk.verify(copied, exact, distances=["linf"], parts=["weights"])
    assert verdict.accepted == accepted, verdict
    found = verdict.intervals.query("part == 'weights' and distance == 'linf'").set_index("start")["error"]
    assert found[12] == pytest.approx(share * limit, rel=1e-4)
    assert found.drop(12).eq(0).all()
    assert [(reason.kind, reason.step) for reason in verdict.reasons] == ([] if accepted else [("error", 12)])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("step", [0, 4, 8, 12, 16])
def test_what_is_not_finite_is_found_in_every_part_of_every_checkpoint(copied, small_calibration, step, value):
    keys = ("weights.head.bias", "buffers.blocks.1.norm2.running_var", "momentum.blocks.0.conv1.weight")
    for key in keys:
        change_tensor(copied, step, key, put(value))
    reseal(copied)
    verdict = pk.verify(copied, small_calibration)
    found = {reason.detail for reason in verdict.reasons if reason.kind == "not finite"}
    assert found == {f"checkpoints/{step:08d}.safetensors: {key} holds NaN or infinity" for key in keys}


def test_a_trained_running_variance_in_w_0_is_found(copied, small_calibration):
    change_tensor(copied, 0, "buffers.norm.running_var", lambda t: t * 1.01)
    reseal(copied)
    found = [
        reason.detail for reason in pk.verify(copied, small_calibration).reasons if reason.kind == "initialisation"
    ]
    assert len(found) == 1
    assert found[0].startswith("W_0: buffers.norm.running_var is not constant 1")


def test_the_largest_move_of_the_last_epoch_is_replayed_and_its_neighbours_are_not(small_task, tmp_path):
    task = small_task.replace(checkpoint_interval=1, epochs=2)  # four intervals in each of two epochs
    proof = pk.prove(task, out=tmp_path / "fine", progress=False)
    calibration = pk.calibrate(proof, replays=2, workers=1, out=tmp_path / "c.json", progress=False)
    change_tensor(proof, 8, "weights.head.weight", lambda tensor: tensor + 1)  # W_T: only the last interval ends there
    reseal(proof)
    verdict = pk.verify(proof, calibration, top_q=1)
    assert {reason.step for reason in verdict.reasons} == {7}
    assert {reason.kind for reason in verdict.reasons} == {"error"}
    assert verdict.intervals.groupby("epoch")["start"].nunique().to_dict() == {0: 1, 1: 1}
    assert verdict.cost.gradient_evaluations == 2


@pytest.mark.parametrize("top_q", [0, -1, 1.5, "2", None, True])
def test_q_is_a_whole_number_from_1_up_or_all(small_proof, small_calibration, top_q):
    with pytest.raises(ValueError, match="top_q"):
        pk.verify(small_proof, small_calibration, top_q=top_q)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"[1]", b"null", b"[" * 200_000, b'{"format": NaN}'])
def test_a_garbage_manifest_is_unusable_and_raises_nothing(tmp_path, small_calibration, content):
    (tmp_path / "manifest.json").write_bytes(content)
    verdict = pk.verify(tmp_path, small_calibration)
    assert (verdict.accepted, verdict.usable) == (False, False)
    assert [reason.kind for reason in verdict.reasons] == ["unusable"]


@pytest.mark.parametrize("name", ["checkpoints/00000008.safetensors", "points.safetensors", "batches.npy"])
def test_a_link_to_nowhere_is_rejected_and_raises_nothing(copied, small_calibration, name):
    (copied.folder / name).unlink(missing_ok=True)
    (copied.folder / name).symlink_to(copied.folder / "nowhere")
    verdict = pk.verify(copied, small_calibration)
    assert verdict.usable
    assert any(name in reason.detail for reason in verdict.reasons)


def test_a_verdict_without_replayed_intervals_can_be_asked_for_a_smaller_q(tmp_path, small_calibration):
    verdict = pk.verify(tmp_path, small_calibration, top_q="all").at(1)
    assert not verdict.accepted
    assert verdict.cost.gradient_evaluations == 0


def test_one_nan_among_small_errors_is_not_reported_as_a_small_error(copied, small_calibration):
    change_tensor(copied, 8, "weights.conv.weight", put(float("nan")))
    reseal(copied)
    verdict = pk.verify(copied, small_calibration, top_q="all")
    assert verdict.intervals["error"].notna().any()
    assert all(np.isnan(error) for error in verdict.largest_errors().values())
    assert set(verdict.to_json()["largest_normalised_errors"].values()) == {None}


def test_a_verdict_on_nan_weights_is_still_json(copied, small_calibration):
    for step in (4, 8, 12, 16):
        change_tensor(copied, step, "weights.conv.weight", lambda tensor: tensor * float("nan"))
    reseal(copied)
    text = json.dumps(pk.verify(copied, small_calibration, top_q="all").to_json())
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


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
