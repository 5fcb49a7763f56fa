"""verifyInitialization(): honest draws pass, and each departure is found in the tensor that holds it."""

import math

import pytest
import torch
from scipy import stats

import polkit as pk

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


def test_an_honest_w_0_passes(small_task):
    for seed in range(20):
        assert failed(small_task, pk.initial_checkpoint(small_task, seed)) == set(), f"seed {seed}"


def test_an_honest_w_0_passes_in_float64(small_task, first):
    parts = {part: {name: value.double() for name, value in named.items()} for part, named in first.parts().items()}
    assert failed(small_task, pk.Checkpoint(**parts)) == set()


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
