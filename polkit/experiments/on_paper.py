"""What cannot be run here, by arithmetic: the paper's own settings, ImageNet with ResNet-50, a billion parameters."""

import math
from dataclasses import dataclass

import pandas as pd

from polkit.proof import checkpoint_steps, tensor_shapes
from polkit.training import CIFAR10, CIFAR100, IMAGENET10, Task, unit_costs

PAPER_INTERVALS = (10, 100)
# torchvision's ResNet-50 on all of ImageNet: 1,281,167 images of 224 pixels, batch 256, 90 epochs.
IMAGENET = Task(
    data="imagenet",
    model="resnet50",
    classes=1000,
    image_shape=(3, 224, 224),
    train_size=1_281_167,
    batch_size=256,
    epochs=90,
    checkpoint_interval=100,
    learning_rate=0.1,
    momentum=0.9,
    weight_decay=1e-4,
    milestones=(30, 60),
    learning_rate_drop=10.0,
    shift=28,
    flip=True,
)


@dataclass(frozen=True)
class Training:
    """A training on paper. weights, buffers: elements of one checkpoint · states: of the optimiser, per weight ·
    update_operations: floating-point operations of one step, where they are asked for."""

    name: str
    steps: int
    weights: int
    buffers: int
    states: int
    update_operations: float = math.nan

    def stored_bytes(self, interval: int, with_states: bool = True) -> int:
        """All float32 checkpoints 0, k, 2k, …, T."""
        elements = self.weights * (1 + (self.states if with_states else 0)) + self.buffers
        return 4 * elements * len(set(checkpoint_steps(self.steps, interval)))


def training_of(name: str, task: Task, update_operations: float = math.nan) -> Training:
    """Counted from the model itself, built on torch's `meta` device."""
    elements = dict.fromkeys(("weights", "buffers", "momentum"), 0)
    for tensor, shape in tensor_shapes(task).items():
        elements[tensor.partition(".")[0]] += shape.numel()
    return Training(name, task.steps, elements["weights"], elements["buffers"], 1, update_operations)


def language_model(parameters: int = 10**9, tokens: int = 20 * 10**9, tokens_per_step: int = 2**19) -> Training:
    """A language model trained on 20 tokens a parameter (Hoffmann et al. 2022), 6 operations for each (Kaplan et al.
    2020), Adam with its two states, no normalisation buffers."""
    return Training(
        f"{parameters:,} parameters", tokens // tokens_per_step, parameters, 0, 2, 6.0 * parameters * tokens_per_step
    )


def paper_trainings() -> list[Training]:
    named = (("cifar10", CIFAR10), ("cifar100", CIFAR100), ("imagenet10", IMAGENET10))
    return [training_of(f"{name}, {task.model}", task) for name, task in named]


def paper_storage(intervals: tuple[int, ...] = PAPER_INTERVALS) -> pd.DataFrame:
    """Gigabytes (10^9 bytes) of the paper's own proofs: with the weights and buffers alone, and with momentum."""
    return pd.DataFrame(
        [
            {
                "training": each.name,
                "steps": each.steps,
                "weights": each.weights,
                "k": interval,
                "weights_gigabytes": each.stored_bytes(interval, with_states=False) / 1e9,
                "gigabytes": each.stored_bytes(interval) / 1e9,
            }
            for each in paper_trainings()
            for interval in intervals
        ]
    )


def at_scale(
    operations_per_second: float, interval: int = 100, intervals_replayed: int = 100, spoof_share: float = 0.2
) -> pd.DataFrame:
    """A proof of each large training on a machine that does so many operations a second.

    Columns: days of training, terabytes of checkpoints every k steps (all pass through the verifier's hash), hours
    to replay so many intervals, days of a spoof that takes this share of the operations.
    """
    rows = []
    operations = unit_costs(IMAGENET, ["update"])["update"].floating_point_operations
    for each in (training_of("ImageNet, ResNet-50", IMAGENET, operations), language_model()):
        step_seconds = each.update_operations / operations_per_second
        rows.append(
            {
                "training": each.name,
                "steps": each.steps,
                "weights": each.weights,
                "training_days": each.steps * step_seconds / 86400,
                "terabytes": each.stored_bytes(interval) / 1e12,
                "verifying_hours": intervals_replayed * interval * step_seconds / 3600,
                "spoof_days": spoof_share * each.steps * step_seconds / 86400,
            }
        )
    return pd.DataFrame(rows)
