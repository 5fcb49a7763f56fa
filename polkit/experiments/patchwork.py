"""Spoofs sewn together from what is at hand, which trust that nobody looks at the seam."""

from collections.abc import Iterator
from typing import Unpack

import torch

from polkit.adversary.forge import Made, forge, trained
from polkit.adversary.path import at_rest
from polkit.adversary.plan import Common, Plan, make_plan
from polkit.proof import Proof
from polkit.training import Checkpoint, Task


def concatenation(final: Checkpoint, task: Task, **common: Unpack[Common]) -> Proof:
    """Two proofs one behind the other (Jia et al. 2021, Section V): a training of the adversary's own, then f_{W_T}.

    It stands there at rest and was never reached. Only the seam jumps. Raises ValueError if T' has one interval only.
    """
    return forge(make_plan(final, task, **common).fresh(), "concatenation", half_trained, {"not_a_number": False})


def non_finite(final: Checkpoint, task: Task, **common: Unpack[Common]) -> Proof:
    """A training of the adversary's own for half of T', NaN from there on, and W_T at the end.

    The distance of anything to NaN is NaN, and `NaN > δ` is false: a verifier who rejects what is above δ, as the
    public code of Jia et al. does, accepts. Raises ValueError if T' is shorter than two intervals.
    """
    return forge(make_plan(final, task, **common).fresh(), "non-finite", half_trained, {"not_a_number": True})


def half_trained(plan: Plan, *, not_a_number: bool) -> Iterator[Made]:
    if len(plan.starts) < 2:
        steps, k = len(plan.batches), plan.task.checkpoint_interval
        raise ValueError(f"T' = {steps} steps are fewer than two intervals of k = {k}: there is no seam")
    final, (seam, *behind) = plan.final, plan.starts[len(plan.starts) // 2 :]
    nothing = {name: torch.full_like(value, torch.nan) for name, value in final.weights.items()}
    yield from trained(plan.learner(), plan, seam)
    for step in behind:
        yield Made(step, at_rest(nothing if not_a_number else final.weights, final.buffers))
    yield Made(len(plan.batches), at_rest(final.weights, final.buffers))
