"""Exercises of chapter 9, the arms race."""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import combinations

import numpy as np
import pandas as pd
import torch

from polkit.adversary import borrowed_momentum, interpolation_only
from polkit.book.course.checking import exercise, wrong_choice, wrong_function, wrong_number, wrong_numbers
from polkit.defences import detection_probability
from polkit.experiments.gallery import SPOOFS
from polkit.experiments.matrix import HONEST, ON_TOP
from polkit.experiments.window import path_errors, window
from polkit.proof import Proof
from polkit.prover import prove
from polkit.training import Checkpoint, Conditions, Task, applied
from polkit.verifier import Calibration

# n intervals, f of them made up, the probability wanted.
DRAWS = ((5, 3, 0.99), (440, 2, 0.5), (440, 2, 0.99), (440, 264, 0.99), (10, 10, 0.5), (5, 3, 1.0), (100, 0, 0.99))


@exercise("9.1", 1, "Where a length decides, this δ goes as 1/T: ten times the training needs δ to be a tenth.")
def shut_out(answer: object, *, final: Checkpoint, calibration: Calibration, cost: float) -> str:
    task = calibration.task
    right = {f"with T × {times}": finest(task, final, calibration, times * task.steps, cost) for times in (1, 10)}
    traps = {name: {1 / value: "that is by how much δ falls; give its multiple."} for name, value in right.items()}
    once = right["with T × 1"]
    traps["with T × 10"] |= {
        once: "that is right with T as it is; ten times the steps are ten times as many pieces.",
        10 * once: "a longer training allows a finer path: δ must fall further.",
    }
    swapped = "These two stand in the wrong order: which training leaves the spoof more steps?"
    return wrong_numbers(answer, right, "times δ", within=0.12, traps=traps, swapped=swapped)


def finest(task: Task, final: Checkpoint, calibration: Calibration, proof_steps: int, cost: float) -> float:
    """The multiple of δ that the finest path needs which is still cheaper than a proof of these steps."""
    pieces = math.ceil(proof_steps / cost / task.checkpoint_interval) - 1
    errors = path_errors(task, final, np.array([max(1, pieces) * task.checkpoint_interval]))
    return float(window(errors, calibration, proof_steps=proof_steps, cost_per_step=cost)["error_over_threshold"][0])


@exercise("9.2", 2, "Three draws catch blindfold top-Q; two intervals of 440 need nine tenths of them replayed.")
def draws_needed(answer: object) -> str:
    return wrong_function(answer, "n, f and the probability", wrong_draws, DRAWS)


def wrong_draws(answer: Callable, n: int, made_up: int, wanted: float) -> str:
    case, found = f"{made_up} of {n} made up, probability {wanted}", answer(n, made_up, wanted)
    seen = [detection_probability(n, made_up, drawn) >= wanted for drawn in range(n + 1)]
    if not any(seen):
        return "" if found is None else f"{case}: no number of draws is enough, and None is asked for."
    right = seen.index(True)
    back = n if made_up == n else math.log(max(1 - wanted, 1e-300)) / math.log(1 - made_up / n)
    traps = {right / n: f"{case}: that is a share; how many intervals is it?"}
    if back > right * 1.02:
        traps[math.ceil(back)] = f"{case}: nobody looks at an interval twice: the draws are not independent."
    return wrong_number(found, right, f"intervals ({case})", traps=traps)


@exercise("9.3", 2, "One line of algebra replaces path and data, because the verifier never compares the momentum.")
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


@exercise("9.4", 2, "Two defences stop the spoofs of this matrix, one does not. A later one may pass the pair.")
def fewest_defences(answer: object, *, trainings: pd.DataFrame) -> str:
    chosen = [answer] if isinstance(answer, str) else answer
    if not isinstance(chosen, Iterable) or not all(isinstance(each, str) for each in chosen):
        return f"The answer must be a set of names of verifiers, not {type(answer).__name__}."
    table = trainings.query("task == 'digits'").pivot_table("accepted", ["folder", "seed"], "defence")
    if others := sorted(set(chosen) - set(ON_TOP)):
        return f"{others[0]!r} is not one of the defences with one check more than the verifier as published."
    sound = [defence for defence in ON_TOP if table.loc[HONEST, defence].all()]
    if unsound := [defence for defence in chosen if defence not in sound]:
        return f"The honest proof falls to {unsound[0]!r} too."
    forged = table.loc[[name for name in SPOOFS if name in table.index]]
    passing = forged[forged[list(chosen)].all(axis=1)]
    if len(passing):
        spoof = passing.index[0][0]
        return f"{spoof} passes all of them in {len(passing.loc[spoof])} of the trainings."
    fewer = combinations(sound, len(set(chosen)) - 1)
    enough = any(not forged[list(few)].all(axis=1).any() for few in fewer)
    return "They stop the spoofs of the matrix, but fewer of them do." if enough else ""


@exercise("9.5", 3, "Straight paths and pushed weights show without a replay. A crossing in hops keeps to both limits.")
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
    return "" if found == honest else f"It {'turns away' if honest else 'accepts'} {name}."


@exercise("9.6", 1, "Seeds and momenta are nearly free; a smaller k, exact arithmetic and succinct proofs are not.")
def paid_by_the_prover(answer: object) -> str:
    why_not = {
        "a": "eight bytes a step are nothing beside the checkpoints.",
        "b": "What does the prover store at every checkpoint?",
        "c": "the prover has handed in the proof by then; it is the verifier who computes.",
        "d": "What does a step in float64 cost, against one in float32?",
        "e": "Who makes the proof of a step?",
        "f": "that is one hash for each image, once.",
        "g": "the momentum stands in the checkpoint already; the verifier compares one tensor more.",
    }
    return wrong_choice(answer, {"b", "d", "e"}, why_not)
