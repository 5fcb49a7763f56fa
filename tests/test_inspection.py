"""What is looked at before a step is computed: a tampering has a reason of its own, and W_0 must be a fresh draw."""

import dataclasses
import math
import shutil

import pytest
import torch
from mutations import change_array, change_tensor, reseal
from safetensors.torch import load_file, save_file
from scipy import stats

import polkit as pk
from polkit.proof import ProofError
from polkit.training import Checkpoint
from polkit.verifier import OPTIMISER, inspect_proof
from tests.pictures import litter

HEAD = 1 / math.sqrt(32)  # the bound of the last layer, 32 inputs wide
CONV = math.sqrt(2 / (32 * 9))  # the deviation of a 3x3 convolution of 32 channels


def failed(task, checkpoint):
    found = pk.test_initialisation(task, checkpoint)
    return {f"{row.part}.{row.tensor}" for row in found[~found["passed"]].itertuples()}


@pytest.fixture
def first(small_task):
    return pk.initial_checkpoint(small_task, 3)


def uniform(shape, bound):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1) * bound


def normal(shape, deviation):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) * deviation


def replaced(value, place, number):
    value = value.clone()
    value.view(-1)[place] = number
    return value


def test_an_honest_w_0_passes_and_the_test_can_be_counted_on(small_task):
    rejected = sum(bool(failed(small_task, pk.initial_checkpoint(small_task, seed))) for seed in range(60))
    assert rejected <= 2  # one in a thousand by design: more than 2 of 60 has probability 3e-5


def test_an_honest_w_0_passes_in_float64(small_task, first):
    parts = {part: {name: value.double() for name, value in named.items()} for part, named in first.parts().items()}
    assert failed(small_task, Checkpoint(**parts)) == set()


def test_every_tensor_is_judged_once(small_task, first):
    judged = pk.test_initialisation(small_task, first)
    expected = [(part, name) for part, named in first.parts().items() for name in named]
    assert sorted(zip(judged["part"], judged["tensor"], strict=True)) == sorted(expected)
    assert judged["p_value"].between(0, 1).all()


def test_p_values_are_those_of_kolmogorov_and_smirnov(small_task, first):
    judged = pk.test_initialisation(small_task, first).set_index(["part", "tensor"])["p_value"]
    conv = first.weights["blocks.2.conv2.weight"].double().flatten()
    expected = stats.ks_1samp(conv, stats.norm(0, CONV).cdf).pvalue
    assert judged["weights", "blocks.2.conv2.weight"] == pytest.approx(expected)
    head = first.weights["head.weight"].double().flatten()
    expected = stats.ks_1samp(head, stats.uniform(-HEAD, 2 * HEAD).cdf).pvalue
    assert judged["weights", "head.weight"] == pytest.approx(expected)


DEPARTURES = {
    "uniform for normal, of the same deviation": (
        "weights.blocks.2.conv2.weight",
        lambda value: uniform(value.shape, CONV * math.sqrt(3)),
    ),
    "normal for uniform": ("weights.head.weight", lambda value: normal(value.shape, 1.5 * HEAD)),
    "too large": ("weights.blocks.2.conv1.weight", lambda value: value * 1.25),
    "too small": ("weights.blocks.2.conv1.weight", lambda value: value * 0.8),
    "too large and uniform": ("weights.head.weight", lambda value: value * 1.5),
    "not centred": ("weights.blocks.2.conv2.weight", lambda value: value + 0.2 * CONV),
    "all zero": ("weights.conv.weight", torch.zeros_like),
    "NaN": ("weights.conv.weight", lambda value: replaced(value, 5, math.nan)),
    "infinite": ("weights.head.bias", lambda value: replaced(value, 0, math.inf)),
    "trained scale of a normalisation layer": (
        "weights.blocks.0.norm1.weight",
        lambda value: replaced(value, 3, 1.0 + 2**-20),
    ),
    "trained shift of a normalisation layer": ("weights.norm.bias", lambda value: replaced(value, 0, 1e-8)),
    "NaN in a normalisation layer": ("weights.norm.weight", lambda value: replaced(value, 0, math.nan)),
    "momentum": ("momentum.blocks.1.conv1.weight", lambda value: replaced(value, 100, 1e-30)),
    "NaN in the momentum": ("momentum.head.bias", lambda value: replaced(value, 9, math.nan)),
    "trained running mean": ("buffers.blocks.1.norm2.running_mean", lambda value: replaced(value, 15, -1e-6)),
    "trained running variance": ("buffers.norm.running_var", lambda value: replaced(value, 7, 0.99)),
    "NaN in a running variance": ("buffers.norm.running_var", lambda value: replaced(value, 0, math.nan)),
}


