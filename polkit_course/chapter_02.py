"""Exercises of chapter 2, creating a proof."""

from collections.abc import Callable
from copy import deepcopy
from functools import lru_cache, partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from polkit.proof import Proof, proof_points
from polkit.training import Checkpoint, Conditions, Learner, Points, Task, applied, signature
from polkit.training.task import CIFAR10
from polkit_course.checking import exercise, wrong_choice, wrong_function, wrong_number

PAPER_WEIGHTS = 269_722  # of its ResNet-20, as the question says
close = partial(torch.allclose, rtol=1e-5, atol=1e-6)


@exercise("2.1", 1, "Half of a proof is optimiser state; without it a replay goes astray at its first step.")
def paper_gigabytes(answer: object) -> str:
    checkpoints = CIFAR10.steps // CIFAR10.checkpoint_interval + 1
    weights = 4 * PAPER_WEIGHTS * checkpoints / 1e9
    right = 2 * weights
    traps = {
        weights: "That is without the momentum, and no verifier can replay from weights alone.",
        2 * right: "float32 takes four bytes, not eight.",
        right * 1e9: "The question asks for GB, 10^9 bytes.",
        right * 1e9 / 2**30: "That is in units of 2^30 bytes; a GB has 10^9.",
        right * CIFAR10.checkpoint_interval: "A checkpoint is kept every k steps, not at every one.",
    }
    return wrong_number(answer, right, "GB", within=0.01, traps=traps)


@exercise("2.2", 1, "Most of the rest are indices, four bytes for each image of each step. No k makes them fewer.")
def other_than_checkpoints(answer: object, *, record: Callable, sizes: pd.DataFrame) -> str:
    """record(k, progress) -> dict with stored_bytes, and sizes, as the chapter defines them."""
    k, checkpoints = sizes[["checkpoint_interval", "stored_bytes"]].iloc[-1]
    whole = recorded_bytes(record, int(k))
    right = (whole - checkpoints) / whole
    traps = {
        (whole - checkpoints) / checkpoints: "That is in proportion to the checkpoints, not to the whole proof.",
        100 * right: "That is in percent; a share lies between 0 and 1.",
        1 - right: "That is the share of the checkpoints.",
    }
    return wrong_number(answer, right, "as a share", within=0.04, traps=traps)


@lru_cache(maxsize=1)  # a training, which each answer that a reader tries would repeat
def recorded_bytes(record: Callable, interval: int) -> int:
    return record(interval, progress=False)["stored_bytes"]


@exercise("2.3", 2, "They help to repeat the training exactly, and prove nothing: a stranger wrote them.")
def never_compared(answer: object) -> str:
    why_not = {
        "format": "A folder of another format is refused when it is opened.",
        "format_version": "A folder of another version is refused when it is opened.",
        "task": "The verifier has a task of its own, and says where the claimed one differs.",
        "steps": "More than T is refused, and from it follows which checkpoints must be there.",
        "checkpoint_interval": "For which k was δ calibrated?",
        "seed_commitment": "Who knows the seed before there is a dispute?",
        "conditions": "Under whose conditions does the verifier replay?",
        "versions": "Whose libraries compute the replay?",
        "files": "Every file's size and SHA-256 must be those named there.",
    }
    return wrong_choice(answer, {"seed_commitment", "conditions", "versions"}, why_not)


@exercise("2.4", 2, "Nine pixels in ten change and this hash does not: it protects only the bytes that reach it.")
def printed_alike(answer: object, *, proof: Proof) -> str:
    signed = proof_points(proof).take(proof.batches()[0])
    if not isinstance(answer, Points):
        return f"The answer must be a batch, pk.Points(images, labels), not {type(answer).__name__}."
    if answer.images.dtype != torch.uint8 or answer.images.shape != signed.images.shape:
        return f"Its images must be uint8 of shape {tuple(signed.images.shape)}, as those of the batch of step 0 are."
    if not torch.equal(answer.labels, signed.labels):
        return "Leave the labels as they are: only the images are hashed in their printed form."
    if signature(answer) == signature(signed):
        return "This is the batch that was signed."
    with np.printoptions(threshold=1000, edgeitems=3, linewidth=75):  # numpy's defaults
        printed = {str(batch.images.numpy()) for batch in (answer, signed)}
    if len(printed) > 1:
        return "Its printed form is another one: print both, and see which numbers are shown."
    changed = float((answer.images != signed.images).double().mean())
    return "" if changed >= 0.9 else f"Only {changed:.0%} of the pixels differ under this hash; 90% can be changed."


