"""The algorithms that the chapters show as code, taken out of their cells and held to polkit on other trainings."""

import nbformat
import numpy as np
import pytest

import polkit as pk
from polkit.book.chapters import chapters
from polkit.training import Checkpoint


def shown(chapter, task, *names):
    """The names that a chapter's code defines, from the cells that define functions or import for them.

    task: stands in for the chapter's own training
    """
    (file,) = [file for file in chapters() if file.stem.startswith(f"{chapter:02d}_")]
    wanted, found = {f"def {name}(" for name in names}, {"pk": pk, "the_task": task, "rules": pk.regime("strict")}
    exec("import pandas as pd", found)
    for cell in nbformat.read(file, as_version=4).cells:
        if cell.cell_type == "code" and any(definition in cell.source for definition in wanted):
            exec(cell.source, found)
    return [found[name] for name in names]


@pytest.fixture(scope="module")
def plain(small_task):
    """A training without augmentation, as the chapters of Algorithms 1 and 2 show it: S = 4, T = 12, k = 3."""
    return small_task.replace(epochs=3, checkpoint_interval=3, shift=0, flip=False)


@pytest.fixture(scope="module")
def honest(plain, tmp_path_factory):
    return pk.prove(plain, seed=5, out=tmp_path_factory.mktemp("plain") / "proof", progress=False)


def lists_of(proof):
    """𝕎, 𝕀 and ℍ of a proof on disk, as Algorithm 2 takes them."""
    checkpoints = {step: proof.checkpoint(step) for step in proof.checkpoint_steps}
    return checkpoints, proof.batches(), [signed.tobytes() for signed in proof.signatures()]


def test_algorithm_1_of_chapter_2_records_what_prove_records(plain, honest):
    """With a rest: k = 5 does not divide T = 12. Bit for bit."""
    create_proof, _ = shown(2, plain, "create_proof", "get_batches")
    weights, indices, signatures = create_proof(plain, 5)
    recorded, batches, signed = lists_of(honest)
    assert list(weights) == list(recorded) == [0, 3, 6, 9, 12]
    for step, checkpoint in recorded.items():
        for name, value in (checkpoint.weights | checkpoint.buffers).items():
            assert weights[step][name].numpy().tobytes() == value.numpy().tobytes()
    assert np.array_equal(indices, batches)
    assert signatures == signed


def test_algorithm_1_records_the_last_model_after_a_short_rest(plain):
    create_proof, _ = shown(2, plain, "create_proof", "get_batches")
    assert list(create_proof(plain.replace(checkpoint_interval=5), 5)[0]) == [0, 5, 10, 12]


def test_algorithm_2_of_chapter_3_accepts_an_honest_proof_and_finds_what_was_changed(plain, honest):
    verify_proof, _, _ = shown(3, plain, "verify_proof", "verify_epoch", "distance")
    weights, indices, signatures = lists_of(honest)
    assert verify_proof(weights, indices, signatures, plain, 4, 0.0)[0] == "success"
    late = weights | {12: weights[9]}  # W_T is in the last epoch, which the printed loop never replays
    trained = weights | {0: weights[12]}
    swapped, signed = indices.copy(), list(signatures)
    swapped[[7, 8]], signed[7], signed[8] = swapped[[8, 7]], signatures[8], signatures[7]
    exchanged = indices.copy()
    exchanged[4, 0] = (exchanged[4, 0] + 1) % plain.train_size
    for forged in (
        (late, indices, signatures),
        (trained, indices, signatures),
        (weights, swapped, signed),
        (weights, exchanged, signatures),
    ):
        assert verify_proof(*forged, plain, 4, 0.0)[0] == "fail"


def test_algorithm_2_rejects_weights_that_are_no_numbers(plain, honest):
    verify_proof, _, _ = shown(3, plain, "verify_proof", "verify_epoch", "distance")
    weights, indices, signatures = lists_of(honest)
    name = next(iter(weights[12].weights))
    broken = Checkpoint(
        weights[12].weights | {name: weights[12].weights[name] * float("nan")},
        weights[12].buffers,
        weights[12].momentum,
    )
    assert verify_proof(weights | {12: broken}, indices, signatures, plain, 4, 1e9)[0] == "fail"


def test_the_calibration_of_chapter_4_finds_the_threshold_that_calibrate_finds(small_task, small_proof, tmp_path):
    calibrate_threshold, _ = shown(4, small_task, "calibrate_threshold", "honest_errors")
    delta, d_ref = calibrate_threshold(small_proof, small_task, replays=2, margin=2.0, seed=7)
    settings = {"replays": 2, "margin": 2.0, "seed": 7, "workers": 1, "progress": False}
    library = pk.calibrate(small_proof, out=tmp_path / "calibration.json", **settings)
    assert library.thresholds["weights"] == delta.to_dict()
    assert library.reference["weights"] == d_ref.to_dict()
    with pytest.raises(ValueError, match="no threshold lies between"):
        calibrate_threshold(small_proof, small_task, replays=2, margin=1e6, seed=7)
