"""Exercises of chapter 1, the primer."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from polkit.experiments.noise import error_growth, noise_sources
from polkit.proof import Proof
from polkit.training import Conditions, Cost
from polkit.verifier import Calibration
from polkit_course.checking import exercise, wrong_choice, wrong_function, wrong_number

SOURCE = "another thread"
SLIDER_STEP = 10**0.02  # between two values of δ in the panel
COSTS = (  # operations of the proof, of the verifier, of spoofs and whether each was accepted; what holds; when
    (10, 4, [(12, True)], (True, True), "With a verifier at 4, a proof at 10 and an accepted spoof at 12"),
    (10, 4, [(3, True)], (True, False), "With an accepted spoof at 3 and a proof at 10"),
    (10, 12, [(12, True)], (False, True), "With a verifier who spends more than the prover"),
    (10, 10, [(12, True)], (False, True), "With a verifier who spends exactly what the prover did"),
    (10, 4, [(10, True)], (True, False), "With an accepted spoof at exactly the proof's price, as retraining is,"),
    (10, 4, [(12, True), (3, True)], (True, False), "With one accepted spoof at 12 and one at 3"),
    (10, 4, [(3, False), (12, True)], (True, True), "With a cheap record that the judge rejected"),
    (10, 4, [(12, False), (3, True)], (True, False), "With an expensive record rejected and a cheap one accepted"),
    (10, 4, [], (True, True), "With nobody who has tried to spoof"),
)


@exercise("1.1", 1, "Half the δ costs Bob twice as many pieces. It only takes cutting more finely.")
def needed_pieces(answer: object, *, training: Callable, forgery: Callable) -> str:
    """training(k) -> path, replayed ends, δ; forgery(pieces) -> checkpoints, errors: both as the chapter has them."""
    path, replayed, calibrated = training(40)
    largest = float(np.linalg.norm(replayed - path[40::40], axis=1).max())

    def needed(threshold: float) -> int:
        return next(pieces for pieces in range(1, 10_000) if (forgery(pieces)[1] <= threshold).all())

    right = needed(largest)
    if answer in range(needed(largest * SLIDER_STEP), right):
        return ""
    traps = {
        needed(calibrated / 1.5): "That is for the worst of four replays behind δ; take the crosses that are drawn.",
        needed(training(10)[2]): "That is for the δ that was calibrated with k = 10.",
        needed(calibrated): "That is for the calibrated δ at k = 40; a smaller one still lets Alice pass.",
    }
    return wrong_number(answer, right, "pieces", traps=traps)


@exercise("1.2", 1, "A single bowl draws two runs together; the early training of a network drives them apart.")
def delta_against_k(answer: object) -> str:
    why_not = {
        "a": "From k = 5 to k = 40 that would be eight times; read δ off once more.",
        "c": "There are eight times fewer intervals at k = 40 than at k = 5, but δ is not eight times smaller.",
        "d": "Nothing here computes in parallel: the noise is the jitter of the images, step by step.",
    }
    return wrong_choice(answer, {"b"}, why_not)


@exercise("1.3", 1, "A proof is of one set of weights. Distillation matters where what a model can do is disputed.")
def spoof_of_the_model(answer: object) -> str:
    why_not = {
        "a": "A copy that classified every image as W_T does would still be another set of numbers.",
        "b": "With what does the judge compare the last checkpoint?",
        "c": "A spoof need not be a training: it is a record that the judge accepts and that ends at W_T.",
        "d": "What did it cost? The second inequality is about a record that is cheaper than the proof.",
        "e": "Not every dispute is about one set of numbers; some are about what a model can do.",
    }
    return wrong_choice(answer, {"b", "e"}, why_not)


@exercise("1.4", 2, "One cheap record that passes breaks the second inequality. Retraining costs as much as the proof.")
def two_inequalities(answer: object) -> str:
    return wrong_function(answer, "(proving, verifying, spoofs)", wrong_inequalities, COSTS)


def wrong_inequalities(answer: Callable, proving: int, verifying: int, spoofs: list, right: tuple, when: str) -> str:
    found = answer(spent(proving), spent(verifying), [(spent(each), accepted) for each, accepted in spoofs])
    if not isinstance(found, (tuple, list)) or [type(holds) in (bool, np.bool_) for holds in found] != [True, True]:
        return f"It must return a pair of booleans, whether the first and the second inequality holds, not {found!r}."
    for number, holds, wanted in zip(("first", "second"), found, right, strict=True):
        if holds != wanted:
            return f"{when} the {number} inequality {'holds' if wanted else 'does not hold'}; yours says otherwise."
    return ""


def spent(operations: int) -> Cost:
    other = 100 - operations  # the meters that are not asked for run backwards
    return Cost(other, operations, other, other)


@exercise("1.5", 2, "This is an average: the figure shows that the factor is not the same everywhere.")
def growth_per_step(answer: object, *, growth: pd.DataFrame) -> str:
    errors = largest_errors(growth)
    steps = int(errors.index[-1] - errors.index[0])
    ratio = float(errors.iloc[-1] / errors.iloc[0])
    right = ratio ** (1 / steps)
    traps = {
        ratio: f"That is the growth over all {steps} steps; which factor, applied {steps} times, makes it?",
        ratio / steps: f"Growth multiplies: {steps} steps of that factor each would make far more.",
        right - 1: "That is what is added in a step, as a share; the factor is what the error is multiplied by.",
    }
    return wrong_number(answer, right, "as a factor", within=0.02, traps=traps)


@exercise("1.6", 3, "A few steps made that explosion. No replay gets much beyond d_ref, the distance of two trainings.")
def twice_as_far(
    answer: object, *, proof: Proof, growth: pd.DataFrame, calibration: Calibration, conditions: Conditions
) -> str:
    errors, reference = largest_errors(growth), calibration.reference["weights"]["l2"]
    first, last = int(errors.index[0]), int(errors.index[-1])
    source = {SOURCE: noise_sources(conditions)[SOURCE]}
    measured = float(largest_errors(error_growth(proof, source, steps=[2 * last])).iloc[0])
    predicted = errors.iloc[-1] * (errors.iloc[-1] / errors.iloc[0]) ** (last / (last - first))
    traps = {
        predicted / reference: "That is the prediction; no two models of this task are so far apart. Measure it.",
        measured: "That is the error itself; divide it by d_ref.",
        errors.iloc[-1] / reference: f"That is the error after {last} steps.",
    }
    return wrong_number(answer, measured / reference, "d_ref", within=0.05, traps=traps)


def largest_errors(growth: pd.DataFrame) -> pd.Series:
    """Number of steps -> the largest l2 error of the weights over all starts, when a replay uses another thread."""
    rows = growth.query("source == @SOURCE and part == 'weights' and distance == 'l2'")
    return rows.groupby("steps")["error"].max()