@exercise("2.5", 3, "A step is arithmetic on weights, momentum and a gradient; only the gradient needs the data.")
def own_update(answer: object, *, proof: Proof) -> str:
    task = proof.task.replace(weight_decay=0.5)  # at 1e-4 a forgotten decay moves no weight by 1e-6 in a step
    conditions, points, batches, start = Conditions(), proof_points(proof), proof.batches(), proof.checkpoint_interval
    cases = []
    with applied(conditions):
        learner = Learner(task, conditions)
        learner.load(proof.checkpoint(start))
        for step in (start, start + 1, proof.steps - 1):  # the last at the last learning rate
            before = learner.snapshot()
            learner.update(points.take(batches[step]), step=step, augmentation_seed=None)
            gradients = {name: value.grad.clone().contiguous() for name, value in learner.model.named_parameters()}
            cases.append((task, task.learning_rate_at(step), gradients, before, learner.snapshot()))
    return wrong_function(answer, "(weights, momentum, gradients, rate, task)", wrong_step, cases)


def wrong_step(
    answer: Callable, task: Task, rate: float, gradients: dict[str, Tensor], before: Checkpoint, after: Checkpoint
) -> str:
    given = (before.weights, before.momentum, gradients)
    found = answer(*deepcopy(given), rate, task)
    if not isinstance(found, (tuple, list)) or len(found) != 2 or not all(isinstance(part, dict) for part in found):
        return "It must return two dicts of tensors, the new weights and the new momentum."
    shapes = {name: value.shape for name, value in before.weights.items()}
    if any({name: value.shape for name, value in part.items()} != shapes for part in found):
        return "Each dict it returns must have a tensor for every name in `weights`, of the same shape, and no other."
    parts = (("weights", found[0], after.weights), ("momentum", found[1], after.momentum))
    wrong = [f"{part} {name}" for part, made, wanted in parts for name in shapes if not close(made[name], wanted[name])]
    if not wrong:
        return ""
    w, v, g, *made = (torch.cat([part[name].flatten() for name in shapes]) for part in (*given, *found))
    for why, mistaken in usual_mistakes(w, v, g, rate, task).items():
        if all(map(close, made, mistaken)):
            return why
    return f"With weight decay {task.weight_decay} and rate {rate:g}, the {wrong[0]} are not those of update."


def usual_mistakes(w: Tensor, v: Tensor, g: Tensor, rate: float, task: Task) -> dict[str, tuple[Tensor, Tensor]]:
    """Why it is wrong -> the weights and the momentum that it makes of weights w, momentum v and gradients g."""
    d, kept = g + task.weight_decay * w, task.momentum * v
    moved, mean, inside = kept + d, kept + (1 - task.momentum) * d, kept + rate * d
    return {
        "Weight decay is missing.": (w - rate * (kept + g), kept + g),
        "Weight decay belongs in the gradient and so in the momentum; yours is AdamW's.": (w - rate * moved, kept + g),
        "The weights must follow the momentum, not the gradient.": (w - rate * d, moved),
        "The momentum must change at every step, and drive the weights.": (w - rate * d, v),
        "The weights must follow the new momentum, not the old.": (w - rate * v, moved),
        "That is a running mean: this momentum adds the whole gradient.": (w - rate * mean, mean),
        "The rate stands outside the momentum; inside, a drop of the rate would come too late.": (w - inside, inside),
        "That is Nesterov's form, which looks one step ahead.": (w - rate * (d + task.momentum * moved), moved),
    }
