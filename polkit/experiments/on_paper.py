"""What cannot be run here, by arithmetic: the paper's own settings, ImageNet with ResNet-50, a billion parameters."""

import math
from dataclasses import dataclass

import pandas as pd

from polkit.proof import checkpoint_steps, tensor_shapes
from polkit.training import Task, unit_costs
from polkit.training.task import CIFAR10, CIFAR100, IMAGENET10

# torchvision's ResNet-50 on all of ImageNet: 1,281,167 images of 224 pixels, batch 256, 90 epochs.
IMAGENET = IMAGENET10.replace(
    data="imagenet",
    model="resnet50",
    classes=1000,
    image_shape=(3, 224, 224),
    train_size=1_281_167,
    batch_size=256,
    epochs=90,
    milestones=(30, 60),
    shift=28,
)
PARAMETERS, TOKENS, TOKENS_A_STEP = 10**9, 20 * 10**9, 2**19  # 20 tokens a parameter (Hoffmann et al. 2022)


@dataclass(frozen=True)
class Training:
    """A training on paper."""

    name: str
    steps: int  # T
    weights: int  # elements of one checkpoint
    buffers: int
    states: int  # of the optimiser, per weight
    update_operations: float = math.nan  # floating-point operations of one step

    def stored_bytes(self, interval: int, with_states: bool = True) -> int:
        """All float32 checkpoints 0, k, 2k, …, T."""
        elements = self.weights * (1 + with_states * self.states) + self.buffers
        return 4 * elements * len(set(checkpoint_steps(self.steps, interval)))


def training_of(name: str, task: Task, update_operations: float = math.nan) -> Training:
    """Counted from the model itself, built on torch's `meta` device."""
    elements = dict.fromkeys(("weights", "buffers", "momentum"), 0)
    for tensor, shape in tensor_shapes(task).items():
        elements[tensor.partition(".")[0]] += shape.numel()
    return Training(name, task.steps, elements["weights"], elements["buffers"], 1, update_operations)


def language_model() -> Training:
    """6 operations a parameter and token (Kaplan et al. 2020), Adam with its two states, no normalisation buffers."""
    operations = 6.0 * PARAMETERS * TOKENS_A_STEP
    return Training(f"{PARAMETERS:,} parameters", TOKENS // TOKENS_A_STEP, PARAMETERS, 0, 2, operations)


def paper_trainings() -> list[Training]:
    return [training_of(f"{task.data}, {task.model}", task) for task in (CIFAR10, CIFAR100, IMAGENET10)]


def paper_storage() -> pd.DataFrame:
    """Gigabytes (10^9 bytes) of the paper's own proofs: with the weights and buffers alone, and with momentum."""
    rows = [
        (each.name, each.steps, each.weights, k, *(each.stored_bytes(k, states) / 1e9 for states in (False, True)))
        for each in paper_trainings()
        for k in (10, 100)
    ]
    return pd.DataFrame(rows, columns=["training", "steps", "weights", "k", "weights_gigabytes", "gigabytes"])


def at_scale(
    operations_per_second: float, interval: int = 100, intervals_replayed: int = 100, spoof_share: float = 0.2
) -> pd.DataFrame:
    """A proof of each large training on a machine that does so many operations a second.

    Columns: days of training, terabytes of checkpoints every k steps (all pass through the verifier's hash), hours
    to replay so many intervals, days of a spoof that takes this share of the operations.
    """
    rows, operations = [], unit_costs(IMAGENET, ["update"])["update"].floating_point_operations
    for each in (training_of("ImageNet, ResNet-50", IMAGENET, operations), language_model()):
        seconds = each.update_operations / operations_per_second
        days, terabytes = each.steps * seconds / 86400, each.stored_bytes(interval) / 1e12
        hours = intervals_replayed * interval * seconds / 3600
        rows.append((each.name, each.steps, each.weights, days, terabytes, hours, spoof_share * days))
    columns = ["training", "steps", "weights", "training_days", "terabytes", "verifying_hours", "spoof_days"]
    return pd.DataFrame(rows, columns=columns)
