"""The two spoofs of the threat model that are honest work (Section II-B): retraining, and distillation.

Kind 1, retraining-based, is `retrain`; kind 4, distillation-based, is `distil`. Kinds 2 and 3, stochastic and
structurally correct, are what `attack_1`, `attack_2`, `attack_3` and `interpolation_only` aim at.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from polkit.adversary.forge import already_made, spoof_place, train_on_the_plan, write_spoof
from polkit.adversary.perturb import passes_of
from polkit.adversary.plan import Plan, make_plan
from polkit.proof import (
    Proof,
    cache_folder,
    fresh_folder,
    open_proof,
    proof_points,
    record_path,
    write_checkpoint,
    write_manifest,
)
from polkit.prover import prove
from polkit.training import (
    Checkpoint,
    Conditions,
    Learner,
    Points,
    Progress,
    Task,
    applied,
    derive_seed,
    initial_checkpoint,
    normalise,
    signatures_of,
)

RETRAINING = "retraining"  # its name in the matrix: no spoof, but the proof itself, made again


def retrain(
    task: Task,
    seed: int,
    *,
    conditions: Conditions = Conditions(),
    out: str | Path | None = None,
    progress: Progress = True,
) -> Proof:
    """Kind 1: Algorithm 1 once more, by somebody who knows the prover's seed; byte for byte the prover's proof.

    The threat model rules that knowledge out (its capability 3). Computed in a folder of its own, never taken from
    the prover's: it costs what the proof cost. Raises FileExistsError if `out` exists.
    """
    if out is None:
        facts = {"task": task.to_json(), "seed": seed, "conditions": conditions.to_json()}
        out = cache_folder("spoofs", attack="retraining", **facts)
    elif Path(out).exists():
        raise FileExistsError(f"{out} exists already: choose another folder for the spoof")
    return prove(task, seed, out=out, conditions=conditions, progress=progress)


def distil(
    final: Checkpoint,
    task: Task,
    *,
    spoof_steps: int,
    seed: int = 0,
    conditions: Conditions = Conditions(),
    out: str | Path | None = None,
    progress: Progress = True,
) -> Proof:
    """Kind 4: an honest, valid proof of another model, W'_{T'}, that has learned to answer as f_{W_T} does.

    A fresh W_0 is trained for T' = `spoof_steps` steps on the training images with the labels that f_{W_T} gives
    them; images and labels travel with the proof. The learning rate of each step is the verifier's, so T' < T keeps
    the early, large ones and may never come to the drops. Other arguments as in `attack_2`.
    """
    plan = make_plan(final, task, spoof_steps=spoof_steps, seed=seed, conditions=conditions)
    with spoof_place(plan, "distillation", {}, out) as (folder, partial):
        if partial is None:
            return already_made(plan, folder)
        first = initial_checkpoint(task, plan.seed)
        plan = replace(plan, first=first, points=Points(plan.points.images, teacher_labels(plan)))
        write_checkpoint(partial, 0, first)
        with applied(conditions):
            learner = Learner(task, conditions)
            learner.load(first)
            train_on_the_plan(passes_of(learner), plan, partial, spoof_steps, "distillation", progress)
        return write_spoof(plan, partial, folder, [], [], relabelled=True)


@torch.no_grad()
def teacher_labels(plan: Plan) -> Tensor:
    """int64 (n,): the class that f_{W_T} gives each training image, in evaluation mode, without augmentation."""
    labels, size = [], plan.task.batch_size
    with applied(plan.conditions):
        teacher = Learner(plan.task, plan.conditions)
        teacher.load(plan.final)
        teacher.model.eval()
        for images in plan.points.images.split(size):
            shown = normalise(plan.task, teacher.unit_pixels(images))
            labels.append(teacher.model(shown).argmax(1).cpu())
            plan.meter.charge("forward")  # the last, shorter batch is charged as a whole one
    return torch.cat(labels)


# The share of the points that no interval may use: those whose loss falls least in it. A rank test needs no more to
# be content, and few batches have to change, so that what was computed with them hardly does.
UNFIT = 0.15


def fitted_batches(spoof: Proof, out: str | Path, *, seed: int = 1, conditions: Conditions = Conditions()) -> Proof:
    """The same spoof with a few other points: those that an interval's path happens to make worse give way to others
    that it does not, drawn by lot, as if the interval had learnt what is left.

    It costs one forward pass over the data for each checkpoint. Only whoever can name the batches before there is a
    path, as a seed from the data does, can tell. Raises FileExistsError if `out` is there already.
    """
    folder, k = Path(out), spoof.checkpoint_interval
    if folder.exists():
        raise FileExistsError(f"{folder} exists already: choose another folder for the spoof")
    generator = np.random.default_rng(derive_seed(seed, "fitted batches"))
    points, batches = proof_points(spoof), spoof.batches()
    for start, fall in zip(spoof.checkpoint_steps, _falls(spoof, points, conditions), strict=False):
        steps = batches[start : start + k]
        unfit = np.argsort(fall)[: int(UNFIT * len(fall))]
        places = np.isin(steps, unfit)
        unused = np.setdiff1d(np.arange(len(fall)), np.concatenate([steps.ravel(), unfit]))
        steps[places] = generator.choice(unused, places.sum(), replace=places.sum() > len(unused))
    partial = fresh_folder(folder)
    shutil.copytree(spoof.folder, partial, dirs_exist_ok=True)
    np.save(partial / "batches.npy", batches)
    np.save(partial / "signatures.npy", signatures_of(points, batches))
    write_manifest(partial, {name: value for name, value in spoof.manifest.items() if name != "files"})
    shutil.copy(record_path(spoof.folder), record_path(folder))
    partial.rename(folder)
    return open_proof(folder)


@torch.no_grad()
def _falls(spoof: Proof, points: Points, conditions: Conditions) -> np.ndarray:
    """float64 (T'/k, n): by how much the loss of each point falls in each interval."""
    losses = []
    with applied(conditions):
        learner = Learner(spoof.task, conditions)
        images = normalise(spoof.task, learner.unit_pixels(points.images))
        images = images.contiguous(memory_format=torch.channels_last)
        for step in spoof.checkpoint_steps:
            learner.load(spoof.checkpoint(step))
            found = F.cross_entropy(learner.model(images), points.labels, reduction="none")
            losses.append(found.double().cpu().numpy())
    return -np.diff(np.stack(losses), axis=0)
