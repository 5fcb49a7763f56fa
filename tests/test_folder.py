"""A proof as a folder: what Definition 1 lists, and what cannot be used."""

import hashlib
import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import polkit as pk
from polkit.proof import ProofError, read_weights
from polkit.proof.checkpoints import write_checkpoint
from polkit.proof.folder import MANIFEST_FIELDS, write_manifest
from polkit.training import Checkpoint
from tests.pictures import litter


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
    write_checkpoint(tmp_path, 0, Checkpoint(**parts))
    read = read_weights(tmp_path / "checkpoints" / "00000000.safetensors", small_task)
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
        read = read_weights(source, small_task)
        assert all(torch.equal(read.weights[name], value) for name, value in final.weights.items())
        assert read.momentum == {}
    save_file({"other": torch.ones(2)}, tmp_path / "other.safetensors")
    for source in ("other.safetensors", "missing.safetensors"):
        with pytest.raises(ProofError, match=source):
            read_weights(tmp_path / source, small_task)


def rewrite(folder, change):
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("steps"), "must have the fields"),
        (lambda m: m.update(extra=1), "and no others"),
        (lambda m: m.update(format_version=2), "not polkit-proof version 1"),
        (lambda m: m.update(steps="16"), "type int"),
        (lambda m: m.update(steps=True), "type int"),
        (lambda m: m.update(steps=10**12), "1 <= k <= T"),
        (lambda m: m.update(checkpoint_interval=0), "1 <= k <= T"),
        (lambda m: m["task"].pop("epochs"), "fields"),
        (lambda m: m["task"].update(model=7), "model must be of type str"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused_in_a_sentence(copied, change, message):
    rewrite(copied.folder, change)
    with pytest.raises(ProofError, match=message) as caught:
        pk.open_proof(copied.folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000, '"x"', "\xff"])
