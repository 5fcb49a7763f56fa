"""What every chapter after the second starts from: an honest proof, and the thresholds that were calibrated on it."""

import json

from polkit.proof import Proof, cache_folder, checkpoint_name, made_alone, read_checkpoint, write_checkpoint
from polkit.proof.storage import write_whole
from polkit.prover import cached_proof, proof_facts, prove
from polkit.training import Conditions, Progress, Task, training_points
from polkit.training.jobs import in_processes
from polkit.verifier import STRICT, Calibration, Regime, calibrate
from polkit.verifier.calibration import Reference, train_reference


def prepare(
    task: Task,
    seed: int = 0,
    *,
    regime: Regime = STRICT,
    conditions: Conditions = Conditions(),
    workers: int | None = None,
    progress: Progress = True,
) -> tuple[Proof, Calibration]:
    """`prove`, then `calibrate`, both in one regime; the second model is trained beside the first, or before it.

    Only the first 25 epochs are replayed: 0.67 δ there at most, and 0.66 δ later in six trainings of `digits`.
    """
    task, reference, draws = regime.task(task), None, 1
    if not cached_proof(task, seed, conditions, training_points(task)).exists():
        if workers == 1:  # first: another chapter may be making the proof meanwhile
            reference = iter([kept_reference(task, draws, conditions)])
        else:
            # A process, not a thread: the proof's own seconds must not be those of a shared interpreter.
            reference = in_processes([(kept_reference, (task, draws, conditions))], 2)
    proof = prove(task, seed, conditions=conditions, progress=progress)
    settings = {"first_epochs": 25, "seed": draws, "workers": workers, "progress": progress}
    return proof, calibrate(proof, regime=regime, conditions=conditions, reference=reference, **settings)


def kept_reference(task: Task, seed: int, conditions: Conditions) -> Reference:
    """`train_reference`, made once for all proofs of a task and these conditions, with the seconds that it took."""
    folder = cache_folder("references", **proof_facts(task, seed, conditions, training_points(task)))
    model, taken = folder / checkpoint_name(task.steps), folder / "seconds.json"
    if not taken.exists():  # a cache that cannot be written can be read
        with made_alone(folder):
            if not taken.exists():
                final, seconds = train_reference(task, seed, conditions)
                write_checkpoint(folder, task.steps, final)
                write_whole(taken, json.dumps({"seconds": seconds}))
    return read_checkpoint(model, task), json.loads(taken.read_text())["seconds"]
