"""A crossing out of sight: an honest training of another model, and a jump to W_T that reproduces."""

from dataclasses import replace
from pathlib import Path

from polkit.adversary.momentum import needs_momentum, push
from polkit.adversary.path import at_rest, on_the_path
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
                    calibration: Calibration | None = None, jumps: int = 1, corrections: int = 2,
                    conditions: Conditions = Conditions(), out: str | Path | None = None,
                    progress: Progress = True) -> Proof:  # fmt: skip
    """A spoof in which nearly all is real, and what is not is nowhere large.

    Whoever replays large updates finds a jump to another model, unless the jump is real. So all but the last
    2 · jumps + 1 intervals are trained from a fresh W_0, as an honest prover trains. Then an interval that moves
    nothing claims to end with a momentum that carries the weights towards W_T; it was never computed. The next starts
    from there and is computed: the largest update of all, and it reproduces. The last claims to end at W_T, and
    was not computed again. Only a lot that falls on one of those jumps + 1 tells, however small the δ, if the
    augmentation is recorded; redrawn, a long jump at a high rate errs by more than δ, and shorter jumps do not.
    corrections: as in `borrowed_momentum`. Other arguments as in `attack_2`. The trace says how far each jump went.
    Raises ValueError if T' is too short, if its last two intervals lie in two epochs, so that the landing would be the
    largest update of its own, or if the task has no momentum to borrow.
    """
    needs_momentum(task)
    k, behind = task.checkpoint_interval, 2 * jumps + 1
    if crossing_length(task, spoof_steps, jumps, most=spoof_steps) is None:
        raise ValueError(f"T' = {spoof_steps} steps are no crossing of k = {k}: it takes {behind + 1} intervals or "
                         "more, the last two of them in one epoch")  # fmt: skip
    plan = make_plan(final, task, spoof_steps=spoof_steps, seed=seed, conditions=conditions, calibration=calibration)
    plan = replace(plan, first=initial_checkpoint(task, plan.seed))
    settings = {"jumps": jumps, "corrections": corrections}
    with spoof_place(plan, "hidden-crossing", settings, out) as (folder, partial):
        if partial is None:
            return already_made(plan, folder)
        write_checkpoint(partial, 0, plan.first)
        trained, trace = spoof_steps - behind * k, []
        with applied(conditions):
            learner = make_learner(task, conditions)
            load(learner, plan.first)
            train_on_the_plan(learner, plan, partial, trained, "hidden-crossing", progress)
            now = read_checkpoint(partial / checkpoint_name(trained), task)
            for number in range(jumps):
                start = trained + (2 * number + 1) * k
                aim = Checkpoint(on_the_path(now, final, 1 / (jumps - number)), {}, {})
                left, now = push(learner, plan, start, now, aim, corrections)
                write_checkpoint(partial, start, left)
                write_checkpoint(partial, start + k, now)
                trace.append({"step": start, "moved": distances(now.weights, left.weights)["l2"]})
        write_checkpoint(partial, spoof_steps, Checkpoint(final.weights, final.buffers, at_rest(final.weights)))
        return write_spoof(plan, partial, folder, [], trace)


def crossing_length(task: Task, least: int, jumps: int = 1, most: int = 0) -> int | None:
    """The shortest T' from `least` to `most` (default: T) that `hidden_crossing` can have; None if there is none."""
    k = task.checkpoint_interval
    whole = range(max(2 * jumps + 2, -(-least // k)) * k, (most or task.steps) + 1, k)
    epochs = {steps: [(steps - before * k) // task.steps_per_epoch for before in (1, 2)] for steps in whole}
    return next((steps for steps, (last, before) in epochs.items() if last == before), None)
