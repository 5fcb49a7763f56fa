"""Exercises of chapter 7, Attack III."""

import inspect
from bisect import bisect_right
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from polkit.adversary import attack_3
from polkit.adversary.attack_3 import RESERVE
from polkit.experiments.corollary import corollary_bound
from polkit.proof import Proof
from polkit.training import Checkpoint, Task
from polkit.verifier import Calibration, verify
from polkit_course.chapter_06 import least_pieces
from polkit_course.checking import exercise, wrong_choice, wrong_function, wrong_number, wrong_row, wrong_spoof


@exercise("7.1", 1, "At the paper's k no measurement shows the difference; at k = 2 the printed sum is zero.")
def off_by_one(answer: object) -> str:
    right = 100 / 98  # k / (k - 2) at k = 100
    traps = {
        1 / right: "Turn the fraction over: how many times the printed sum is the corrected one?",
        99: "That is the difference; a factor is asked.",
        10 / 8: "That is the factor at k = 10.",
    }
    return wrong_number(answer, right, "times the printed sum", within=1e-3, traps=traps)


@exercise("7.2", 2, "Momentum carries weights far beyond kη: 41 η for μ = 0.9, k = 10. The proof leaves that out.")
def carried_gradients(answer: object) -> str:
    return wrong_function(answer, "(k, momentum)", wrong_carry, ((1, 0.9), (3, 0.5), (10, 0.9), (4, 0.0), (5, 1.0)))


def wrong_carry(answer: Callable, count: int, momentum: float) -> str:
    found = answer(count, momentum)
    if not hasattr(found, "__len__") or len(found) != count:
        return f"For k = {count} it must return a list of {count} numbers, not {found!r}."
    values = [float(value) for value in found]
    right = [sum(momentum**later for later in range(count - i)) for i in range(count)]
    if np.allclose(values, right):
        return ""
    here = f"For k = {count}, μ = {momentum:g}"
    usual = {
        "the order is reversed: which gradient has the most steps left to move the weights?": right[::-1],
        "momentum is left out: a gradient goes on moving the weights after its own step.": [1.0] * count,
        "every gradient is carried for ever; the interval ends.": [1 / (1 - momentum) if momentum < 1 else 0] * count,
    }
    for why, others in usual.items():
        if np.allclose(values, others):
            return f"{here} {why}"
    where = int(np.argmin(np.isclose(values, right)))
    return f"{here} gradient {where} counts too {'much' if values[where] > right[where] else 'little'}."


@exercise("7.3", 1, "On such a device the clock may come near the paper's count of gradients; the work remains.")
def which_meter(answer: object) -> str:
    why_not = {
        "a": "it counts a joint gradient as one on every device already.",
        "b": "k batches have the same images, and need the same operations, at once or in turn.",
        "c": "Which meter depends on the machine?",
        "d": "the folder is the same to the byte, however it was computed.",
    }
    return wrong_choice(answer, {"c"}, why_not)


@exercise("7.4", 2, "The bound is not the gap: at k = 10 the gap is below it, and below δ.")
def within_threshold(answer: object, *, bounds: pd.DataFrame, threshold: float, task: Task) -> str:
    if wrong := wrong_row(answer, 2, "a pair, such as (3, 'a'),"):
        return wrong
    known = {"first_derivative": bounds["alpha"].iloc[0], "second_derivative": bounds["beta"].iloc[0]}

    def most(**how: object) -> int:
        bound = partial(corollary_bound, learning_rate=task.learning_rate, **known, **how)
        return bisect_right(range(1, 1000), threshold, key=lambda k: bound(checkpoint_interval=k))

    right = most(momentum=task.momentum)
    traps = {
        most(as_printed=True): "That is as far as the printed bound goes, which the measured gap exceeds.",
        most(): "That bound leaves out momentum, which the task has.",
        right + 1: "There the bound is above δ already.",
    }
    why_not = {
        "a": "the verifier makes the k updates one by one.",
        "b": "What does an upper bound say about the gap itself?",
        "c": "γ - σ is not negative: with it the bound becomes larger still.",
        "d": "the bound and this δ are both in l2.",
    }
    return wrong_number(answer[0], right, "steps", traps=traps) or wrong_choice(answer[1], {"b"}, why_not)


@exercise("7.5", 2, "The printed test asks for a finer path than the verifier, and there l∞ decides, not cos.")
def printed_line_23(answer: object, *, spoof: Proof, final: Checkpoint, calibration: Calibration) -> str:
    defaults = {name: value.default for name, value in inspect.signature(attack_3).parameters.items()}
    first, interval = spoof.checkpoint(0), calibration.task.checkpoint_interval

    def shortest(share: float) -> int:
        return interval * least_pieces(first, final, calibration.scaled(share).thresholds["weights"])

    limit = defaults["movement_limit"]
    right = shortest(limit * (1 - RESERVE))
    traps = {
        shortest(1): "That path is fine enough for the verifier's δ; line 23 allows γ - σ.",
        shortest(limit): "That path is fine enough for γ; σ is kept back.",
        right / interval: "That is the number of intervals; T' is counted in steps.",
    }
    return wrong_number(answer, right, "steps", traps=traps)


@exercise("7.6", 3, "One iteration is enough on `digits`: the spoof passes as it does with six.")
def cheaper_spoof(answer: object, *, final: Checkpoint, calibration: Calibration, spoof: Proof) -> str:
    if wrong := wrong_spoof(answer, final):
        return wrong
    trace = answer.trace()
    if len(trace) != answer.steps // answer.checkpoint_interval:
        return "Attack III notes one optimisation for each interval; this is another attack's."
    if not (trace["evaluations"] > 0).any():
        return "No batch was perturbed: that is interpolation only."
    share = answer.cost().relative_to(spoof.cost())["floating_point_operations"]
    if share > 0.5:
        return f"It takes {share:.2f} of the operations of this chapter's spoof."
    verdict = verify(answer, calibration, top_q="all", remember=True)
    return "" if verdict.accepted else f"It is cheap enough, but rejected: {verdict.reasons[0]}."
