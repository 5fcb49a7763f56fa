"""Exercises of chapter 10, thresholds by stage and commitments to the data."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from polkit.defences import cost_of_stages, rejected_at
from polkit.experiments.stages import staged_pace
from polkit.training import Checkpoint, Task, distances
from polkit.verifier import Calibration, Verdict
from polkit_course.checking import exercise, wrong_choice, wrong_function, wrong_number, wrong_numbers, wrong_row

# Edges and multiples of δ: one stage, the chapter's three, uneven ones, a stage that is looser than the one before it.
WALKS = (
    ((0.0,), (0.5,)),
    ((0.0, 0.5, 0.75), (1.0, 0.025, 0.0044)),
    ((0.0, 0.1), (0.01, 1.0)),
    ((0.0, 0.3, 0.4, 0.8), (1.0, 0.2, 0.5, 0.001)),
)


@exercise("10.1", 1, "They allow far more than the honest proof needs last: an adversary at the stages' pace passes.")
def for_both(answer: object, *, judged: Mapping[str, Verdict], calibration: Calibration, edges: Sequence[float]) -> str:
    if wrong := wrong_row(answer, len(edges), f"{len(edges)} multiples of δ, one for each stage,"):
        return wrong
    if not all(isinstance(each, (int, float)) and 0 < each <= 1 for each in answer):
        return "Each multiple of δ must be a number above 0 and at most 1."
    if all(each == 1 for each in answer):
        return "All multiples are 1: that is the one δ again, the same in every stage."
    above = {name: rejected_at(verdict, calibration, edges, answer) for name, verdict in judged.items()}
    for name in ("honest proof", "stages' pace"):
        if above[name]:
            stage = sum(edge <= above[name][0] for edge in edges)
            return f"{name}: {len(above[name])} intervals are above their stage's δ, the first in stage {stage}."
    too_loose = "The even path passes as well: the other two do not need such loose thresholds."
    return "" if above["even path"] else too_loose


@exercise("10.2", 2, "m stages cost about 0.9 m times the steps, and never more than m.")
def factor_of_stages(answer: object) -> str:
    return wrong_function(answer, "the number of stages", wrong_factor, ((1,), (2,), (3,), (8,), (40,)))


def wrong_factor(answer: Callable, stages: int) -> str:
    edges = [number / stages for number in range(stages)]
    right = cost_of_stages(edges, [10.0**-number for number in range(stages)])
    traps = {
        right / stages: f"For m = {stages}: each stage has the m-th part of the intervals only.",
        1 / right: f"For m = {stages}: that is the share of n δ that n intervals cover; turn it over.",
        stages: f"For m = {stages}: the later stages cover a little too.",
    }
    apart = {trap: why for trap, why in traps.items() if not math.isclose(trap, right, rel_tol=0.02)}
    return wrong_number(answer(stages), right, f"times for m = {stages}", within=1e-6, traps=apart)


@exercise("10.3", 2, "Even without data a spoof errs by about the last stage's δ: its learning rate never drops.")
def decay_alone(answer: object, *, task: Task, final: Checkpoint, calibration: Calibration, scales: Sequence) -> str:
    moved, allowed = "what weight decay does", "the last stage's δ"
    nothing = {name: value * 0 for name, value in final.weights.items()}
    length = distances(final.weights, nothing)["l2"]
    threshold = calibration.thresholds["weights"]["l2"]
    right = {moved: decay(task), allowed: threshold * scales[-1] / length}
    steady = task.checkpoint_interval * task.learning_rate * task.weight_decay
    traps = {
        moved: {
            steady: "momentum carries each step's decay on into the steps after it.",
            steady / (1 - task.momentum): "that is momentum in the long run; a forged interval begins at rest.",
            right[moved] * length: "that is a distance; as a share of the weights' length it is smaller.",
        },
        allowed: {
            threshold * scales[-1]: "that is a distance; divide it by the length of the weights.",
            threshold / length: "that is the one δ; the last stage has a multiple of it.",
            scales[-1]: "that is a multiple of δ, and no length yet.",
        },
    }
    return wrong_numbers(answer, right, "of the weights' length", within=0.03, traps=traps)


def decay(task: Task) -> float:
    """By what share weights shrink in k updates from rest, if no gradient but that of weight decay acts."""
    weight, momentum = 1.0, 0.0
    for step in range(task.checkpoint_interval):
        momentum = task.momentum * momentum + task.weight_decay * weight
        weight -= task.learning_rate_at(step) * momentum
    return 1 - weight


@exercise("10.4", 1, "A root says which labelled images there were; use, order and its own age need other evidence.")
def what_a_root_tells(answer: object) -> str:
    why_not = {
        "a": "What is hashed is every byte of an image.",
        "b": "What stands in a leaf besides the pixels?",
        "c": "the root knows which points there are, and nothing about when they are used.",
        "d": "every one of them is opened as often as it is used, and lies under the root each time.",
        "e": "the images lie under the adversary's own root. What is wrong is its date, and a root has none.",
    }
    return wrong_choice(answer, {"a", "b"}, why_not)


@exercise(
    "10.5", 3, "Published thresholds tell the adversary how to pace a spoof. It still fails, because of its batches."
)
def walked_pace(answer: object) -> str:
    return wrong_function(answer, "(edges, scales)", wrong_pace, WALKS)


def wrong_pace(answer: Callable, edges: tuple[float, ...], scales: tuple[float, ...]) -> str:
    case = f"For edges {edges} and multiples {scales}"
    try:
        at, gone = np.array([[float(number) for number in knot] for knot in answer(edges, scales)]).T
    except (TypeError, ValueError):
        return f"{case} it must return pairs (share of the steps, share of the way)."
    if not np.allclose([at[0], gone[0], at[-1], gone[-1]], [0, 0, 1, 1], atol=1e-6):
        return f"{case} the path must begin at (0, 0) and end at (1, 1)."
    if (np.diff(at) < 0).any():
        return f"{case} the knots must stand in the order of the steps."
    shares = np.linspace(0, 1, 201)
    found = np.interp(shares, at, gone)
    missed = np.abs(found - np.interp(shares, *np.array(staged_pace(edges, scales)).T))
    if missed.max() <= 1e-6:
        return ""
    worst = missed.argmax()
    here = f"{case}, after {shares[worst]:.0%} of the steps, it is {found[worst]:.3g} of the way"
    return f"{here}: each interval of a stage must use the same share of its own δ as those of any other."
