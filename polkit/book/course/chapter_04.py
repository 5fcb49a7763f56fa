"""Exercises of chapter 4, Attack I."""

import math

import pandas as pd

from polkit.book.course.checking import Exercise, wrong_number
from polkit.book.course.forged import wrong_spoof
from polkit.proof import Proof
from polkit.training import Checkpoint, Task, distances
from polkit.verifier import Calibration, Verdict, verify, worst_ratios


def images_per_weight(answer: object, *, task: Task, final: Checkpoint) -> str:
    weights = sum(tensor.numel() for tensor in final.weights.values())
    pixels = math.prod(task.image_shape)
    right = math.ceil(weights / pixels)
    traps = {
        weights: "So many pixels there must be; how many images is that?",
        weights / pixels: f"{right - 1} images are a few pixels short: a batch holds whole images.",
    }
    return wrong_number(answer, right, "images", traps=traps)


def needed_multiple(answer: object, *, verdict: Verdict, calibration: Calibration) -> str:
    worst = worst_ratios(verdict, calibration)["ratio"].max()
    l2 = max(
        row.error / calibration.thresholds["weights"]["l2"]
        for row in verdict.intervals.itertuples()
        if (row.part, row.distance) == ("weights", "l2")
    )
    traps = {
        l2: "That is enough in l2 of the weights; every distance of every part must pass.",
        1 / worst: "That is how many of its errors fit into δ; turn the fraction over.",
    }
    return wrong_number(answer, worst, "times δ", within=0.05, traps=traps)


def long_enough_rate(answer: object, *, spoof: Proof, trace: pd.Series) -> str:
    task, interval = spoof.task, spoof.checkpoint_interval
    before, after = (spoof.checkpoint(spoof.steps - back * interval) for back in (2, 1))
    moved, rate = distances(before.weights, after.weights)["l2"], task.learning_rate_at(spoof.steps - 1)
    right = rate * trace["missed_before"] * interval / moved
    traps = {
        right / interval: f"At this rate {interval} steps together are long enough; the last one is alone.",
        right / rate: "That is how much longer the step must be; multiply it by the learning rate it has.",
    }
    return wrong_number(answer, right, "as a learning rate", within=0.05, traps=traps)


def pasted_ending(answer: object, *, final: Checkpoint, calibration: Calibration, spoof: Proof) -> str:
    if wrong := wrong_spoof(answer, final):
        return wrong
    verdict = verify(answer, calibration, top_q="all", remember=True)
    if verdict.accepted:
        return "It is accepted whole: nothing was pasted, or more was forged than this question asks for."
    last = answer.steps - answer.checkpoint_interval
    elsewhere = [reason for reason in verdict.reasons if reason.kind != "error" or reason.step != last]
    if elsewhere:
        return f"It is rejected for more than its last interval: {elsewhere[0]}."
    done, allowed = (folder.cost().floating_point_operations for folder in (answer, spoof))
    if done >= allowed and answer.steps >= spoof.steps:
        return "It costs as much as Attack I of this chapter: leave out what did not help."
    return ""


EXERCISES = {
    "4.1": Exercise(
        "easy",
        5,
        images_per_weight,
        "Having as many pixels as weights is necessary, not sufficient: noise of a few grey levels turns "
        "the gradient a little, and the way to W_T is hundreds of times longer than a step.",
    ),
    "4.2": Exercise(
        "easy", 5, needed_multiple, "At such a δ a judge would accept any model as the outcome of any interval."
    ),
    "4.3": Exercise(
        "medium",
        10,
        long_enough_rate,
        "With a rate that the prover may claim, length is no obstacle, direction still is. A verifier "
        "replays with the task's rate, and the question does not arise.",
    ),
    "4.4": Exercise(
        "hard",
        15,
        pasted_ending,
        "The attack was never needed: Algorithm 2 as printed skips the one interval that gives it away.",
    ),
}
