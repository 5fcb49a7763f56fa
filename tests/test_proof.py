import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import polkit as pk
from polkit.checkpoints import write_checkpoint


def test_a_proof_is_what_definition_1_lists(small_proof, small_task):
    names = {file.relative_to(small_proof.folder).as_posix() for file in small_proof.folder.rglob("*.*")}
    checkpoints = {f"checkpoints/{step:08d}.safetensors" for step in (0, 4, 8, 12, 16)}
    assert names == checkpoints | {"manifest.json", "batches.npy", "signatures.npy", "augmentation.npy"}
    points = pk.training_points(small_task)
    for batch, signed in zip(small_proof.batches(), small_proof.signatures(), strict=True):
        taken = points.take(batch)
        raw = taken.images.numpy().tobytes() + taken.labels.numpy().astype("<i8").tobytes()
        assert hashlib.sha256(raw).digest() == signed.tobytes()


def test_the_manifest_names_every_other_file_by_its_digest(small_proof):
    for name, noted in small_proof.manifest["files"].items():
        raw = (small_proof.folder / name).read_bytes()
        assert noted == {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}


def test_what_a_maker_notes_is_beside_the_folder(small_proof):
    stored = sum(file.stat().st_size for file in small_proof.folder.rglob("*") if file.is_file())
    cost = small_proof.cost()
    assert (cost.gradient_evaluations, cost.stored_bytes) == (16, stored)
    assert cost.floating_point_operations == 16 * pk.unit_costs(small_proof.task)["update"].floating_point_operations


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_checkpoint_round_trip_keeps_every_bit(small_task, tmp_path, dtype):
    start = pk.initial_checkpoint(small_task, 1)
    start.momentum["conv.weight"][0] = -0.0
    start.weights["conv.weight"][0, 0, 0, 0] = 1e-42  # denormal
    parts = {part: {name: value.to(dtype) for name, value in named.items()} for part, named in start.parts().items()}
    write_checkpoint(tmp_path, 0, pk.Checkpoint(**parts))
    read = pk.read_weights(tmp_path / "checkpoints" / "00000000.safetensors", small_task)
    for part in ("weights", "buffers"):
        for name, value in parts[part].items():
            assert read.parts()[part][name].numpy().tobytes() == value.numpy().tobytes()


def test_float64_conditions_are_recorded_in_float64(small_task, tmp_path):
    conditions = pk.Conditions(precision="float64")
    proof = pk.prove(small_task.replace(epochs=1), out=tmp_path / "double", conditions=conditions, progress=False)
    assert proof.checkpoint(4).weights["conv.weight"].dtype == torch.float64


def test_weights_are_read_from_a_proof_or_a_plain_state_dict(small_proof, small_task, tmp_path):
    final = small_proof.checkpoint(16)
    save_file(final.weights | final.buffers, tmp_path / "model.safetensors")
    for source in (small_proof.folder, tmp_path / "model.safetensors"):
        read = pk.read_weights(source, small_task)
        assert all(torch.equal(read.weights[name], value) for name, value in final.weights.items())
        assert read.momentum == {}
    save_file({"other": torch.ones(2)}, tmp_path / "other.safetensors")
    for source in ("other.safetensors", "missing.safetensors"):
        with pytest.raises(pk.ProofError, match=source):
            pk.read_weights(tmp_path / source, small_task)


def rewrite(folder, change):
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "message"),
    [(lambda m: m.pop("steps"), "must have the fields"), (lambda m: m.update(extra=1), "and no others"),
     (lambda m: m.update(format_version=2), "not polkit-proof version 1"), (lambda m: m.update(steps="16"), "type int"),
     (lambda m: m.update(steps=True), "type int"), (lambda m: m.update(steps=10**12), "1 <= k <= T"),
     (lambda m: m.update(checkpoint_interval=0), "1 <= k <= T"), (lambda m: m["task"].pop("epochs"), "fields"),
     (lambda m: m["task"].update(model=7), "model must be of type str")],
)  # fmt: skip
def test_a_manifest_that_cannot_be_used_is_refused_in_a_sentence(copied, change, message):
    rewrite(copied.folder, change)
    with pytest.raises(pk.ProofError, match=message) as caught:
        pk.open_proof(copied.folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000, '"x"', "\xff"])
def test_a_manifest_that_is_not_a_json_object_is_refused(copied, text):
    (copied.folder / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(pk.ProofError, match=r"manifest\.json"):
        pk.open_proof(copied.folder)


def test_a_folder_without_a_manifest_is_not_a_proof(tmp_path):
    with pytest.raises(pk.ProofError, match=r"it has no manifest\.json"):
        pk.open_proof(tmp_path)


def test_files_that_are_not_what_they_must_be(copied):
    checkpoint = copied.folder / "checkpoints" / "00000004.safetensors"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[:-5])
    with pytest.raises(pk.ProofError, match=r"checkpoints/00000004\.safetensors is not a safetensors file"):
        copied.checkpoint(4)
    checkpoint.write_bytes(whole + bytes(4_000_000))
    with pytest.raises(pk.ProofError, match="its tensors take at most"):
        copied.checkpoint(4)
    np.save(copied.folder / "batches.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(pk.ProofError, match=r"batches\.npy is not a NumPy array file"):
        copied.batches()
    np.save(copied.folder / "signatures.npy", np.zeros((16, 31), np.uint8))
    with pytest.raises(pk.ProofError, match=r"signatures\.npy holds uint8 \(16, 31\), it must hold uint8 \(16, 32\)"):
        copied.signatures()
