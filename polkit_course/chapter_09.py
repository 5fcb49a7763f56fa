"""Exercises of chapter 9, the paper's results beside ours."""

import pandas as pd

from polkit.experiments.window import spoof_rows
from polkit.training import PARTS, Task
from polkit.training.task import CIFAR10
from polkit_course.checking import exercise, wrong_number, wrong_numbers

PAPER_COST = 31  # gradients for a step of Attack II: ten iterations of three, and one update (Section III-B)


@exercise("9.1", 1, "25 pieces must be fine enough. Without the cost of the batches, 780 would be allowed.")
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


@exercise("9.2", 2, "One gradient for k batches takes k out of the condition; counted in operations it stays.")
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


@exercise("9.3", 2, "One training needs a larger δ than the others, for its buffers: a mean over trainings hides that.")
def enough_for_all(answer: object, *, runs: pd.DataFrame) -> str:
    def ratios(parts: tuple[str, ...]) -> pd.Series:
        return spoof_rows(runs, parts=parts).query("attack == 'Attack II' and spoof_steps == 140")["ratio"]

    every = ratios(PARTS)
    if answer == 1 < every.max():
        return "At the calibrated δ itself one training still rejects it."
    traps = {ratios(("weights",)).max(): "That compares the weights alone; the buffers have a δ of their own."}
    return wrong_number(answer, every.max(), "times δ", within=0.05, traps=traps)
