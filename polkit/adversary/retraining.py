"""The two spoofs of the threat model that are honest work (Section II-B): retraining, and distillation.

Kind 1, retraining-based, is `retrain`; kind 4, distillation-based, is `distil`. Kinds 2 and 3, stochastic and
structurally correct, are what `attack_1`, `attack_2`, `attack_3` and `interpolation_only` aim at.
"""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from polkit.adversary.perturb import passes_of
from polkit.adversary.plan import Plan, make_plan
from polkit.adversary.spoof import already_made, spoof_place, train_on_the_plan, write_spoof
from polkit.checkpoints import write_checkpoint
from polkit.data import Points, normalise
from polkit.places import cache_folder
from polkit.progress import Progress
from polkit.proof import Proof
from polkit.prover import prove
from polkit.task import Task
from polkit.training import (
    Checkpoint,
    Conditions,
    applied,
    initial_checkpoint,
    load,
    make_learner,
    unit_pixels,
)  # fmt: skip

RETRAINING = "retraining"  # its name in the matrix: no spoof, but the proof itself, made again


def retrain(task: Task, seed: int, *, conditions: Conditions = Conditions(), out: str | Path | None = None,
            progress: Progress = True) -> Proof:  # fmt: skip
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


def distil(final: Checkpoint, task: Task, *, spoof_steps: int, seed: int = 0, conditions: Conditions = Conditions(),
           out: str | Path | None = None, progress: Progress = True) -> Proof:  # fmt: skip
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
            learner = make_learner(task, conditions)
            load(learner, first)
            train_on_the_plan(passes_of(learner), plan, partial, spoof_steps, "distillation", progress)
        return write_spoof(plan, partial, folder, [], [], relabelled=True)


@torch.no_grad()
def teacher_labels(plan: Plan) -> Tensor:
    """int64 (n,): the class that f_{W_T} gives each training image, in evaluation mode, without augmentation."""
    labels, size = [], plan.task.batch_size
    with applied(plan.conditions):
        teacher = make_learner(plan.task, plan.conditions)
        load(teacher, plan.final)
        teacher.model.eval()
        for images in plan.points.images.split(size):
            shown = normalise(plan.task, unit_pixels(teacher, images))
            labels.append(teacher.model(shown).argmax(1).cpu())
            plan.meter.charge("forward")  # the last, shorter batch is charged as a whole one
    return torch.cat(labels)
