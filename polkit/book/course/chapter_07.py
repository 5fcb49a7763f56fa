"""Exercises of chapter 7, the spoofing window."""

from collections.abc import Callable, Mapping

import pandas as pd

from polkit.adversary import sorted_initialisation
from polkit.book.course.chapter_05 import least_pieces
from polkit.book.course.checking import exercise, wrong_choice, wrong_function, wrong_number, wrong_numbers
from polkit.experiments.window import window, window_edges
from polkit.training import Checkpoint, Task
from polkit.training.task import CIFAR10
from polkit.verifier import Calibration

PAPER_COST = 31  # gradients for a step of Attack II: ten iterations of three, and one update (Section III-B)


@exercise("7.1", 1, "The upper edge, T/c, does not know δ. The lower one goes as 1/δ, more slowly where cos decides.")
def edges_of_two(answer: object, *, errors: pd.DataFrame, calibration: Calibration, cost: float) -> str:
    if not isinstance(answer, Mapping) or set(answer) != {0.5, 2}:
        return "The answer must be a dict with the keys 0.5 and 2, such as {0.5: (100, 600), 2: (100, 600)}."
    common = {"proof_steps": calibration.task.steps, "cost_per_step": cost}
    right = {s: window_edges(window(errors, calibration, threshold_scale=s, **common)) for s in (0.5, 1, 2)}
    return wrong_edges(answer[0.5], right, 0.5, 2) or wrong_edges(answer[2], right, 2, 0.5)


def wrong_edges(found: object, right: Mapping[float, tuple[int, int] | None], scale: float, other: float) -> str:
    """What is wrong with the edges at one multiple of δ, beside those at δ itself and at the other multiple."""
    named = f"δ × {scale}"
    if found is None or right[scale] is None:
        return "" if found is right[scale] else f"{named}: the window is {'shut' if right[scale] is None else 'open'}."
    (calibrated, most), (others, _) = (right[each] or (0, 0) for each in (1, other))
    least, largest = f"the least T' at {named}", f"the largest T' at {named}"
    no_delta = "what does δ have to do with what a step of the spoof costs?"
    traps = {
        least: {calibrated: "that is the edge with δ as calibrated.", others: "that is the edge at the other δ."},
        largest: {most * scale: no_delta, most / scale: no_delta},
    }
    edges = dict(zip((least, largest), right[scale], strict=True))
    return wrong_numbers(found, edges, "steps", within=0.12, traps=traps)


@exercise("7.2", 2, "The ratio of the edges is T δ / (c k d). Longer training widens the window; Q is not in it.")
def what_narrows(answer: object) -> str:
    why_not = {
        "a": "a longer training leaves the path as fine as it was and gives the spoof more to undercut.",
        "b": "with more intervals over the same way each of them is shorter, and less than the same δ.",
        "c": "What happens to the least T' when δ falls?",
        "d": "all intervals of a straight path are alike: no choice of them changes the least T' or the spoof's cost.",
        "e": "What does a longer way do to the least T'?",
        "f": "that makes c smaller, and moves the upper edge up.",
    }
    return wrong_choice(answer, {"c", "e"}, why_not)


@exercise("7.3", 1, "25 pieces must be fine enough. Without the cost of the batches, 780 would be allowed.")
def room_in_the_paper(answer: object) -> str:
    steps, interval = CIFAR10.steps, CIFAR10.checkpoint_interval
    right = steps / PAPER_COST / interval
    traps = {
        steps / PAPER_COST: "That is the break-even itself, in steps; in how many intervals does it divide?",
        steps / interval: "The proof has so many intervals. The spoof may not have as many: c is missing.",
        right / PAPER_COST: "The break-even of 2,516 steps has been divided by c already.",
        1 / right: "That is δ over the way; turn the fraction over.",
    }
    return wrong_number(answer, right, "times δ", within=0.01, traps=traps)


@exercise("7.4", 3, "W_0, W_T and δ give the least T' beforehand, but not how far the batches move the model.")
def least_lengths(answer: object, *, task: Task, final: Checkpoint, calibration: Calibration) -> str:
    k, first = task.checkpoint_interval, sorted_initialisation(task, final, 0)  # as `path_errors` begins
    limits = {scale: calibration.scaled(scale).thresholds["weights"] for scale in (0.25, 0.5, 1.0, 3.0, 1000.0)}
    cases = ((scale, k * least_pieces(first, final, allowed), k) for scale, allowed in limits.items())
    return wrong_function(answer, "the multiple of δ", wrong_length, cases)


def wrong_length(answer: Callable, scale: float, right: int, k: int) -> str:
    traps = {right / k: f"At δ × {scale:g} that is a number of intervals; steps are asked for."}
    if right > k:
        traps[right - k] = f"At δ × {scale:g} the pieces of such a path are still longer than δ in some distance."
    return wrong_number(answer(scale), right, f"steps at δ × {scale:g}", traps=traps)


@exercise("7.5", 2, "One gradient for k batches takes k out of the condition; counted in operations it stays.")
def two_counts(answer: object, *, task: Task) -> str:
    one, each = task.steps / PAPER_COST, task.steps / PAPER_COST / task.checkpoint_interval
    no_cost = {task.steps / task.checkpoint_interval: "that leaves c out: it is right for interpolation only."}
    jointly, singly = "one gradient for k batches", "k gradients for k batches"
    traps = {
        jointly: {each: "that is right for Attack II; with this count a step costs a k-th of that."} | no_cost,
        singly: {one: "with this count a step of Attack III costs what one of Attack II does."} | no_cost,
    }
    swapped = "These two stand in the wrong order: which count makes the spoof cheaper?"
    right = {jointly: one, singly: each}
    return wrong_numbers(answer, right, "times δ", within=0.02, traps=traps, swapped=swapped)
