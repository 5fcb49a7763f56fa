"""Spoofs that need no adversarial example: what remains of an attack when its optimisation is taken out."""

from pathlib import Path

from polkit.adversary.spoof import Forged, Plan, forge, make_plan, replayed_buffers
from polkit.calibration import Calibration
from polkit.progress import Progress
from polkit.proof import Proof
from polkit.task import Task
from polkit.training import Checkpoint, Conditions, Learner


def interpolation_only(final: Checkpoint, task: Task, *, spoof_steps: int, seed: int = 0,
                       calibration: Calibration | None = None, conditions: Conditions = Conditions(),
                       out: str | Path | None = None, workers: int = 1,
                       progress: Progress = True) -> Proof:  # fmt: skip
    """The ablation of Attacks II and III: the same W_0 and straight path, with the data set's own batches.

    Whether it passes is the verifier's business: nothing here looks at how far a batch moves the weights. Each
    interval is replayed once, for the normalisation buffers that it ends with. Arguments as in `attack_2`.
    """
    plan = make_plan(final, task, spoof_steps=spoof_steps, seed=seed, conditions=conditions, calibration=calibration)
    return forge(plan, "interpolation-only", leave_batches, {}, out=out, workers=workers, progress=progress)


def leave_batches(learner: Learner, plan: Plan, start: int, checkpoint: Checkpoint) -> Forged:
    batches = [plan.batch(step) for step in range(start, start + plan.task.checkpoint_interval)]
    return Forged([], replayed_buffers(learner, plan, start, checkpoint, batches))
