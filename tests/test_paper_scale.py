"""The paper's scale without a GPU: two steps of each of its tasks, and the batch of `make gpu` on a tiny one."""

import ctypes
import gc
import sys
from itertools import product

import numpy as np
import pytest
from PIL import Image

import polkit as pk
from polkit.experiments.published import published
from polkit.reproduce import reproduce, summarise
from polkit.verifier.replay import interval_errors


def noise(folder, name):
    """A data set of 128 random images, in the layout that the task expects."""
    generator = np.random.default_rng(0)
    if name == "imagenet10":
        for label in range(10):
            (folder / "imagenet" / "train" / f"n{label}").mkdir(parents=True)
            for number in range(13):
                pixels = generator.integers(0, 256, (140, 160, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "imagenet" / "train" / f"n{label}" / f"{number}.png")
        return
    label_bytes, names, where = {
        "cifar10": (1, [f"data_batch_{number}.bin" for number in range(1, 6)], "cifar-10-batches-bin"),
        "cifar100": (2, ["train.bin"], "cifar-100-binary"),
    }[name]
    (folder / where).mkdir()
    for file in names:
        rows = generator.integers(0, 256, (128 // len(names) + 1, label_bytes + 3072), dtype=np.uint8)
        rows[:, :label_bytes] %= 10
        rows.tofile(folder / where / file)


@pytest.fixture
def returned():
    """The memory of a large model, which `applied` has the process keep, goes back to the system."""
    yield
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc's
        trim(0)


@pytest.mark.slow
@pytest.mark.usefixtures("returned")
@pytest.mark.parametrize("name", ["cifar10", "cifar100", "imagenet10"])
def test_two_steps_and_one_interval(name, tmp_path, monkeypatch):
    noise(tmp_path, name)
    monkeypatch.setenv("POLKIT_DATA", str(tmp_path))
    monkeypatch.setattr(sys.modules["polkit.adversary.attack_3"], "BATCHES_AT_ONCE", 1)
    paper = pk.task(name)
    task = paper.replace(train_size=128, epochs=2, checkpoint_interval=2)
    assert task.batch_size == 128
    assert task.image_shape == ((3, 128, 128) if name == "imagenet10" else (3, 32, 32))
    conditions = pk.Conditions(precision="bf16", threads=2)
    proof = pk.prove(task, 0, out=tmp_path / "proof", conditions=conditions, progress=False)
    assert proof.checkpoint_steps == [0, 2]
    assert {row["error"] for row in interval_errors(proof, task, conditions, [0], 0)} == {0.0}

    spoof = pk.attack_3(
        proof.final_weights(),
        task,
        spoof_steps=2,
        seed=1,
        iterations=1,
        stopping_test=False,
        conditions=conditions,
        out=tmp_path / "spoof",
        progress=False,
    )
    assert spoof.trace()["evaluations"].tolist() == [1]
    shown = spoof.points()
    assert shown.images.shape == (256, *task.image_shape)
    trace = spoof.trace().iloc[0]
    assert trace["gradient_squared_before"] > 0
    assert np.isfinite(trace["gradient_squared_after"])
    errors = [row["error"] for row in interval_errors(spoof, task, conditions, [0], 0)]
    assert np.isfinite(errors).all()
    assert max(errors) > 0


@pytest.mark.slow
def test_the_batch_of_make_gpu_on_a_tiny_task(tmp_path):
    tiny = {"epochs": 4, "train_size": 256, "checkpoint_interval": 4, "precision": "float32"}  # T = 16
    settings = {"task": "digits", "repeats": 1, "out": tmp_path, "common": tiny, "lengths": [4, 8], "workers": 2}
    assert reproduce(["paper-scale"], time_limit=30, **settings) == 0
    summarise(tmp_path)
    rate = pk.task("digits").learning_rate / 10
    for suffix, rates in (("_paper", [0.0, rate]), ("", [0.0])):
        runs = published(tmp_path / f"runs{suffix}")
        spoofs, honest = (runs[runs["experiment"] == kind] for kind in ("spoof", "honest"))
        made = spoofs.groupby(["attack", "spoof_steps", "spoof_learning_rate"]).size()
        attacks = ("attack_2", "attack_3", "interpolation_only")
        assert made.index.tolist() == [*product(attacks, (4, 8), rates)]
        assert (made == 1).all()
        assert len(honest) == 1
        assert honest["accepted.most"].all()
        assert (honest["weights.most.l2"] > 0).all()  # in both regimes a replay differs from the proof
        assert (spoofs["batches.treated"].dropna() > 0).all()
    assert not published(tmp_path / "claims").empty
    for record in (tmp_path / "records").glob("*honest*"):
        record.unlink()
    summarise(tmp_path)  # as after a time limit: the spoofs are there, and no proof is judged yet
