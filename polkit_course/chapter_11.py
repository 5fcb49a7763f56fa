"""Exercises of chapter 11, recorded randomness and borrowed momentum."""

import math
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch

from polkit.adversary import interpolation_only
from polkit.experiments.momentum import borrowed_momentum
from polkit.proof import Proof
from polkit.prover import prove
from polkit.training import Checkpoint, Conditions, Task, applied
from polkit_course.checking import exercise, wrong_function, wrong_number


@exercise("11.1", 2, "One line of algebra replaces path and data, because the verifier never compares the momentum.")
def pushing_momentum(answer: object, *, task: Task) -> str:
    small = task.replace(epochs=4, checkpoint_interval=min(4, task.steps_per_epoch), milestones=(1,))
    cases = (
        ("the task's first interval", task, 0),
        ("μ = 0.5", task.replace(momentum=0.5), 0),
        ("an interval within which the learning rate drops", small, small.steps_per_epoch - 1),
    )
    return wrong_function(answer, "(now, aim, task, start)", wrong_push, cases)


def wrong_push(answer: Callable, name: str, task: Task, start: int) -> str:
    draw = partial(torch.randn, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    now, aim = ({"layer": draw(3, 4), "bias": draw(4)} for _ in range(2))
    momentum = answer(now, aim, task, start)
    if not isinstance(momentum, Mapping) or momentum.keys() != now.keys():
        return f"It must return a dict with the names of the weights ({', '.join(now)}), a tensor for each."
    # Without a gradient a step makes v ← μ v, then w ← w - η v.
    rates = map(task.learning_rate_at, range(start, start + task.checkpoint_interval))
    carried = sum(rate * task.momentum**times for times, rate in enumerate(rates, start=1))
    way = torch.cat([(aim[each] - now[each]).flatten() for each in now])
    gone = -carried * torch.cat([momentum[each].double().flatten() for each in now])
    share = float(gone @ way / (way @ way))
    if torch.allclose(gone, way, atol=1e-4):
        return ""
    if share < 0:
        return f"{name}: the weights go away from the aim: an update is *subtracted*."
    if math.isclose(share, task.momentum, rel_tol=1e-3):
        return f"{name}: the weights stop at {share:.3g} of the way: the first update too takes μ v, not v."
    return f"{name}: the weights go {share:.3g} of the way in k = {task.checkpoint_interval} steps."


@exercise(
    "11.2", 3, "Straight paths and pushed weights show without a replay. A crossing in hops (chapter 12) does not."
)
def from_checkpoints_alone(answer: object, *, proof: Proof, final: Checkpoint, spoofs: Mapping[str, Proof]) -> str:
    task, k = proof.task, proof.checkpoint_interval
    short = task.replace(epochs=math.ceil(20 * k / task.steps_per_epoch))
    made = {"seed": 2, "progress": False}
    forged = {name: spoofs[name] for name in ("infinitesimal update", "borrowed momentum")}
    forged[f"interpolation only, T' = {6 * k}"] = interpolation_only(final, task, spoof_steps=6 * k, **made)
    forged["borrowed momentum in a zigzag"] = borrowed_momentum(final, task, spoof_steps=8 * k, off_path=0.6, **made)
    honest = {f"an honest training of {short.steps} steps": prove(short, **made), "the honest proof": proof}
    cases = [(name, folder, name in honest) for name, folder in (forged | honest).items()]
    # One thread: with two, each of hundreds of small distances waits for the slower one while others have the cores.
    with applied(Conditions()):
        return wrong_function(answer, "a proof", wrong_acceptance, cases)


def wrong_acceptance(answer: Callable, name: str, folder: Proof, honest: bool) -> str:
    found = answer(folder)
    if not isinstance(found, (bool, np.bool_)):
        return f"It must return True or False, not {type(found).__name__}."
    return "" if found == honest else f"It {'rejects' if honest else 'accepts'} {name}."


@exercise("11.3", 1, "The seeds are nearly free, and with them the verifier's δ can be a hundred times smaller.")
def share_of_the_seeds(answer: object, *, proof: Proof) -> str:
    right = 8 * proof.steps / proof.cost().stored_bytes
    traps = {
        right / proof.checkpoint_interval: "That is one seed for each checkpoint; every step has one.",
        right / 8: "A seed takes eight bytes, not one.",
        100 * right: "That is in percent; give the share.",
        1 / right: "Turn the fraction over.",
    }
    return wrong_number(answer, right, "of the bytes", within=0.05, traps=traps)
