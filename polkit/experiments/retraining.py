"""The two spoofs of the threat model that are honest work: retraining and distillation (Section II-B, kinds 1, 4)."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Unpack

import torch
from torch import Tensor

from polkit.adversary.forge import Made, forge, trained
from polkit.adversary.plan import Common, Plan, make_plan
from polkit.proof import Proof, cache_folder
from polkit.prover import proof_facts, prove
from polkit.training import Checkpoint, Conditions, Learner, Points, Progress, Task, normalise, training_points

RETRAINING = "retraining"  # its name in the matrix: no spoof, but the proof itself, made again


def retrain(task: Task, seed: int, *, conditions: Conditions = Conditions(), progress: Progress = True) -> Proof:
    """Kind 1: Algorithm 1 once more, by somebody who knows the prover's seed; byte for byte the prover's proof.

    The threat model rules that knowledge out (its capability 3). It is computed in a folder of its own, never taken
    from the prover's.
    """
    facts = proof_facts(task, seed, conditions, training_points(task))
    out = cache_folder("spoofs", attack="retraining", **facts)
    return prove(task, seed, out=out, conditions=conditions, progress=progress)


def distil(final: Checkpoint, task: Task, **common: Unpack[Common]) -> Proof:
    """Kind 4: an honest, valid proof of another model, W'_{T'}, that has learned to answer as f_{W_T} does.

    A fresh W_0 is trained for T' steps on the images with the labels that f_{W_T} gives them; both travel with the
    proof. The learning rates are the verifier's, so T' < T keeps the early, large ones and may never see the drops.
    """
    return forge(make_plan(final, task, **common).fresh(), "distillation", taught, {})


def taught(plan: Plan) -> Iterator[Made]:
    learner = plan.learner()
    points = Points(plan.points.images, teacher_labels(learner, plan))
    for made in trained(learner, replace(plan, points=points), len(plan.batches)):
        yield replace(made, points=points)


@torch.no_grad()
def teacher_labels(learner: Learner, plan: Plan) -> Tensor:
    """int64 (n,): the class that f_{W_T} gives each training image, in evaluation mode, without augmentation."""
    parts = plan.points.images.split(plan.task.batch_size)
    plan.meter.charge("forward", len(parts))  # the last, shorter batch is charged as a whole one
    learner.load(plan.final)
    learner.model.eval()
    labels = [learner.model(normalise(plan.task, learner.unit_pixels(part))).argmax(1).cpu() for part in parts]
    learner.model.train()
    return torch.cat(labels)
