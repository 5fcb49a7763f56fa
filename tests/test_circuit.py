"""The step as a circuit: against autograd, what it refuses, and that ezkl rounds as it does."""

import sys
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import polkit as pk
from polkit.defences import circuit
from polkit.defences.circuit import LARGEST_WEIGHT, LEARNING_RATE, Batch, Circuit, first_step, pixel_batch, setup, step
from polkit.defences.snark import make_witness

SMALL = Circuit(features=16, batch_size=4)
POINTS = pk.training_points(pk.task("digits"))
FIRST, BATCH = first_step(SMALL)


@pytest.fixture(scope="module")
def keys():
    pytest.importorskip("ezkl", reason="ezkl is not installed: pip install 'polkit[snark]'")
    return setup(SMALL)


@pytest.mark.parametrize(("side", "batch_size"), [(4, 4), (8, 16)])
def test_a_step_is_sgd_on_the_squared_error_up_to_half_a_unit(side, batch_size):
    circuit = Circuit(side * side, batch_size)
    weights, batch = first_step(circuit, seed=1)
    plain = torch.tensor(weights / 2**16, requires_grad=True)
    targets = F.one_hot(torch.tensor(batch.labels), 10).double()
    loss = ((torch.tensor(batch.images / 16) @ plain - targets) ** 2).sum() / (2 * batch_size)
    expected = (plain - LEARNING_RATE * torch.autograd.grad(loss, plain)[0]).detach().numpy()
    errors = np.abs(step(circuit, weights, batch) / 2**16 - expected)
    assert errors.max() <= 2**-17 + 1e-12
    assert errors.max() > 2**-19  # it does round


def test_the_pixels_of_digits_are_sixteenths_and_lose_nothing():
    batch = pixel_batch(POINTS)
    assert np.array_equal(np.rint(batch.images * (255 / 16)), POINTS.images.flatten(1).numpy())
    assert np.array_equal(batch.labels, POINTS.labels.numpy())


def test_steps_of_the_linear_model_learn_digits():
    circuit, weights = Circuit(64, 16), np.zeros((64, 10), dtype=np.int64)
    for start in range(0, 1408, 16):
        weights = step(circuit, weights, pixel_batch(POINTS.take(range(start, start + 16))))
    test = pixel_batch(pk.test_points(pk.task("digits")))
    assert ((test.images @ weights).argmax(1) == test.labels).mean() > 0.75


def test_what_is_no_step_of_the_circuit_is_refused():
    with pytest.raises(ValueError, match="batch_size is 3, it must be a power of two"):
        Circuit(16, 3)
    with pytest.raises(ValueError, match="int64, with the shapes of Circuit"):
        step(SMALL, FIRST[:, :9], BATCH)
    with pytest.raises(ValueError, match="int64, with the shapes of Circuit"):
        step(SMALL, FIRST / 1.0, BATCH)
    ranges = rf"weights below {LARGEST_WEIGHT}, pixels 0 to 16, labels 0 to 9"
    beyond = replace(BATCH, images=BATCH.images + 16), replace(BATCH, labels=BATCH.labels - 10)
    for weights, batch in ((FIRST + LARGEST_WEIGHT - FIRST.max(), BATCH), *((FIRST, batch) for batch in beyond)):
        with pytest.raises(ValueError, match=ranges):
            step(SMALL, weights, batch)


def test_without_ezkl_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ezkl", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'polkit\[snark\]'"):
        setup(SMALL)


def test_a_setup_that_ends_early_leaves_nothing_in_the_way(tmp_path, monkeypatch):
    pytest.importorskip("ezkl")
    monkeypatch.setenv("POLKIT_HOME", str(tmp_path))
    monkeypatch.setattr(circuit, "compile_step", Mock(side_effect=KeyboardInterrupt))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            setup(SMALL)
    assert list((tmp_path / "snark").iterdir()) == []


def test_the_circuit_rounds_as_the_step_does_halves_too(keys, tmp_path):
    images = np.zeros((4, 16), dtype=np.int64)
    images[0, 0] = 1  # so the gradient of the first pixel's weights is their error
    weights = FIRST.copy()
    half = 1 << (SMALL.shift - 1)
    weights[0] = [half, -half, half + 1, half - 1, -half + 1, -half - 1, 3 * half, -3 * half, 0, 1]
    batch = Batch(images, np.array([9, 0, 0, 0]))
    after = step(SMALL, weights, batch)
    public = make_witness(keys, weights, batch, tmp_path / "witness.json")
    import ezkl

    assert [int(ezkl.felt_to_int(value)) for value in public[-160:]] == after.ravel().tolist()


def test_keys_and_srs_are_made_once(keys):
    before = {keys.folder / name: (keys.folder / name).stat().st_mtime_ns for name in ("proving.key", "srs")}
    assert setup(SMALL) == keys
    assert before == {file: file.stat().st_mtime_ns for file in before}
