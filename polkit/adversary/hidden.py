"""A crossing out of sight: an honest training of another model, and a jump to W_T that reproduces."""

from dataclasses import replace
from pathlib import Path

from polkit.adversary.momentum import needs_momentum, push
from polkit.adversary.path import at_rest
from polkit.adversary.perturb import passes_of
from polkit.adversary.plan import make_plan
from polkit.adversary.spoof import already_made, spoof_place, train_on_the_plan, write_spoof
from polkit.calibration import Calibration
from polkit.checkpoints import checkpoint_name, read_checkpoint, write_checkpoint
from polkit.distance import distances
from polkit.progress import Progress
from polkit.proof import Proof
from polkit.task import Task
from polkit.training import Checkpoint, Conditions, applied, initial_checkpoint, load, make_learner


def hidden_crossing(final: Checkpoint, task: Task, *, spoof_steps: int, seed: int = 0,
                    calibration: Calibration | None = None, corrections: int = 2,
                    conditions: Conditions = Conditions(), out: str | Path | None = None,
                    progress: Progress = True) -> Proof:  # fmt: skip
    """A spoof of which all intervals but two are real, and the two are nowhere large.

    Whoever replays large updates finds a jump to another model, unless the jump is real. So T' - 3k steps are trained
    from a fresh W_0, as an honest prover trains. Then an interval that moves nothing claims to end with a momentum that
    carries the weights to W_T; it was never computed. The next starts from there and is computed: the largest update
    of all, and it reproduces. The last claims to end at W_T, and was not computed again. Only a lot that falls on one
    of the two tells, however small the δ. With redrawn augmentation the jump errs by more than δ at the learning rate
    with which `digits` begins (1.8 δ), and by less from the first drop on.
    corrections: as in `borrowed_momentum`. Other arguments as in `attack_2`. The trace says how far the jump went.
    Raises ValueError if T' is shorter than four intervals, if its last two lie in two epochs, so that the landing would
    be the largest update of its own, or if the task has no momentum to borrow.
    """
    needs_momentum(task)
    k = task.checkpoint_interval
    if crossing_length(task, spoof_steps, spoof_steps) is None:
        raise ValueError(f"T' = {spoof_steps} steps are no crossing of k = {k}: it takes 4 intervals or more, the last "
                         "two of them in one epoch")  # fmt: skip
    plan = make_plan(final, task, spoof_steps=spoof_steps, seed=seed, conditions=conditions, calibration=calibration)
    plan = replace(plan, first=initial_checkpoint(task, plan.seed))
    with spoof_place(plan, "hidden-crossing", {"corrections": corrections}, out) as (folder, partial):
        if partial is None:
            return already_made(plan, folder)
        write_checkpoint(partial, 0, plan.first)
        trained, jump, landing = (spoof_steps - before * k for before in (3, 2, 1))
        with applied(conditions):
            passes = passes_of(make_learner(task, conditions))
            load(passes.learner, plan.first)
            train_on_the_plan(passes, plan, partial, trained, "hidden-crossing", progress)
            own = read_checkpoint(partial / checkpoint_name(trained), task)
            left, reached = push(passes, plan, jump, own, Checkpoint(final.weights, {}, {}), corrections)
        write_checkpoint(partial, jump, left)
        write_checkpoint(partial, landing, reached)
        write_checkpoint(partial, spoof_steps, Checkpoint(final.weights, final.buffers, at_rest(final.weights)))
        moved = distances(reached.weights, left.weights)["l2"]
        return write_spoof(plan, partial, folder, [], [{"step": jump, "moved": moved}])


def crossing_length(task: Task, least: int, most: int | None = None) -> int | None:
    """The shortest T' from `least` to `most` (default: T) that `hidden_crossing` can have; None if there is none."""
    k = task.checkpoint_interval
    for steps in range(max(4, -(-least // k)) * k, (most or task.steps) + 1, k):
        if (steps - k) // task.steps_per_epoch == (steps - 2 * k) // task.steps_per_epoch:
            return steps
    return None