def test_a_manifest_that_is_not_a_json_object_is_refused(copied, text):
    (copied.folder / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(ProofError, match=r"manifest\.json"):
        pk.open_proof(copied.folder)


def test_a_folder_without_a_manifest_is_not_a_proof(tmp_path):
    with pytest.raises(ProofError, match=r"it has no manifest\.json"):
        pk.open_proof(tmp_path)


def test_files_that_are_not_what_they_must_be(copied):
    checkpoint = copied.folder / "checkpoints" / "00000004.safetensors"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[:-5])
    with pytest.raises(ProofError, match=r"checkpoints/00000004\.safetensors is not a safetensors file"):
        copied.checkpoint(4)
    checkpoint.write_bytes(whole + bytes(4_000_000))
    with pytest.raises(ProofError, match=r"00000004\.safetensors has \d+ bytes, it may have \d+ at most"):
        copied.checkpoint(4)
    np.save(copied.folder / "batches.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ProofError, match=r"batches\.npy holds .*'\|O'.*, it must hold .*'<i4'"):
        copied.batches()
    np.save(copied.folder / "signatures.npy", np.zeros((16, 31), np.uint8))
    with pytest.raises(ProofError, match=r"signatures\.npy holds .*\(16, 31\), }, it must hold .*\(16, 32\), }"):
        copied.signatures()


def test_a_missing_or_linked_file_is_missing(copied, small_proof):
    (copied.folder / "signatures.npy").unlink()
    with pytest.raises(ProofError, match=r"signatures\.npy is missing"):
        copied.signatures()
    (copied.folder / "signatures.npy").symlink_to(small_proof.folder / "signatures.npy")
    with pytest.raises(ProofError, match=r"signatures\.npy is missing"):
        copied.signatures()


class Planted:
    """Runs code where it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return type(self.file).touch, (self.file,)


@pytest.mark.parametrize("name", ["batches", "signatures", "augmentation_seeds"])
def test_no_array_of_a_proof_is_unpickled(copied, tmp_path, name):
    ran = tmp_path / "ran"
    file = copied.folder / ("augmentation.npy" if name == "augmentation_seeds" else f"{name}.npy")
    np.save(file, np.array([Planted(ran)], dtype=object), allow_pickle=True)
    for raw in (file.read_bytes(), pickle.dumps(Planted(ran))):
        file.write_bytes(raw)
        with pytest.raises(ProofError, match=f"{file.name} (is not a NumPy array file|holds .*O)"):
            getattr(copied, name)()
    assert not ran.exists()
    np.load(file, allow_pickle=True)
    assert ran.exists()  # what was planted does run where pickles are read


def test_arrays_of_another_type_or_length_are_refused(copied):
    np.save(copied.folder / "batches.npy", copied.batches().astype(np.int64))
    with pytest.raises(ProofError, match=r"batches\.npy has 8320 bytes, it may have 8192 at most"):
        copied.batches()
    np.save(copied.folder / "augmentation.npy", copied.augmentation_seeds()[:-1])
    with pytest.raises(ProofError, match=r"holds .*\(15,\), }, it must hold .*\(16,\), }"):
        copied.augmentation_seeds()
    with (copied.folder / "signatures.npy").open("wb") as file:
        np.savez(file, values=np.zeros((16, 32), np.uint8))
    with pytest.raises(ProofError, match=r"signatures\.npy is not a NumPy array file of version 1\.0"):
        copied.signatures()
    (copied.folder / "augmentation.npy").unlink()
    assert copied.augmentation_seeds() is None


@pytest.mark.parametrize("field", sorted(MANIFEST_FIELDS))
def test_a_manifest_without_one_of_its_fields_or_with_null_in_it_is_refused(copied, field):
    whole = (copied.folder / "manifest.json").read_text()
    for change in (lambda m: m.pop(field), lambda m: m.update({field: None})):
        (copied.folder / "manifest.json").write_text(whole)
        rewrite(copied.folder, change)
        with pytest.raises(ProofError, match=field):
            pk.open_proof(copied.folder)


def test_points_travel_with_the_proof_of_a_folder_of_images(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (130, 32, 32, 3), dtype=np.uint8)
    for number, pixels in enumerate(values):
        file = tmp_path / "images" / "train" / ("ant" if number < 70 else "bee") / f"{number:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    task = pk.task(f"folder:{tmp_path / 'images'}").replace(
        epochs=1, batch_size=65, checkpoint_interval=1, model="resnet8"
    )
    proof = pk.prove(task, out=tmp_path / "proof", progress=False)
    shutil.rmtree(tmp_path / "images")
    points = pk.open_proof(tmp_path / "proof").points()
    made = {image.tobytes(): int(number >= 70) for number, image in enumerate(values)}
    kept = points.images.permute(0, 2, 3, 1).contiguous().numpy()
    assert {image.tobytes(): label for image, label in zip(kept, points.labels.tolist(), strict=True)} == made
    assert "points.safetensors" in proof.manifest["files"]
    save_file({"images": points.images, "labels": points.labels + 1}, proof.folder / "points.safetensors")
    with pytest.raises(ProofError, match="a label lies outside 0 to 1"):
        proof.points()
    save_file({"images": points.images[1:], "labels": points.labels}, proof.folder / "points.safetensors")
    with pytest.raises(ProofError, match=r"labels of shape \(130,\) and images of shape \(129, 3, 32, 32\)"):
        proof.points()


@pytest.mark.parametrize("shape", [(9,), (1,), ()])
def test_a_state_dict_of_other_shapes_is_not_a_model_of_the_task(small_proof, small_task, tmp_path, shape):
    final = small_proof.checkpoint(16)
    save_file(final.weights | final.buffers | {"head.bias": torch.zeros(shape)}, tmp_path / "model.safetensors")
    with pytest.raises(ProofError, match="head.bias"):
        read_weights(tmp_path / "model.safetensors", small_task)


def test_a_state_dict_in_half_precision_is_refused(small_proof, small_task, tmp_path):
    final = small_proof.checkpoint(16)
    halved = {name: value.half() for name, value in (final.weights | final.buffers).items()}
    save_file(halved, tmp_path / "model.safetensors")
    with pytest.raises(ProofError, match="conv.weight is of type F16, it must be float32 or float64"):
        read_weights(tmp_path / "model.safetensors", small_task)


def test_a_proof_of_another_model_does_not_hold_the_weights_of_the_task(small_proof):
    with pytest.raises(ProofError):
        read_weights(small_proof.folder, pk.task("cifar10"))


def test_debris_is_not_in_the_manifest(copied):
    litter(copied.folder)
    write_manifest(copied.folder, {})
    assert json.loads((copied.folder / "manifest.json").read_text())["files"] == copied.manifest["files"]
