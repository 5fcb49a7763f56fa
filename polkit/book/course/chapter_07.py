"""Exercises of chapter 7, the spoofing window."""

from collections.abc import Mapping

import pandas as pd

from polkit.adversary import sorted_initialisation
from polkit.book.course.checking import Exercise, wrong_choice, wrong_number, wrong_numbers
from polkit.book.course.straight import least_pieces
from polkit.experiments.window import window, window_edges
from polkit.training import CIFAR10, Checkpoint, Task
from polkit.verifier import Calibration

PAPER_COST = 31  # gradients for a step of Attack II: ten iterations of three, and one update (Section III-B)
SCALES = (0.25, 0.5, 1.0, 3.0, 1000.0)


def edges_of_two(answer: object, *, errors: pd.DataFrame, calibration: Calibration, cost: float) -> str:
    if not isinstance(answer, Mapping) or set(answer) != {0.5, 2}:
        return "The answer must be a dict with the keys 0.5 and 2, such as {0.5: (100, 600), 2: (100, 600)}."
    right = {
        scale: window_edges(
            window(errors, calibration, proof_steps=calibration.task.steps, cost_per_step=cost, threshold_scale=scale)
        )
        for scale in (0.5, 1, 2)
    }
    for scale in (0.5, 2):
        named, given = f"δ × {scale}", answer[scale]
        if given is None or right[scale] is None:
            if given is not right[scale]:
                return f"{named}: the window is {'shut' if right[scale] is None else 'open'}."
            continue
        (least, most), other = right[scale], right[2.5 - scale]
        traps = {f"the least T' at {named}": {}, f"the largest T' at {named}": {}}
        near, far = traps
        if right[1]:
            traps[near][right[1][0]] = "that is the edge with δ as calibrated."
            traps[far][right[1][1] * scale] = "what does δ have to do with what a step of the spoof costs?"
            traps[far][right[1][1] / scale] = traps[far][right[1][1] * scale]
        if other:
            traps[near][other[0]] = "that is the edge at the other δ."
        if wrong := wrong_numbers(given, {near: least, far: most}, "steps", within=0.12, traps=traps):
            return wrong
    return ""


def what_narrows(answer: object) -> str:
    return wrong_choice(
        answer,
        {"c", "e"},
        {
            "a": "a longer training leaves the path as fine as it was and gives the spoof more to undercut.",
            "b": "with more intervals over the same way each of them is shorter, and less than the same δ.",
            "c": "What happens to the least T' when δ falls?",
            "d": "all intervals of a straight path are alike: whichever are replayed, the least T' stays, and so does "
            "what the spoof costs.",
            "e": "What does a longer way do to the least T'?",
            "f": "that makes c smaller, and moves the upper edge up.",
        },
    )


def room_in_the_paper(answer: object) -> str:
    steps, interval = CIFAR10.steps, CIFAR10.checkpoint_interval
    right = steps / PAPER_COST / interval
    traps = {
        steps / PAPER_COST: "That is the break-even itself, in steps; in how many intervals does it divide?",
        steps / interval: "So many intervals has the proof. The spoof may not have as many: c is missing.",
        right / PAPER_COST: "The break-even of 2,516 steps has been divided by c already.",
        1 / right: "That is δ over the way; turn the fraction over.",
    }
    return wrong_number(answer, right, "times δ", within=0.01, traps=traps)


def least_lengths(answer: object, *, task: Task, final: Checkpoint, calibration: Calibration) -> str:
    if not callable(answer):
        return f"The answer must be a function of the multiple of δ, not {type(answer).__name__}."
    k = task.checkpoint_interval
    for scale in SCALES:
        right, found = least_length(task, final, calibration, scale), answer(scale)
        traps = {right / k: f"At δ × {scale:g} that is a number of intervals; steps are asked for."}
        if right > k:
            traps[right - k] = f"At δ × {scale:g} the pieces of such a path are still longer than δ in some distance."
        if wrong := wrong_number(found, right, f"steps at δ × {scale:g}", traps=traps):
            return wrong
    return ""


def least_length(task: Task, final: Checkpoint, calibration: Calibration, scale: float) -> int:
    """The least T' whose straight path, from the start that `path_errors` takes, is within `scale` times δ."""
    first, delta = sorted_initialisation(task, final, 0).weights, calibration.thresholds["weights"]
    allowed = {name: scale * value for name, value in delta.items()}
    return task.checkpoint_interval * least_pieces(first, final.weights, allowed)


def two_counts(answer: object, *, task: Task) -> str:
    one, each = task.steps / PAPER_COST, task.steps / PAPER_COST / task.checkpoint_interval
    counts = ("one gradient for k batches", "k gradients for k batches")
    if wrong_numbers(answer, dict(zip(counts, (each, one), strict=True)), "times δ", within=0.02) == "":
        return "These two stand in the wrong order: which count makes the spoof cheaper?"
    traps = {
        counts[0]: {each: "so it is for Attack II; with this count a step costs a k-th of that."},
        counts[1]: {one: "with this count a step of Attack III costs what one of Attack II does."},
    }
    for name in counts:
        traps[name][task.steps / task.checkpoint_interval] = "that leaves c out: so it is for interpolation only."
    return wrong_numbers(answer, dict(zip(counts, (one, each), strict=True)), "times δ", within=0.02, traps=traps)


EXERCISES = {
    "7.1": Exercise(
        "easy",
        5,
        edges_of_two,
        "The upper edge, T/c, does not know δ. The lower one goes as 1/δ, in whole intervals, where a "
        "length (l1, l2, l∞) decides, and more slowly where the cosine distance does, which grows with the "
        "square of a piece.",
    ),
    "7.2": Exercise(
        "medium",
        5,
        what_narrows,
        "The ratio of the two edges is T δ / (c k d). The prover's own care, training longer or recording "
        "more often under the same δ, opens the window wider; and Q does not stand in it.",
    ),
    "7.3": Exercise(
        "easy",
        5,
        room_in_the_paper,
        "The straight path must be fine enough with 25 pieces. What the paper spends on each batch decides "
        "that: without it, 780 pieces would be allowed.",
    ),
    "7.4": Exercise(
        "hard",
        15,
        least_lengths,
        "The adversary needs no verifier to find the least T': W_0, W_T and δ say it beforehand. What they "
        "do not say is how far the batches move the model, which sets the floor of the figures above.",
    ),
    "7.5": Exercise(
        "medium",
        10,
        two_counts,
        "With one gradient for k batches k drops out of the condition: more batches to an interval then "
        "cost the spoof nothing. Counted in operations, a step costs what one of Attack II does, and "
        "nothing is gained.",
    ),
}
