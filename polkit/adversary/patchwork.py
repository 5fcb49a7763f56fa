"""Spoofs sewn together from what is at hand, which trust that nobody looks at the seam."""

from collections.abc import Callable
from pathlib import Path

import torch

from polkit.adversary.forge import already_made, spoof_place, train_on_the_plan, write_spoof
from polkit.adversary.path import at_rest
from polkit.adversary.perturb import passes_of
from polkit.adversary.plan import Plan, make_plan
from polkit.proof import Proof, write_checkpoint
from polkit.training import Checkpoint, Conditions, Learner, Progress, Task, applied, initial_checkpoint
from polkit.verifier import Calibration


def concatenation(
    final: Checkpoint,
    task: Task,
    *,
    spoof_steps: int,
    seed: int = 0,
    calibration: Calibration | None = None,
    conditions: Conditions = Conditions(),
    out: str | Path | None = None,
    progress: Progress = True,
) -> Proof:
    """Two proofs one behind the other (Jia et al. 2021, Section V): a training of the adversary's own for half of T',
    then a model at rest that is f_{W_T} and was never reached.

    Every interval before the seam is real; every one behind it claims that k updates have left W_T where it was. Only
    the seam itself jumps. Arguments as in `attack_2`. Raises ValueError if T' is shorter than two intervals.
    """

    def at_rest_there(step: int) -> Checkpoint:
        return Checkpoint(final.weights, final.buffers, at_rest(final.weights))

    plan = make_plan(final, task, spoof_steps=spoof_steps, seed=seed, conditions=conditions, calibration=calibration)
    return _sewn(plan, "concatenation", at_rest_there, out, progress)


def non_finite(
    final: Checkpoint,
    task: Task,
    *,
    spoof_steps: int,
    seed: int = 0,
    calibration: Calibration | None = None,
    conditions: Conditions = Conditions(),
    out: str | Path | None = None,
    progress: Progress = True,
) -> Proof:
    """A training of the adversary's own for half of T', NaN from there on, and W_T at the end.

    The distance of anything to NaN is NaN, and `NaN > δ` is false: whoever rejects what is above δ, as the public code
    of Jia et al. does, accepts. Arguments as in `attack_2`. Raises ValueError if T' is shorter than two intervals.
    """

    def nothing(step: int) -> Checkpoint:
        if step == spoof_steps:
            return Checkpoint(final.weights, final.buffers, at_rest(final.weights))
        weights = {name: torch.full_like(value, torch.nan) for name, value in final.weights.items()}
        return Checkpoint(weights, final.buffers, at_rest(weights))

    plan = make_plan(final, task, spoof_steps=spoof_steps, seed=seed, conditions=conditions, calibration=calibration)
    return _sewn(plan, "non-finite", nothing, out, progress)


def _sewn(
    plan: Plan, name: str, behind: Callable[[int], Checkpoint], out: str | Path | None, progress: Progress
) -> Proof:
    """The first half of the plan trained from a fresh W_0; the checkpoints behind it as `behind(step)` has them."""
    task, steps = plan.task, len(plan.batches)
    interval = task.checkpoint_interval
    if steps < 2 * interval:
        raise ValueError(f"T' = {steps} steps are fewer than two intervals of k = {interval}: there is no seam")
    with spoof_place(plan, name, {}, out) as (folder, partial):
        if partial is None:
            return already_made(plan, folder)
        seam = steps // interval // 2 * interval
        first = initial_checkpoint(task, plan.seed)
        write_checkpoint(partial, 0, first)
        with applied(plan.conditions):
            learner = Learner(task, plan.conditions)
            learner.load(first)
            train_on_the_plan(passes_of(learner), plan, partial, seam, name, progress)
        for step in range(seam + interval, steps + 1, interval):
            write_checkpoint(partial, step, behind(step))
        return write_spoof(plan, partial, folder, [], [])
