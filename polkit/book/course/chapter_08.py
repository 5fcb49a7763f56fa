"""Exercises of chapter 8, thresholds by stage and commitments to the data."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from polkit.adversary import staged_pace
from polkit.book.course.checking import Exercise, wrong_choice, wrong_number, wrong_numbers
from polkit.defences import cost_of_stages, rejected_at
from polkit.training import Checkpoint, Task, distances
from polkit.verifier import Calibration, Verdict

# Edges and multiples of δ: one stage, the chapter's three, uneven ones, a stage that is looser than the one before it.
WALKS = (
    ((0.0,), (0.5,)),
    ((0.0, 0.5, 0.75), (1.0, 0.025, 0.0044)),
    ((0.0, 0.1), (0.01, 1.0)),
    ((0.0, 0.3, 0.4, 0.8), (1.0, 0.2, 0.5, 0.001)),
)


def for_both(answer: object, *, judged: Mapping[str, Verdict], calibration: Calibration, edges: Sequence[float]) -> str:
    if isinstance(answer, (str, bytes)) or not hasattr(answer, "__len__"):
        return f"The answer must be {len(edges)} numbers in round brackets, not {type(answer).__name__}."
    if len(answer) != len(edges) or not all(isinstance(each, (int, float)) and 0 < each <= 1 for each in answer):
        return f"The answer must be {len(edges)} multiples of δ, one for each stage, above 0 and at most 1."
    if all(each == 1 for each in answer):
        return "All multiples are 1: that is the one δ again, the same in every stage."
    above = {name: rejected_at(verdict, calibration, edges, answer) for name, verdict in judged.items()}
    for name in ("honest proof", "stages' pace"):
        if above[name]:
            stage = sum(edge <= above[name][0] for edge in edges)
            return f"{name}: {len(above[name])} intervals are above their stage's δ, the first in stage {stage}."
    if not above["even path"]:
        return "The even path passes as well: so loose need the thresholds not be for the other two."
    return ""


def factor_of_stages(answer: object) -> str:
    if not callable(answer):
        return f"The answer must be a function of the number of stages, not {type(answer).__name__}."
    for stages in (1, 2, 3, 8, 40):
        edges = [number / stages for number in range(stages)]
        right = cost_of_stages(edges, [10.0**-number for number in range(stages)])
        traps = {
            right / stages: f"For m = {stages}: each stage has the m-th part of the intervals only.",
            1 / right: f"For m = {stages}: that is the share of n δ that n intervals cover; turn it over.",
            stages: f"For m = {stages}: the later stages cover a little too.",
        }
        traps = {trap: why for trap, why in traps.items() if not math.isclose(trap, right, rel_tol=0.02)}
        if wrong := wrong_number(answer(stages), right, f"times for m = {stages}", within=1e-6, traps=traps):
            return wrong
    return ""


def decay_alone(
    answer: object, *, task: Task, final: Checkpoint, calibration: Calibration, scales: Sequence[float]
) -> str:
    moved, allowed = "what weight decay does", "the last stage's δ"
    nothing = {name: value * 0 for name, value in final.weights.items()}
    length = distances(final.weights, nothing)["l2"]
    threshold = calibration.thresholds["weights"]["l2"]
    right = {moved: decay(task), allowed: threshold * scales[-1] / length}
    steady = task.checkpoint_interval * task.learning_rate * task.weight_decay
    traps = {
        moved: {
            steady: "momentum carries each step's decay on into the steps after it.",
            steady / (1 - task.momentum): "that is what momentum does in the long run; a forged interval begins "
            "with momentum zero.",
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


def what_a_root_tells(answer: object) -> str:
    return wrong_choice(
        answer,
        {"a", "b"},
        {
            "a": "What is hashed is every byte of an image.",
            "b": "What stands in a leaf besides the pixels?",
            "c": "the root knows which points there are, and nothing about when they are used.",
            "d": "every one of them is opened as often as it is used, and lies under the root each time.",
            "e": "his images lie under his own root like anybody's. What is wrong is its date, and a root has none.",
        },
    )


def walked_pace(answer: object) -> str:
    if not callable(answer):
        return f"The answer must be a function of edges and scales, not {type(answer).__name__}."
    for edges, scales in WALKS:
        case = f"For edges {edges} and multiples {scales}"
        try:
            at, gone = np.array([[float(number) for number in knot] for knot in answer(edges, scales)]).T
        except (TypeError, ValueError):
            return f"{case} it must return pairs (share of the steps, share of the way)."
        if not np.allclose([at[0], gone[0], at[-1], gone[-1]], [0, 0, 1, 1], atol=1e-6):
            return f"{case} the path must begin at (0, 0) and end at (1, 1)."
        if (np.diff(at) < 0).any():
            return f"{case} the knots must stand in the order of the steps."
        right = np.array(staged_pace(edges, scales)).T
        shares = np.linspace(0, 1, 201)
        missed = np.abs(np.interp(shares, at, gone) - np.interp(shares, *right))
        if missed.max() > 1e-6:
            share = shares[missed.argmax()]
            return (
                f"{case}, after {share:.0%} of the steps, it is {np.interp(share, at, gone):.3g} of the way: each "
                "interval of a stage must use the same share of its own δ as those of any other."
            )
    return ""


EXERCISES = {
    "8.1": Exercise(
        "easy",
        10,
        for_both,
        "Thresholds that forgive what batches do at the first learning rate stand far above what the "
        "honest proof needs in the last stage. They still reject an even path, and no longer the "
        "adversary who walks at the stages' pace.",
    ),
    "8.2": Exercise(
        "medium",
        10,
        factor_of_stages,
        "Ten stages in place of one cost nine times the steps, m stages 0.9 m times. However far the "
        "thresholds fall, the factor never exceeds m: the first stage has its share of the intervals.",
    ),
    "8.3": Exercise(
        "medium",
        15,
        decay_alone,
        "With no data at all, a spoof's interval in the last stage errs by about as much as is allowed "
        "there. The learning rate that the spoof never lowers does it.",
    ),
    "8.4": Exercise(
        "easy",
        5,
        what_a_root_tells,
        "A root says which images with which labels there were. When they were used, how often, and "
        "whether the root is older than the theft must come from elsewhere: a seed, a replay, a date.",
    ),
    "8.5": Exercise(
        "hard",
        15,
        walked_pace,
        "So the thresholds, once published, are a plan for the adversary. Forged, the plan fails all the "
        "same, because of the batches, and not because of its pace.",
    ),
}
