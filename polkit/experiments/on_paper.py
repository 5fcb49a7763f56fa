"""What the paper's own proofs would take on a disk, by arithmetic."""

import pandas as pd

from polkit.proof import checkpoint_steps, tensor_shapes
from polkit.training.task import CIFAR10, CIFAR100, IMAGENET10


def paper_storage() -> pd.DataFrame:
    """Gigabytes (10^9 bytes) of the paper's own proofs: with the weights and buffers alone, and with momentum.

    The elements are counted from the models themselves, built on torch's `meta` device, at four bytes each.
    """
    rows = []
    for task in (CIFAR10, CIFAR100, IMAGENET10):
        elements = dict.fromkeys(("weights", "buffers", "momentum"), 0)
        for tensor, shape in tensor_shapes(task).items():
            elements[tensor.partition(".")[0]] += shape.numel()
        shown = elements["weights"] + elements["buffers"], sum(elements.values())
        for k in (10, 100):
            each = 4e-9 * len(checkpoint_steps(task.steps, k))
            rows.append((f"{task.data}, {task.model}", task.steps, elements["weights"], k, *(each * n for n in shown)))
    return pd.DataFrame(rows, columns=["training", "steps", "weights", "k", "weights_gigabytes", "gigabytes"])
