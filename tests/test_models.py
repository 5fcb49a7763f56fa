"""The networks against a plain functional forward pass, and every weight against the distribution it is drawn from."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import polkit as pk
from polkit.training.models import build_model, initial_buffers, weight_distributions

NAMES = ("digits", "cifar10", "cifar100", "imagenet10")


def on_meta(name):
    with torch.device("meta"):
        return build_model(pk.task(name))


def by_hand(tensors, images, widths, blocks):
    """He et al.'s network of 6n + 2 layers with option A shortcuts, from its tensors by name, in evaluation mode."""

    def convolved(hidden, conv, norm, stride=1):
        hidden = F.conv2d(hidden, tensors[f"{conv}.weight"], stride=stride, padding=1)
        mean, variance, weight, bias = (
            tensors[f"{norm}.{name}"][:, None, None] for name in ("running_mean", "running_var", "weight", "bias")
        )
        return (hidden - mean) / (variance + 1e-5).sqrt() * weight + bias

    hidden = convolved(images, "conv", "norm").clamp(min=0)
    number = 0
    for stage, width in enumerate(widths):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            path = f"blocks.{number}"
            inner = convolved(hidden, f"{path}.conv1", f"{path}.norm1", stride).clamp(min=0)
            inner = convolved(inner, f"{path}.conv2", f"{path}.norm2")
            shortcut = torch.zeros_like(inner)
            before = hidden.shape[1]
            first = (width - before) // 2
            shortcut[:, first : first + before] = hidden[:, :, ::stride, ::stride]
            hidden = (inner + shortcut).clamp(min=0)
            number += 1
    return hidden.mean((2, 3)) @ tensors["head.weight"].T + tensors["head.bias"]


@pytest.mark.parametrize(("name", "widths", "blocks"), [("digits", (8, 16, 32), 1), ("cifar10", (16, 32, 64), 3)])
def test_the_small_networks_compute_what_he_et_al_describe(name, widths, blocks):
    task = pk.task(name)
    model = build_model(task).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=torch.float64) - 0.3)
        for key, tensor in model.named_buffers():
            if key.endswith("running_var"):
                tensor.abs_().add_(0.5)
        images = torch.rand((2, *task.image_shape), generator=generator, dtype=torch.float64)
        expected = by_hand(model.state_dict(), images, widths, blocks)
        torch.testing.assert_close(model(images), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "layers"), [("digits", 8), ("cifar10", 20), ("cifar100", 50), ("imagenet10", 18)])
def test_a_resnets_number_counts_its_weight_layers(name, layers):
    found = [path for path, layer in on_meta(name).named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len([path for path in found if "downsample" not in path]) == layers


def test_the_cifar_stem_keeps_every_position_and_the_imagenet_stem_a_sixteenth():
    small, large = on_meta("cifar100"), on_meta("imagenet10")
    positions = [
        model.maxpool(model.conv1(torch.empty(1, 3, *shape, device="meta"))).shape[2:]
        for model, shape in ((small, (32, 32)), (large, (128, 128)))
    ]
    assert positions == [(32, 32), (32, 32)]


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_has_the_distribution_of_its_layer(name):
    model = on_meta(name)
    found = weight_distributions(model)
    assert list(found) == [key for key, _ in model.named_parameters()]
    for path, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d):
            fan_in = layer.in_channels * math.prod(layer.kernel_size)
            expected = {"weight": ("normal", math.sqrt(2 / fan_in))}
        elif isinstance(layer, nn.Linear):
            expected = dict.fromkeys(("weight", "bias"), ("uniform", layer.in_features**-0.5))
        elif isinstance(layer, nn.BatchNorm2d):
            expected = {"weight": ("constant", 1.0), "bias": ("constant", 0.0)}
        else:
            continue
        for key, (kind, scale) in expected.items():
            drawn = found[f"{path}.{key}"]
            assert (drawn.kind, drawn.scale) == (kind, pytest.approx(scale)), f"{path}.{key}"


@pytest.mark.parametrize("name", ["digits", "cifar10"])
def test_drawn_weights_have_the_moments_of_their_distribution(name):
    task = pk.task(name)
    drawn = pk.initial_checkpoint(task, 7)
    model = build_model(task)
    for key, value in model.named_parameters():
        assert drawn.weights[key].shape == value.shape
        required, sample = weight_distributions(model)[key], drawn.weights[key].double()
        if required.kind == "constant":
            assert sample.eq(required.scale).all()
            continue
        deviation = required.scale / (1 if required.kind == "normal" else math.sqrt(3))
        # Five standard errors of the mean, and of the deviation of a normal sample (a uniform one's is smaller).
        assert abs(float(sample.mean())) < 5 * deviation / math.sqrt(sample.numel()), key
        assert abs(float(sample.std(correction=0)) / deviation - 1) < 5 / math.sqrt(2 * sample.numel()), key
        if required.kind == "uniform":
            assert float(sample.abs().max()) <= required.scale


def test_no_two_layers_share_a_draw():
    weights = pk.initial_checkpoint(pk.task("cifar10"), 0).weights
    left, right = (weights[f"blocks.{block}.conv1.weight"] for block in (0, 1))
    assert left.shape == right.shape
    assert float((left * right).mean().abs()) < 0.2 * float(left.std() * right.std())


def test_running_statistics_start_at_zero_and_one():
    model = build_model(pk.task("digits"))
    buffers = initial_buffers(model)
    assert set(buffers) == {key for key, _ in model.named_buffers()}
    assert len(buffers) == 2 * sum(isinstance(layer, nn.BatchNorm2d) for layer in model.modules()) == 14
    for key, value in buffers.items():
        assert value.eq(1.0 if key.endswith("running_var") else 0.0).all(), key


def test_an_unknown_model_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="no model 'resnet9'; the models are resnet8, resnet20, resnet18, resnet50"):
        build_model(pk.task("digits").replace(model="resnet9"))


@pytest.mark.parametrize(
    ("name", "parameters", "classes"),
    [("digits", 19_074, 10), ("cifar10", 269_722, 10), ("cifar100", 23_705_252, 100), ("imagenet10", 11_181_642, 10)],
)
def test_the_papers_models(name, parameters, classes):
    task = pk.task(name)
    with torch.device("meta"):
        model = build_model(task)
        shown = model(torch.empty(2, *task.image_shape))
    assert sum(value.numel() for value in model.parameters()) == parameters
    assert shown.shape == (2, classes)
    assert set(weight_distributions(model)) == {key for key, _ in model.named_parameters()}
    assert not any("num_batches" in key for key in model.state_dict())


def test_weights_are_drawn_as_declared():
    task = pk.task("cifar10")
    drawn, again, other = (pk.initial_checkpoint(task, seed).weights for seed in (0, 0, 1))
    assert float(drawn["blocks.8.conv2.weight"].std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert float(drawn["head.weight"].abs().max()) <= 1 / 8
    assert torch.equal(drawn["conv.weight"], again["conv.weight"])
    assert not torch.equal(drawn["conv.weight"], other["conv.weight"])
