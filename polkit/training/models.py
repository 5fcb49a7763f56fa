"""The paper's residual networks, and the distribution ζ from which each of their weights starts."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polkit.training.task import Task

SMALL = {"resnet8": ((8, 16, 32), 1), "resnet20": ((16, 32, 64), 3)}  # widths of the stages, blocks in each of them


@dataclass(frozen=True)
class Distribution:
    """ζ for one tensor: `normal` (scale: standard deviation), `uniform` on ±scale, or `constant` at scale."""

    kind: str
    scale: float

    def draw(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """float32 on the CPU, so that a seed gives the same weights on every device."""
        if self.kind == "normal":
            return torch.randn(shape, generator=generator) * self.scale
        if self.kind == "uniform":
            return (torch.rand(shape, generator=generator) * 2 - 1) * self.scale
        return torch.full(shape, self.scale)


def build_model(task: Task) -> nn.Module:
    """The task's model on the CPU in float32, in training mode; its weights are to be loaded or drawn."""
    if task.model in SMALL:
        model = SmallResNet(task.image_shape[0], *SMALL[task.model], task.classes)
    elif task.model in ("resnet18", "resnet50"):
        from torchvision.models import get_model  # slow to import, and the small networks need none of it

        model = get_model(task.model, weights=None, num_classes=task.classes, norm_layer=GroupedNorm)
        if task.image_shape[1] <= 32:  # the usual CIFAR form: the stem keeps all 32 x 32 positions
            model.conv1 = nn.Conv2d(task.image_shape[0], 64, 3, padding=1, bias=False)
            model.maxpool = nn.Identity()
    else:
        raise ValueError(f"there is no model {task.model!r}; the models are resnet8, resnet20, resnet18, resnet50")
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            # A checkpoint's step is its place in the proof; a second counter inside it says nothing more.
            layer.num_batches_tracked = None
    return model


class GroupedNorm(nn.BatchNorm2d):
    """Batch normalisation that can take several batches at once and normalises each by its own mean and variance."""

    batches = 1  # that go through the model together, one after the other in memory, all of one size

    def forward(self, images: Tensor) -> Tensor:
        if self.batches == 1:
            return super().forward(images)
        # Each channel of each batch counts as a channel of its own. The running statistics stay as they are: a replay
        # takes the batches one after another.
        count, (_, *shape) = self.batches, images.shape
        beside = images.unflatten(0, (count, -1)).transpose(0, 1).flatten(1, 2)
        weight, bias = self.weight.repeat(count), self.bias.repeat(count)
        found = F.batch_norm(beside, None, None, weight, bias, training=True, eps=self.eps)
        return found.unflatten(1, (count, -1)).transpose(0, 1).reshape(-1, *shape)


@contextmanager
def together(model: nn.Module, batches: int) -> Iterator[None]:
    """Inside, images that go through the model are so many batches of one size, each normalised by itself."""
    layers = [layer for layer in model.modules() if isinstance(layer, GroupedNorm)]
    for layer in layers:
        layer.batches = batches
    try:
        yield
    finally:
        for layer in layers:
            layer.batches = 1


class SmallResNet(nn.Module):
    """He et al.'s ResNet for small images: 6·blocks + 2 layers, parameter-free (option A) shortcuts."""

    def __init__(self, channels: int, widths: tuple[int, int, int], blocks: int, classes: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.norm = GroupedNorm(widths[0])
        self.blocks = nn.Sequential()
        inputs = widths[0]
        for stage, width in enumerate(widths):
            for block in range(blocks):
                self.blocks.append(BasicBlock(inputs, width, stride=2 if stage and not block else 1))
                inputs = width
        self.head = nn.Linear(inputs, classes)

    def forward(self, images: Tensor) -> Tensor:
        hidden = F.relu(self.norm(self.conv(images)), inplace=True)
        return self.head(self.blocks(hidden).mean((2, 3)))


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = GroupedNorm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = GroupedNorm(outputs)
        self.stride, self.added = stride, outputs - inputs

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = F.relu(self.norm1(self.conv1(inputs)), inplace=True)
        hidden = self.norm2(self.conv2(hidden))
        shortcut = inputs
        if self.stride > 1 or self.added:
            # Windows of one pixel: as a slice with steps, whose gradient would leave the channels_last layout.
            shortcut = F.avg_pool2d(inputs, 1, self.stride)
            shortcut = F.pad(shortcut, (0, 0, 0, 0, self.added // 2, self.added - self.added // 2))
        return F.relu(hidden + shortcut, inplace=True)


def weight_distributions(model: nn.Module) -> dict[str, Distribution]:
    """init(ζ), Algorithm 1 line 2, for every weight: Kaiming-normal convolutions, PyTorch's uniform linear
    layers, normalisation layers that start as the identity."""
    found = {}
    for path, layer in model.named_modules():
        prefix = f"{path}." if path else ""
        if isinstance(layer, nn.Conv2d):
            found[f"{prefix}weight"] = Distribution("normal", math.sqrt(2 / layer.weight[0].numel()))
        elif isinstance(layer, nn.Linear):
            bound = 1 / math.sqrt(layer.in_features)
            found[f"{prefix}weight"] = found[f"{prefix}bias"] = Distribution("uniform", bound)
        elif isinstance(layer, nn.BatchNorm2d):
            found[f"{prefix}weight"] = Distribution("constant", 1.0)
            found[f"{prefix}bias"] = Distribution("constant", 0.0)
    return {name: found[name] for name, _ in model.named_parameters()}


def initial_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Every buffer before the first step: running means 0, running variances 1."""
    return {
        name: torch.ones_like(value) if name.endswith("running_var") else torch.zeros_like(value)
        for name, value in model.named_buffers()
    }


def buffer_decays(model: nn.Module) -> dict[str, float]:
    """By what factor each buffer's own past shrinks in a step: 1 - m in r ← (1 - m) r + m · (the batch's statistic)."""
    return {
        f"{path}.{name}": 1 - layer.momentum
        for path, layer in model.named_modules()
        if isinstance(layer, nn.BatchNorm2d)
        for name in ("running_mean", "running_var")
    }
