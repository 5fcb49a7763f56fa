"""Exercises of chapter 5, Attack I."""

import math

import pandas as pd

from polkit.proof import Proof
from polkit.training import Checkpoint, Task, distances
from polkit.verifier import Calibration, Verdict, verify, worst_ratios
from polkit_course.checking import exercise, wrong_number, wrong_spoof


@exercise("5.1", 1, "As many pixels as weights are not enough: the way to W_T is also many times longer than a step.")
def images_per_weight(answer: object, *, task: Task, final: Checkpoint) -> str:
    weights = sum(tensor.numel() for tensor in final.weights.values())
    pixels = math.prod(task.image_shape)
    right = math.ceil(weights / pixels)
    traps = {
        weights: "That is the number of pixels; how many images is that?",
        weights / pixels: f"{right - 1} images are a few pixels short: a batch holds whole images.",
    }
    return wrong_number(answer, right, "images", traps=traps)


@exercise("5.2", 1, "Such a δ lets any interval end far from its checkpoint: on `digits` by half of d_ref in l2.")
def needed_multiple(answer: object, *, verdict: Verdict, calibration: Calibration) -> str:
    worst = worst_ratios(verdict, calibration)["ratio"].max()
    rows = verdict.intervals.query("part == 'weights' and distance == 'l2'")
    l2 = (rows["error"] / calibration.thresholds["weights"]["l2"]).max()
    traps = {
        l2: "That is enough in l2 of the weights; every distance of every part must pass.",
        1 / worst: "That is how many of its errors fit into δ; turn the fraction over.",
    }
    return wrong_number(answer, worst, "times δ", within=0.05, traps=traps)


@exercise("5.3", 2, "A claimed rate fixes the length, not the direction; a verifier replays with the task's rate.")
def long_enough_rate(answer: object, *, spoof: Proof, trace: pd.Series) -> str:
    interval, rate = spoof.checkpoint_interval, spoof.task.learning_rate_at(spoof.steps - 1)
    before, after = (spoof.checkpoint(spoof.steps - back * interval).weights for back in (2, 1))
    right = rate * trace["missed_before"] * interval / distances(before, after)["l2"]
    traps = {
        right / interval: f"At this rate {interval} steps together are long enough; the last one is alone.",
        right / rate: "That is how much longer the step must be; multiply it by the learning rate it has.",
    }
    return wrong_number(answer, right, "as a learning rate", within=0.05, traps=traps)


@exercise("5.4", 3, "The attack was never needed: Algorithm 2 as printed skips the interval that gives it away.")
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
    if done >= allowed:
        return "It costs as much as Attack I of this chapter: leave out what did not help."
    noted = answer.trace()
    optimised = "evaluations" in noted and bool((noted["evaluations"] > 0).any())
    return "Its last batch was optimised: this forgery needs no optimisation at all." if optimised else ""
