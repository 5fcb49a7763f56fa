"""Exercises of chapter 8, the spoofing window."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from polkit.adversary import sorted_initialisation
from polkit.experiments.window import path_errors, window, window_edges
from polkit.training import Checkpoint, Task
from polkit.verifier import Calibration
from polkit_course.chapter_06 import least_pieces
from polkit_course.checking import exercise, wrong_choice, wrong_function, wrong_number, wrong_numbers


@exercise("8.1", 1, "δ does not change the upper edge, T/c. The lower one goes as 1/δ, more slowly where cos decides.")
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


@exercise("8.2", 2, "The ratio of the edges is T δ / (c k d). Longer training widens the window; Q is not in it.")
def what_narrows(answer: object) -> str:
    why_not = {
        "a": "a longer training does not change the least T', and longer spoofs still cost less than it.",
        "b": "more intervals divide the same way, so each is shorter, and δ stays as it is.",
        "c": "What happens to the least T' when δ falls?",
        "d": "all intervals of a straight path are alike: no choice of them changes the least T' or the spoof's cost.",
        "e": "What does a longer way do to the least T'?",
        "f": "that makes c smaller, and moves the upper edge up.",
    }
    return wrong_choice(answer, {"c", "e"}, why_not)


@exercise("8.3", 3, "W_0, W_T and δ give the least T' beforehand, but not how far the batches move the model.")
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


@exercise("8.4", 1, "Where a length decides, this δ goes as 1/T: ten times the training needs δ to be a tenth.")
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
