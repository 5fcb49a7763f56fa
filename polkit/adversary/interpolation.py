"""Spoofs that need no adversarial example: what remains of an attack when its optimisation is taken out."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from polkit.adversary.forge import Forged, forge, replayed_buffers
from polkit.adversary.perturb import Passes
from polkit.adversary.plan import Plan, make_plan
from polkit.proof import Proof
from polkit.training import Checkpoint, Conditions, Progress, Task
from polkit.verifier import Calibration


def interpolation_only(
    final: Checkpoint,
    task: Task,
    *,
    spoof_steps: int,
    seed: int = 0,
    calibration: Calibration | None = None,
    pace: Sequence[tuple[float, float]] = (),
    replayed_intervals: int | None = None,
    trained_steps: int = 0,
    conditions: Conditions = Conditions(),
    out: str | Path | None = None,
    workers: int = 1,
    progress: Progress = True,
) -> Proof:
    """The ablation of Attacks II and III: the same W_0 and straight path, with the data set's own batches.

    Whether it passes is the verifier's business: nothing here looks at how far a batch moves the weights. Each
    interval is replayed once, for the normalisation buffers that it ends with. replayed_intervals: how many of the
    first ones (default: all); in the others forward passes at W_{t-k}, a third of the cost, stand for the replay,
    since the weights hardly move there · trained_steps: how many of the first steps are trained indeed, from the same
    W_0, for what they would cost anyway; the path begins where they end, past the place where gradients are largest.
    Other arguments as in `attack_2`.
    """
    plan = make_plan(
        final, task, spoof_steps=spoof_steps, seed=seed, conditions=conditions, calibration=calibration, pace=pace
    )
    settings = {"replayed_intervals": len(plan.starts) if replayed_intervals is None else replayed_intervals}
    return forge(
        plan,
        "interpolation-only",
        leave_batches,
        settings,
        out=out,
        workers=workers,
        progress=progress,
        trained_steps=trained_steps,
    )


def leave_batches(passes: Passes, plan: Plan, start: int, checkpoint: Checkpoint, *, replayed_intervals: int) -> Forged:
    if start >= replayed_intervals * plan.task.checkpoint_interval:
        return pass_batches(passes, plan, start, checkpoint)
    batches = [plan.batch(step) for step in range(start, start + plan.task.checkpoint_interval)]
    return Forged([], replayed_buffers(passes, plan, start, checkpoint, batches))


def infinitesimal_update(
    final: Checkpoint,
    task: Task,
    *,
    spoof_steps: int,
    seed: int = 0,
    calibration: Calibration | None = None,
    learning_rate: float = 1e-9,
    pace: Sequence[tuple[float, float]] = (),
    conditions: Conditions = Conditions(),
    out: str | Path | None = None,
    workers: int = 1,
    progress: Progress = True,
) -> Proof:
    """Fang et al. 2023: the same straight path, and a claimed learning rate at which no batch moves the weights.

    So nothing but the spacing of the path is left as an error, whatever the data. It stands only before a verifier
    who lets the prover decide the learning rate (`prover_decides`). They pay one forward pass for a checkpoint; we
    pay the k forward passes that its normalisation buffers need, which their verifier does not compare.
    learning_rate: η as claimed · pace: knots (share of the steps, share of the path) for a path that is not evenly
    divided, as `staged_pace` gives them against thresholds by stage. Other arguments as in `attack_2`.
    """
    plan = make_plan(final, task, spoof_steps=spoof_steps, seed=seed, conditions=conditions, calibration=calibration)
    plan = replace(plan, task=task.replace(learning_rate=learning_rate), pace=tuple(pace))
    return forge(plan, "infinitesimal-update", pass_batches, {}, out=out, workers=workers, progress=progress)


def pass_batches(passes: Passes, plan: Plan, start: int, checkpoint: Checkpoint) -> Forged:
    """The buffers after k batches that leave the weights where they are."""
    learner = passes.learner
    learner.load(checkpoint)
    with torch.no_grad():
        for step in range(start, start + plan.task.checkpoint_interval):
            batch = plan.batch(step)
            learner.loss(batch.points, batch.augmentation_seed)
            plan.meter.charge("forward")
    return Forged([], learner.snapshot().buffers)
