"""Exercises of chapter 6, Attack III."""

import inspect
from bisect import bisect_right

import pandas as pd
import torch

from polkit.adversary import attack_3
from polkit.book.course.checking import Exercise, wrong_choice, wrong_number
from polkit.book.course.forged import wrong_spoof
from polkit.book.course.straight import least_pieces
from polkit.experiments.corollary import corollary_bound
from polkit.proof import Proof
from polkit.training import Checkpoint, Task
from polkit.verifier import Calibration, verify


def off_by_one(answer: object) -> str:
    k = 100
    right = k / (k - 2)
    traps = {
        1 / right: "Turn the fraction over: how many times the printed sum is the mended one?",
        k - 1: "That is the difference; a factor is asked.",
        10 / 8: "That is the factor at k = 10.",
    }
    return wrong_number(answer, right, "times the printed sum", within=1e-3, traps=traps)


def carried_gradients(answer: object) -> str:
    if not callable(answer):
        return f"The answer must be a function of (k, momentum), not {type(answer).__name__}."
    cases = [(1, 0.9), (3, 0.5), (10, 0.9), (4, 0.0), (5, 1.0)]
    return next((said for case in cases if (said := miscarried(answer(*case), *case))), "")


def miscarried(found: object, count: int, momentum: float) -> str:
    """What is wrong with the numbers for one k and μ, beside what torch's own SGD does."""
    if not isinstance(found, (list, tuple)) and not (hasattr(found, "tolist") and getattr(found, "ndim", 0) == 1):
        return f"For k = {count} it must return a list of {count} numbers, not {type(found).__name__}."
    values = [float(value) for value in found]
    if len(values) != count:
        return f"For k = {count} it returns {len(values)} numbers."
    right = moved_by_sgd(count, momentum)

    def same(others: list[float]) -> bool:
        return torch.allclose(torch.tensor(values), torch.tensor(others))

    here = f"For k = {count}, μ = {momentum:g}"
    if same(right):
        return ""
    if same(right[::-1]):
        return f"{here} the order is reversed: which gradient has the most steps left to move the weights?"
    if same([1.0] * count):
        return f"{here} momentum is left out: a gradient goes on moving the weights after its own step."
    if momentum < 1 and same([1 / (1 - momentum)] * count):
        return f"{here} every gradient is carried for ever; the interval ends."
    where = next(i for i, pair in enumerate(zip(values, right, strict=True)) if not abs(pair[0] - pair[1]) < 1e-6)
    return f"{here} gradient {where} counts too {'much' if values[where] > right[where] else 'little'}."


def moved_by_sgd(count: int, momentum: float) -> list[float]:
    """How far torch.optim.SGD moves a weight against each of so many gradients, at η = 1: gradient i is the i-th unit
    vector, so that what it did can be read off the i-th weight."""
    weights = torch.zeros(count, requires_grad=True)
    optimiser = torch.optim.SGD([weights], lr=1.0, momentum=momentum)
    for gradient in torch.eye(count):
        weights.grad = gradient.clone()
        optimiser.step()
    return (-weights.detach()).tolist()


def which_meter(answer: object) -> str:
    return wrong_choice(
        answer,
        {"c"},
        {
            "a": "it counts a joint gradient as one on every device already.",
            "b": "k batches have the same images, and need the same operations, at once or in turn.",
            "c": "Which meter depends on the machine?",
            "d": "the folder is the same to the byte, however it was computed.",
        },
    )


def within_threshold(answer: object, *, bounds: pd.DataFrame, threshold: float, task: Task) -> str:
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        return f"The answer must be a pair, such as (3, 'a'), not {type(answer).__name__}."
    known = {
        "learning_rate": task.learning_rate,
        "first_derivative": bounds["alpha"].iloc[0],
        "second_derivative": bounds["beta"].iloc[0],
    }

    def most(**how: object) -> int:
        return bisect_right(
            range(1, 1000), threshold, key=lambda k: corollary_bound(**known, checkpoint_interval=k, **how)
        )

    right = most(momentum=task.momentum)
    traps = {
        most(as_printed=True): "That is as far as the printed bound goes, which the measured gap exceeds.",
        most(): "That is without momentum, which the task has.",
        right + 1: "There the bound is above δ already.",
    }
    return wrong_number(answer[0], right, "steps", traps=traps) or wrong_choice(
        answer[1],
        {"b"},
        {
            "a": "the verifier makes the k updates one by one.",
            "b": "What does an upper bound say about the gap itself?",
            "c": "γ - σ is not negative: with it the bound promises less still.",
            "d": "the bound and this δ are both in l2.",
        },
    )


def printed_line_23(answer: object, *, spoof: Proof, final: Checkpoint, calibration: Calibration) -> str:
    defaults = {name: value.default for name, value in inspect.signature(attack_3).parameters.items()}
    ends = spoof.checkpoint(0).weights, final.weights
    interval, delta = calibration.task.checkpoint_interval, calibration.thresholds["weights"]

    def shortest(share: float) -> int:
        return interval * least_pieces(*ends, {name: share * value for name, value in delta.items()})

    limit = defaults["movement_limit"]
    right = shortest(limit * (1 - defaults["reserve"]))
    traps = {
        shortest(1): "That path is fine enough for the verifier's δ; line 23 allows γ - σ.",
        shortest(limit): "That path is fine enough for γ; σ is kept back.",
        right / interval: "So many intervals there are; T' is counted in steps.",
    }
    return wrong_number(answer, right, "steps", traps=traps)


def cheaper_spoof(answer: object, *, final: Checkpoint, calibration: Calibration, spoof: Proof) -> str:
    if wrong := wrong_spoof(answer, final):
        return wrong
    trace = answer.trace()
    if len(trace) != answer.steps // answer.checkpoint_interval:
        return "Attack III notes one optimisation for each interval; this is another attack's."
    if not (trace["evaluations"] > 0).any():
        return "No batch was perturbed: that is interpolation only, with a dearer name."
    share = answer.cost().relative_to(spoof.cost())["floating_point_operations"]
    if share > 0.5:
        return f"It takes {share:.2f} of the operations of this chapter's spoof."
    verdict = verify(answer, calibration, top_q="all", remember=True)
    if not verdict.accepted:
        return f"It is cheap enough, but rejected: {verdict.reasons[0]}."
    return ""


EXERCISES = {
    "6.1": Exercise(
        "easy",
        5,
        off_by_one,
        "At the paper's k the difference is lost in any measurement; at k = 2 the printed sum is zero.",
    ),
    "6.2": Exercise(
        "medium",
        15,
        carried_gradients,
        "With momentum an interval moves the weights several times as far as kη: for μ = 0.9 and k = 10 "
        "the numbers sum to 41. The corollary's proof leaves that out.",
    ),
    "6.3": Exercise(
        "easy",
        5,
        which_meter,
        "On such a device the clock may come near the paper's count of gradients; the work remains.",
    ),
    "6.4": Exercise(
        "medium",
        10,
        within_threshold,
        "Mended, the corollary promises less than the attack delivers: on `digits` the gap measured at "
        "k = 10 is well below its bound, and below δ.",
    ),
    "6.5": Exercise(
        "medium",
        10,
        printed_line_23,
        "The printed test asks for a much finer path than the verifier does. At half of δ it is l∞ that "
        "decides on the path of `digits`: it falls with 1/T', cos with its square.",
    ),
    "6.6": Exercise(
        "hard",
        15,
        cheaper_spoof,
        "On `digits` one iteration an interval leaves the largest error where six leave it, in the running "
        "means and variances at the end: the rest of the bill buys a margin that no verdict here needs.",
    ),
}
