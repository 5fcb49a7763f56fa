"""Attack II (Algorithm 4): walk the straight path, and perturb every batch until its update hardly moves."""

from functools import partial
from typing import Unpack

import torch
from torch import Tensor

from polkit.adversary.forge import Treated, along_path, arrived, forge
from polkit.adversary.perturb import Enough, Optimised, Passes, Perturbation, best_attempt, stepped, try_update
from polkit.adversary.plan import Batch, Common, Pace, Plan, make_plan
from polkit.proof import Proof
from polkit.training import Checkpoint, Points, Task
from polkit.verifier import Calibration


def attack_2(
    final: Checkpoint,
    task: Task,
    *,
    calibration: Calibration | None = None,
    movement_limit: float = 0.7,
    iterations: int = 10,
    stopping_test: bool = True,
    leave_within: float = 0.0,
    noise_weight: float = 1e-3,
    weigh_linf: bool = False,
    draws: int = 1,
    retries: int = 0,
    pace: Pace = (),
    trained_steps: int = 0,
    workers: int = 1,
    keep_failed: bool = True,
    **common: Unpack[Common],
) -> Proof:
    """A spoof of f_{W_T} in T' steps: each batch that would move the weights too far is perturbed on its own.

    final: the weights and buffers of W_T
    task: may differ from the prover's in what the verifier lets the prover decide, such as the learning rate
    calibration: tells δ; without one, the spacing of the path stands for it
    movement_limit: kγ as a share of δ (in cos k²γ), so that the k updates of an interval keep to it together
    iterations: N, the most L-BFGS iterations for a batch
    stopping_test: leave a batch as soon as its update moves at most γ in every distance (line 25)
    leave_within: an interval's batches are treated only until it ends within this share of δ of W_t; 0 treats all.
        Asked before each batch, and before it is given up, of all that are left: k updates at most each time
    noise_weight: of ‖R‖² beside the squared gradient (line 28, where it is 1)
    weigh_linf: add the gradient's largest entry to the objective (line 28), as the δ of l2 and of l∞ compare
    draws: of the augmentation, over which the objective is averaged, where the verifier redraws it
    retries: how often a batch that misses γ is given up for a fresh one, unless its interval ends near enough
    pace: knots (share of the steps, share of the path) for a path that is not evenly divided
    trained_steps: how many of the first steps are trained; the path begins there, where gradients are smaller
    workers: threads that share the intervals; the spoof is the same byte for byte
    keep_failed: write a spoof some of whose batches miss γ, as `Proof.missed` says; otherwise AttackFailed is raised
    common: as every spoof, see `Common`

    Raises ValueError on a T' no spoof can have, FileExistsError if `out` exists.
    """
    plan = make_plan(final, task, **common).paced(pace)
    plan = plan.limited(calibration, movement_limit, task.checkpoint_interval, weigh_linf)
    settings = {"iterations": iterations, "stopping_test": stopping_test, "noise_weight": noise_weight}
    settings |= {"leave_within": leave_within, "draws": draws, "retries": retries, "trained_steps": trained_steps}
    return forge(plan, "attack-2", partial(along_path, treat=treat_each_batch, workers=workers), settings, keep_failed)


def treat_each_batch(
    passes: Passes, plan: Plan, start: int, first: Checkpoint, *, leave_within: float, **budget
) -> Treated:
    """updateDataPoints(W_{t-k}, W_t), lines 20-34: a chain of updates W' that hardly leaves W_{t-k}."""
    reached, published, trace, own, changed = first, [], [], plan.interval(start), True
    for step in range(start, start + len(own) + 1):
        left = own[step - start :]
        enough = partial(arrived, passes.learner, plan, step, reached, leave_within, left=left[1:])
        if changed and (ended := enough(left[:1])):  # behind the last batch, too, where no update is left
            untouched = [{"step": later, "evaluations": 0} for later in range(step, start + len(own))]
            return published + left, ended.buffers, [*(row | {"settled": True} for row in trace), *untouched]
        if left:
            batches, update, row = settle_batch(passes, plan, step, reached, enough, **budget)
            published += batches
            reached, changed = update.reached, row["evaluations"] + row["attempt"] > 0  # else as answered before
            trace.append({"step": step} | row)
    return published, reached.buffers, trace


def settle_batch(
    passes: Passes, plan: Plan, step: int, before: Checkpoint, enough: Enough = lambda made: None, retries=0, **budget
) -> Optimised:
    """Lines 23-32 for one batch, from W'_i in `before`: the update should move the weights by at most γ."""
    return best_attempt(lambda which: perturbing(passes, plan, step, before, which, **budget).result(), retries, enough)


def perturbing(passes: Passes, plan: Plan, step: int, before: Checkpoint, attempt: int = 0, **budget) -> Perturbation:
    """The loop of lines 25-31 for one batch, at its beginning: R = 0."""
    learner = passes.learner
    alone = torch.ones(1, dtype=learner.conditions.dtype, device=learner.conditions.device)

    def squared_gradient(images: Tensor, batches: list[Batch]) -> tuple[Tensor, Tensor, float]:
        (batch,) = batches
        points = Points(images[0], batch.points.labels)
        value, slope, *gradient = passes.objective(points, [batch.augmentation_seed], alone)
        plan.meter.charge("objective")
        reached = stepped(plan.task, step, before, gradient)
        return value.clone(), slope[None].clone(), plan.over_limit(reached, before.weights)  # a GPU overwrites them

    tried = partial(try_update, learner, plan, step, before, before)
    return Perturbation(learner, before, [plan.batch(step, attempt)], tried, squared_gradient, **budget)
