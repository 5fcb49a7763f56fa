"""Exercises of chapter 2, creating a proof."""

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from polkit.book.course.checking import Exercise, wrong_choice, wrong_number
from polkit.proof import Proof, ProofError, open_proof, proof_points
from polkit.training import CIFAR10, Checkpoint, Conditions, Learner, Points, Task, applied, signature
from polkit.verifier import check_claims, check_files

PAPER_WEIGHTS = 272_474  # of a ResNet-20 with convolutions in its shortcuts, as the question says


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


def other_than_checkpoints(answer: object, *, record: Callable, sizes: pd.DataFrame) -> str:
    """record(k, progress) -> dict with stored_bytes, and sizes, as the chapter defines them."""
    k, checkpoints = sizes[["checkpoint_interval", "stored_bytes"]].iloc[-1]
    whole = _recorded_bytes(record, int(k))
    right = (whole - checkpoints) / whole
    traps = {
        (whole - checkpoints) / checkpoints: "That is in proportion to the checkpoints, not to the whole proof.",
        100 * right: "That is in percent; a share lies between 0 and 1.",
        1 - right: "That is the share of the checkpoints.",
    }
    return wrong_number(answer, right, "as a share", within=0.04, traps=traps)


@lru_cache(maxsize=1)  # two seconds of training, for every answer that a reader tries
def _recorded_bytes(record: Callable, interval: int) -> int:
    return record(interval, progress=False)["stored_bytes"]


def never_compared(answer: object, *, proof: Proof) -> str:
    ignored = {name for name, value in proof.manifest.items() if not _notices(proof, name, _other(value))}
    return wrong_choice(
        answer,
        ignored,
        {
            "format": "A folder of another format is refused when it is opened.",
            "format_version": "A folder of another version is refused when it is opened.",
            "task": "The verifier has a task of its own, and says where the claimed one differs.",
            "steps": "More than T is refused, and from it follows which checkpoints must be there.",
            "checkpoint_interval": "For which k was δ calibrated?",
            "seed_commitment": "Who knows the seed before there is a dispute?",
            "conditions": "Under whose conditions does the verifier replay?",
            "versions": "Whose libraries compute the replay?",
            "files": "Every file's size and SHA-256 must be those named there.",
        },
    )


def _other(value: object) -> object:
    """Another value of the same type; of a dict the numbers, or else all, are others."""
    if isinstance(value, dict):
        numbers = {key for key, each in value.items() if type(each) in (int, float)}
        return {key: _other(each) if key in numbers or not numbers else each for key, each in value.items()}
    return value + "0" if isinstance(value, str) else value + 1


