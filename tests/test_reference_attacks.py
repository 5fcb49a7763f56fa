"""What passes other verifiers, as their code does it, and is rejected here."""

import ast
import dataclasses
import hashlib
import io
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import polkit as pk
from polkit.proof import ProofError, read_weights
from polkit.proof.folder import write_manifest
from polkit.verifier import load_calibration

CHECKPOINTS = [f"checkpoints/{step:08d}.safetensors" for step in (0, 4, 8, 12, 16)]


def reseal(folder, **changes):
    facts = json.loads((folder / "manifest.json").read_text())
    facts.pop("files")
    write_manifest(folder, facts | changes)


def test_nan_checkpoints(copied, small_calibration):
    """The public code of Jia et al. rejects where `distance > δ`, and no NaN is greater than anything."""
    distance = float(np.linalg.norm(np.full(3, np.nan) - np.ones(3)))
    rejected = distance > 0.1
    assert not rejected
    for name in CHECKPOINTS[1:]:
        tensors = load_file(copied.folder / name)
        save_file({key: torch.full_like(value, torch.nan) for key, value in tensors.items()}, copied.folder / name)
    reseal(copied.folder)
    verdict = pk.verify(copied, small_calibration, top_q="all")
    assert not verdict.accepted
    assert {"not finite", "error"} <= {reason.kind for reason in verdict.reasons}


def test_altered_pixels_that_an_abbreviated_hash_misses(small_task, small_proof, small_calibration, tmp_path):
    """The public code hashes `str(image)`, and NumPy abbreviates: two images of one text, and of one hash."""
    image = np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    altered = image.copy()
    altered[:, 5:20, 5:20] = 0
    assert (image != altered).mean() > 0.2
    assert str(image) == str(altered)
    assert hashlib.sha256(str(image).encode()).digest() == hashlib.sha256(str(altered).encode()).digest()
    folder = shutil.copytree(small_proof.folder, tmp_path / "altered")
    points = pk.training_points(small_task)
    images = points.images.clone()
    middle = images[int(small_proof.batches()[0, 0])]
    middle[0, 4, 4] ^= 1  # one bit of one pixel
    save_file({"images": images, "labels": points.labels}, folder / "points.safetensors")
    reseal(folder)
    reasons = pk.verify(folder, small_calibration).reasons
    assert "the batch of step 0 is not the one that was signed" in {reason.detail for reason in reasons}


def test_a_learning_rate_that_the_prover_supplies(small_task, small_proof, small_calibration, tmp_path):
    """The public code loads the prover's optimiser: with a rate near zero any chain of small moves reproduces."""
    spoof = pk.infinitesimal_update(
        small_proof.final_weights(), small_task, spoof_steps=16, seed=1, out=tmp_path / "spoof", progress=False
    )
    task = json.loads((spoof.folder / "manifest.json").read_text())["task"]
    assert task["learning_rate"] < small_task.learning_rate / 100
    reasons = pk.verify(spoof, small_calibration).reasons
    assert [reason.kind for reason in reasons] == ["task"]
    assert "learning_rate" in reasons[0].detail
    reseal(spoof.folder, task=small_task.to_json())  # the same chain under the verifier's rate
    verdict = pk.verify(spoof, dataclasses.replace(small_calibration, conditions=pk.Conditions()), top_q="all")
    assert not verdict.accepted
    assert {reason.kind for reason in verdict.reasons} == {"error"}


class Planted:
    """Makes a file where it is unpickled: any other code could stand there."""

    def __init__(self, file):
        self.file = str(file)

    def __reduce__(self):
        return open, (self.file, "w")


@pytest.mark.parametrize(
    "name",
    [*CHECKPOINTS[:2], "batches.npy", "signatures.npy", "augmentation.npy", "points.safetensors", "manifest.json"],
)
@pytest.mark.filterwarnings("ignore:unclosed file")
def test_a_pickled_checkpoint_that_would_execute_code(copied, small_calibration, tmp_path, name):
    ran = tmp_path / "ran"
    stored = io.BytesIO()
    torch.save({"net": Planted(ran)}, stored)
    planted = [pickle.dumps(Planted(ran)), stored.getvalue()]
    if name.endswith(".npy"):
        array = io.BytesIO()
        np.save(array, np.array([Planted(ran)], dtype=object), allow_pickle=True)
        planted.append(array.getvalue())
    for raw in planted:
        (copied.folder / name).write_bytes(raw)
        if name != "manifest.json":
            reseal(copied.folder)
        assert not pk.verify(copied, small_calibration).accepted
        (tmp_path / "file").write_bytes(raw)
        with pytest.raises(ProofError):
            read_weights(tmp_path / "file", copied.task)
        with pytest.raises(ValueError, match="is not a calibration"):
            load_calibration(tmp_path / "file")
    assert not ran.exists()
    pickle.loads(planted[0])
    assert ran.exists()  # where pickles are read it does run
    ran.unlink()
    torch.load(io.BytesIO(planted[1]), weights_only=False)
    assert ran.exists()


UNSAFE = {"pickle", "cPickle", "dill", "shelve", "marshal"}
LOADERS = {
    ("torch", "load"),
    ("joblib", "load"),
    ("pd", "read_pickle"),
    ("pandas", "read_pickle"),
    ("np", "load"),
    ("numpy", "load"),
    ("np", "fromstring"),
}


def test_no_module_of_polkit_can_unpickle_or_evaluate_anything():
    sources = sorted(Path(pk.__file__).parent.rglob("*.py"))
    assert len(sources) > 50
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text())):
            imported = [name.name for name in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            imported += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not UNSAFE & {name.partition(".")[0] for name in imported}, source
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in LOADERS, source
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec", "compile", "__import__"}, source
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant), source
                assert node.value.value is False, source