@pytest.mark.parametrize("departure", DEPARTURES)
def test_a_departure_is_found_in_its_own_tensor(small_task, first, departure):
    key, change = DEPARTURES[departure]
    part, _, name = key.partition(".")
    first.parts()[part][name] = change(first.parts()[part][name])
    assert failed(small_task, first) == {key}


def test_trained_weights_are_no_initialisation(small_task, small_proof):
    found = failed(small_task, small_proof.checkpoint(16))
    trained = small_proof.checkpoint(16)
    assert {f"momentum.{name}" for name in trained.momentum} <= found
    assert {f"buffers.{name}" for name in trained.buffers} <= found
    assert {f"weights.{name}" for name in trained.weights if "norm" in name} <= found


def ruined(index, value):
    """A change of one number of a tensor."""
    return lambda tensor: replaced(tensor, index, value)


def tensor(step, key, change):
    return lambda proof: change_tensor(proof.folder, step, key, change)


def array(name, change):
    return lambda proof: change_array(proof.folder, name, change)


def checkpoint(step):
    return f"checkpoints/{step:08d}.safetensors"


TAMPERINGS = {  # how, the file that changes if it is not a new one, the reason's kind, and what it says
    "changed weight": (tensor(8, "weights.head.weight", lambda t: t + 1), checkpoint(8), "error", "steps 4 to 8"),
    "changed buffer": (
        tensor(8, "buffers.norm.running_mean", lambda t: t + 9),
        checkpoint(8),
        "error",
        "of the buffers",
    ),
    "swapped index": (
        array("batches.npy", lambda b: b[6].__setitem__([0, 1], b[6][[1, 0]])),
        "batches.npy",
        "signature",
        "the batch of step 6",
    ),
    "changed signature": (
        array("signatures.npy", lambda s: s.__setitem__((5, 31), s[5, 31] ^ 1)),
        "signatures.npy",
        "signature",
        "the batch of step 5",
    ),
    "index out of range": (
        array("batches.npy", lambda b: b.__setitem__((7, 0), 256)),
        "batches.npy",
        "malformed",
        "step 7 names a point outside 0 to 255",
    ),
    "negative index": (array("batches.npy", lambda b: b.__setitem__((7, 0), -1)), "batches.npy", "malformed", "step 7"),
    "missing checkpoint": (lambda p: (p.folder / checkpoint(8)).unlink(), "", "missing", checkpoint(8)),
    "an extra file": (lambda p: (p.folder / "notes.txt").write_text("hello"), "", "extra", "notes.txt"),
    "W_0 of another scale": (
        tensor(0, "weights.blocks.2.conv1.weight", lambda t: 1.2 * t),
        checkpoint(0),
        "initialisation",
        "weights.blocks.2.conv1.weight",
    ),
    "trained variance in W_0": (
        tensor(0, "buffers.norm.running_var", lambda t: t * 1.01),
        checkpoint(0),
        "initialisation",
        "W_0: buffers.norm.running_var is not constant 1",
    ),
    "momentum in W_0": (
        tensor(0, "momentum.head.bias", lambda t: t + 0.01),
        checkpoint(0),
        "initialisation",
        "momentum.head.bias is not constant 0",
    ),
    "half precision": (
        tensor(8, "weights.conv.weight", lambda t: t.half()),
        checkpoint(8),
        "malformed",
        "is of type F16",
    ),
    "another shape": (
        tensor(8, "weights.conv.weight", lambda t: t[:, :, :2].contiguous()),
        checkpoint(8),
        "malformed",
        "has shape",
    ),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_tampering_is_rejected_for_its_own_reason(copied, small_calibration, name):
    tamper, file, kind, detail = TAMPERINGS[name]
    tamper(copied)
    plain = [str(reason) for reason in pk.verify(copied, small_calibration).reasons if reason.kind == "digest"]
    assert plain == ([f"digest: {file} is not the file that manifest.json names"] if file else [])
    reseal(copied.folder)
    verdict = pk.verify(copied, small_calibration, top_q="all")
    assert verdict.usable
    assert not verdict.accepted
    assert [reason for reason in verdict.reasons if reason.kind == kind and detail in reason.detail], verdict
    assert not any(reason.kind == "digest" for reason in verdict.reasons)


@pytest.fixture(scope="module")
def proof_with_points(small_task, small_proof, tmp_path_factory):
    """A folder whose data travel with it: the kind a flipped pixel can be found in."""
    out = tmp_path_factory.mktemp("points") / "spoof"
    return pk.attack_2(small_proof.final_weights(), small_task, spoof_steps=16, out=out, progress=False, iterations=1)


@pytest.mark.parametrize("pixel", [0, 63])
def test_one_flipped_pixel_is_found_wherever_it_is(proof_with_points, small_calibration, tmp_path, pixel):
    proof = pk.open_proof(shutil.copytree(proof_with_points.folder, tmp_path / "copy"))
    file = proof.folder / "points.safetensors"
    tensors = load_file(file)
    chosen = int(proof.batches()[9, 40])
    tensors["images"][chosen].view(-1)[pixel] ^= 1
    save_file(tensors, file)
    plain = pk.verify(proof, small_calibration)
    assert "points.safetensors" in {reason.detail.split()[0] for reason in plain.reasons if reason.kind == "digest"}
    reseal(proof.folder)
    verdict = pk.verify(proof, small_calibration)
    assert [reason.detail for reason in verdict.reasons if reason.kind == "signature"] == [
        "the batch of step 9 is not the one that was signed"
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("step", [0, 4, 8, 12, 16])
def test_what_is_not_finite_is_found_in_every_part_of_every_checkpoint(copied, small_task, step, value):
    keys = ("weights.head.bias", "buffers.blocks.1.norm2.running_var", "momentum.blocks.0.conv1.weight")
    for key in keys:
        change_tensor(copied.folder, step, key, ruined(0, value))
    reseal(copied.folder)
    seen = inspect_proof(copied, small_task)
    found = {reason.detail for reason in seen.reasons if reason.kind == "not finite"}
    assert found == {f"{checkpoint(step)}: {key} holds NaN or infinity" for key in keys}


@pytest.mark.parametrize("name", [checkpoint(8), "points.safetensors", "batches.npy"])
def test_a_link_to_nowhere_is_rejected_and_raises_nothing(copied, small_calibration, name):
    (copied.folder / name).unlink(missing_ok=True)
    (copied.folder / name).symlink_to(copied.folder / "nowhere")
    verdict = pk.verify(copied, small_calibration)
    assert verdict.usable
    assert any(name in reason.detail for reason in verdict.reasons)


def test_a_proof_without_any_checkpoint_is_rejected_not_raised(copied, small_calibration):
    shutil.rmtree(copied.folder / "checkpoints")
    verdict = pk.verify(copied, small_calibration)
    assert len([reason for reason in verdict.reasons if reason.kind == "missing"]) == 5
    assert verdict.to_json()["replayed_intervals"] == 0
    assert "rejected (0 intervals replayed)" in str(verdict)


def test_a_folder_of_very_many_files_is_not_listed_whole(copied, small_task):
    for number in range(60):
        (copied.folder / "checkpoints" / f"{number}.tmp").touch()
    (copied.folder / "more").mkdir()
    reasons = inspect_proof(copied, small_task).reasons
    assert {reason.kind for reason in reasons} == {"extra"}
    assert str(reasons[-1]) == "extra: the folder holds more than 30 files, a proof of these steps does not"


def test_a_verifier_who_replays_the_augmentation_needs_its_seeds(copied, small_calibration):
    (copied.folder / "augmentation.npy").unlink()
    reseal(copied.folder)
    assert pk.verify(copied, small_calibration).accepted
    exact = dataclasses.replace(small_calibration, conditions=pk.Conditions())
    (reason,) = pk.verify(copied, exact).reasons
    assert str(reason).startswith("malformed: augmentation.npy is missing")


def test_a_file_that_is_removed_after_its_digest_was_checked_is_missing(copied, small_task):
    """It is not one that a proof may do without: its seeds, or its points, would be others'."""
    seen = inspect_proof(copied, small_task).proof
    (copied.folder / "augmentation.npy").unlink()
    with pytest.raises(ProofError, match=r"augmentation\.npy"):
        seen.augmentation_seeds()


def test_a_batch_that_needs_many_times_the_verifiers_memory_is_refused(copied, small_task):
    small = small_task.replace(batch_size=4)  # the proof's has 64
    (reason,) = inspect_proof(copied, small, prover_decides=["batch_size"]).reasons
    assert "batch_size 64: a verifier of this task has memory for 32" in reason.detail


@pytest.mark.parametrize("change", [{"learning_rate": 0.01}, {"momentum": 0.0}, {"checkpoint_interval": 8}])
def test_the_verifiers_task_wins_over_the_claimed_one(copied, small_task, small_calibration, change):
    claimed = small_task.replace(**change)
    reseal(copied.folder, task=claimed.to_json(), checkpoint_interval=claimed.checkpoint_interval)
    verdict = pk.verify(copied, small_calibration)
    (name,) = change
    assert not verdict.accepted
    assert any(reason.kind == "task" and name in reason.detail for reason in verdict.reasons)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"learning_rate": -1.0}, "learning_rate = -1.0, no optimiser has that"),
        ({"learning_rate_drop": 0.0}, "learning_rate_drop = 0.0, no optimiser has that"),
        ({"learning_rate_drop": 1e200, "milestones": (1, 2, 3)}, "learning_rate_drop = 1e+200, no optimiser has that"),
        ({"learning_rate_drop": 1e-30, "milestones": (1, 2, 3)}, "a learning rate that becomes no number"),
        ({"milestones": (1,) * 1001}, "1001 milestones, more than 1000"),
    ],
)
def test_what_the_prover_decides_must_be_an_optimiser(copied, small_task, change, words):
    reseal(copied.folder, task=small_task.replace(**change).to_json())
    (reason,) = inspect_proof(copied, small_task, prover_decides=OPTIMISER).reasons
    assert reason.kind == "task"
    assert words in reason.detail


def test_debris_is_no_reason_to_reject(copied, small_task, small_calibration):
    litter(copied.folder)
    assert pk.verify(copied, small_calibration).accepted
    (copied.folder / "notes.txt").touch()
    assert [str(found) for found in inspect_proof(copied, small_task).reasons] == ["extra: notes.txt"]
    for number in range(50):
        (copied.folder / f".{number}").touch()
    found = [str(reason) for reason in inspect_proof(copied, small_task).reasons]
    assert found[-1] == "extra: the folder holds more than 30 files, a proof of these steps does not"


def test_how_often_a_verifier_looks_is_no_matter_of_the_batch_size_that_a_proof_claims(small_proof, tmp_path):
    """With B = 1 an epoch of S steps would be the whole training, of which Q = 1 is one interval."""
    task = small_proof.task
    how = {"spoof_steps": 16, "out": tmp_path / "spoof", "progress": False}
    spoof = pk.interpolation_only(small_proof.final_weights(), task.replace(batch_size=1), **how)
    seen = inspect_proof(spoof, task, ("batch_size",))
    assert seen.magnitudes["epoch"].tolist() == [start // task.steps_per_epoch for start in (0, 4, 8, 12)]