def _notices(proof: Proof, name: str, value: object) -> bool:
    """Whether a verifier finds fault with the claims or the files of a proof whose manifest says this instead."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "manifest.json").write_text(json.dumps(proof.manifest | {name: value}))
        try:
            claimed = replace(open_proof(folder), folder=proof.folder)
        except ProofError:
            return True
    # Files are hashed for the one entry that is about them.
    return bool(check_claims(claimed, proof.task) or (name == "files" and check_files(claimed, proof.task)))


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
    if _printed_digest(answer.images) != _printed_digest(signed.images):
        return "Its printed form is another one: print both, and see which numbers stand where."
    changed = float((answer.images != signed.images).double().mean())
    return "" if changed >= 0.9 else f"The hash is deceived, and {changed:.0%} of the pixels are others; 90 % can be."


def _printed_digest(images: Tensor) -> bytes:
    with np.printoptions(threshold=1000, edgeitems=3, linewidth=75):
        return hashlib.sha256(str(images.numpy()).encode()).digest()


def own_update(answer: object, *, proof: Proof) -> str:
    if not callable(answer):
        return f"The answer must be a function that makes one step, not {type(answer).__name__}."
    # At the task's own 1e-4 a forgotten decay moves no weight by 1e-6 in a step.
    task = proof.task.replace(weight_decay=0.5)
    for before, gradients, rate, after in _real_steps(proof, task):
        given = [
            {name: value.clone() for name, value in part.items()}
            for part in (before.weights, before.momentum, gradients)
        ]
        found = answer(*given, rate, task)
        if not isinstance(found, (tuple, list)) or len(found) != 2 or not all(isinstance(part, dict) for part in found):
            return "It must return two dicts of tensors, the new weights and the new momentum."
        if any(part.keys() != before.weights.keys() for part in found):
            return "Each dict it returns must have a tensor for every name in `weights`, and no other."
        if _alike(found, (after.weights, after.momentum)):
            continue
        for variant, why in _usual_mistakes(task):
            if _alike(found, _each(variant, before, gradients, rate)):
                return why
        part = "weights" if not _alike(found[:1], (after.weights,)) else "momentum"
        wanted = getattr(after, part)
        name = next(name for name, value in found[part == "momentum"].items() if not _close(value, wanted[name]))
        return f"With weight decay {task.weight_decay} and rate {rate:g}, the {part} {name} are not those of update."
    return ""


def _real_steps(proof: Proof, task: Task) -> list[tuple[Checkpoint, dict[str, Tensor], float, Checkpoint]]:
    """What Learner.update makes of the first checkpoint after W_0, with an early rate twice and with the last one."""
    conditions, points, batches = Conditions(), proof_points(proof), proof.batches()
    start, steps = proof.checkpoint_interval, []
    with applied(conditions):
        learner = Learner(task, conditions)
        learner.load(proof.checkpoint(start))
        for step in (start, start + 1, proof.steps - 1):
            before = learner.snapshot()
            learner.update(points.take(batches[step]), step=step, augmentation_seed=None)
            gradients = {name: value.grad.clone().contiguous() for name, value in learner.model.named_parameters()}
            steps.append((before, gradients, task.learning_rate_at(step), learner.snapshot()))
    return steps


def _usual_mistakes(task: Task) -> list[tuple[Callable, str]]:
    """(w, v, g, rate) -> (w, v) of one tensor, g with the decay or without it, and what is wrong with it."""
    keep, decay = task.momentum, task.weight_decay
    bare = [
        (lambda w, v, g, rate: (w - rate * (keep * v + g), keep * v + g), "Weight decay is missing."),
        (
            lambda w, v, g, rate: (w - rate * (keep * v + g) - rate * decay * w, keep * v + g),
            "Weight decay goes into the gradient, and with it into the momentum; beside them it is AdamW's.",
        ),
    ]
    decayed = [
        (lambda w, v, g, rate: (w - rate * g, keep * v + g), "The weights must follow the momentum, not the gradient."),
        (lambda w, v, g, rate: (w - rate * g, v), "The momentum must change at every step, and drive the weights."),
        (lambda w, v, g, rate: (w - rate * v, keep * v + g), "The weights must follow the new momentum, not the old."),
        (
            lambda w, v, g, rate: (w - rate * (keep * v + (1 - keep) * g), keep * v + (1 - keep) * g),
            "That is a running mean: this momentum adds the whole gradient.",
        ),
        (
            lambda w, v, g, rate: (w - (keep * v + rate * g), keep * v + rate * g),
            "The rate stands outside the momentum; inside, a drop of the rate would come too late.",
        ),
        (
            lambda w, v, g, rate: (w - rate * (g + keep * (keep * v + g)), keep * v + g),
            "That is Nesterov's form, which looks one step ahead.",
        ),
    ]
    return bare + [(lambda w, v, g, rate, rule=rule: rule(w, v, g + decay * w, rate), why) for rule, why in decayed]


def _each(rule: Callable, before: Checkpoint, gradients: dict[str, Tensor], rate: float) -> list[dict[str, Tensor]]:
    made = {name: rule(value, before.momentum[name], gradients[name], rate) for name, value in before.weights.items()}
    return [{name: pair[place] for name, pair in made.items()} for place in (0, 1)]


def _alike(found: list, wanted: list) -> bool:
    pairs = zip(found, wanted, strict=True)
    return all(_close(value, named[name]) for part, named in pairs for name, value in part.items())


def _close(value: Tensor, wanted: Tensor) -> bool:
    return value.shape == wanted.shape and torch.allclose(value, wanted, rtol=1e-5, atol=1e-6)


EXERCISES = {
    "2.1": Exercise(
        "easy",
        5,
        paper_gigabytes,
        "Half of a proof is optimiser state, of which the finished model knows nothing; without it a "
        "replay goes astray at its first step.",
    ),
    "2.2": Exercise(
        "easy",
        5,
        other_than_checkpoints,
        "Nearly all of the rest are indices, four bytes for every image of every step: they do not become "
        "fewer with k, so no k makes a proof smaller than its record of the data.",
    ),
    "2.3": Exercise(
        "medium",
        10,
        never_compared,
        "They are of use to whoever wants to repeat the training exactly, and prove nothing: a stranger wrote them.",
    ),
    "2.4": Exercise(
        "medium",
        10,
        printed_alike,
        "Nine pixels in ten can be exchanged under a signature that still fits: a hash protects only the "
        "bytes that reach it.",
    ),
    "2.5": Exercise(
        "hard",
        20,
        own_update,
        "A step is a few lines of arithmetic on what a checkpoint holds, weights and momentum, and on a "
        "gradient; only the gradient needs the data.",
    ),
}
