"""Exercises of chapter 1, the primer."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from polkit.book.course.checking import Exercise, wrong_choice, wrong_number
from polkit.experiments.noise import error_growth, noise_sources
from polkit.proof import Proof
from polkit.training import Conditions, Cost
from polkit.verifier import Calibration

SOURCE = "another thread"
SLIDER_STEP = 10**0.02  # between two values of δ in the panel


def pieces_at_least_delta(answer: object, *, training: Callable, forgery: Callable) -> str:
    """training(k) -> path, replayed ends, δ and forgery(pieces) -> checkpoints, errors, as the chapter defines them."""
    path, replayed, calibrated = training(40)
    largest = float(np.linalg.norm(replayed - path[40::40], axis=1).max())

    def needed(threshold: float) -> int:
        return next(pieces for pieces in range(1, 10_000) if (forgery(pieces)[1] <= threshold).all())

    right = needed(largest)
    if not wrong_number(answer, right, "pieces") or answer in range(needed(largest * SLIDER_STEP), right):
        return ""
    traps = {
        needed(calibrated / 1.5): "That is for the worst of the four replays behind the calibrated δ; take the crosses "
        "that are drawn.",
        needed(training(10)[2]): "That is for the δ that was calibrated with k = 10.",
        needed(calibrated): "That is for the calibrated δ at k = 40; a smaller one still lets Alice pass.",
    }
    return wrong_number(answer, right, "pieces", traps=traps)


def delta_against_k(answer: object) -> str:
    return wrong_choice(
        answer,
        {"b"},
        {
            "a": "From k = 5 to k = 40 that would be eight times; read δ off once more.",
            "c": "There are eight times fewer intervals at k = 40 than at k = 5, but δ is not eight times smaller.",
            "d": "Nothing here computes in parallel: the noise is the jitter of the images, step by step.",
        },
    )


def spoof_of_the_model(answer: object) -> str:
    return wrong_choice(
        answer,
        {"b", "e"},
        {
            "a": "A copy that classified every image as W_T does would be another set of numbers all the same.",
            "b": "Against what does the judge hold the last checkpoint?",
            "c": "No spoof need be a training: a record that the judge accepts and that ends at W_T is one.",
            "d": "What did it cost? The second inequality is about a record that is cheaper than the proof.",
            "e": "Not every dispute is about one set of numbers; some are about what a model can do.",
        },
    )


def cost_inequalities(answer: object) -> str:
    if not callable(answer):
        return f"The answer must be a function of the costs, not {type(answer).__name__}."

    def cost(operations: int) -> Cost:
        other = 100 - operations  # the meters that are not asked for run backwards
        return Cost(other, operations, other, other)

    cases = [
        (10, 4, [(12, True)], (True, True), "With a verifier at 4, a proof at 10 and an accepted spoof at 12"),
        (10, 4, [(3, True)], (True, False), "With an accepted spoof at 3 and a proof at 10"),
        (10, 12, [(12, True)], (False, True), "With a verifier who spends more than the prover"),
        (10, 10, [(12, True)], (False, True), "With a verifier who spends exactly what the prover did"),
        (10, 4, [(10, True)], (True, False), "With an accepted spoof at exactly the proof's price, as retraining is,"),
        (10, 4, [(12, True), (3, True)], (True, False), "With one accepted spoof at 12 and one at 3"),
        (10, 4, [(3, False), (12, True)], (True, True), "With a cheap record that the judge rejected"),
        (10, 4, [(12, False), (3, True)], (True, False), "With a dear record rejected and a cheap one accepted"),
        (10, 4, [], (True, True), "With nobody who has tried to spoof"),
    ]
    for proving, verifying, spoofs, right, when in cases:
        found = answer(cost(proving), cost(verifying), [(cost(spent), accepted) for spent, accepted in spoofs])
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            return f"It must return a pair, whether the first and whether the second inequality holds, not {found!r}."
        for number, holds, wanted in zip(("first", "second"), found, right, strict=True):
            if not isinstance(holds, (bool, np.bool_)):
                return f"Of the {number} inequality it returns {holds!r}; True or False would be an answer."
            if holds != wanted:
                return f"{when} the {number} inequality {'holds' if wanted else 'does not hold'}; yours says otherwise."
    return ""


def _largest(growth: pd.DataFrame) -> pd.Series:
    """Over all starts, by number of steps: l2 of the weights when a replay uses another thread."""
    rows = growth[(growth["source"] == SOURCE) & (growth["part"] == "weights") & (growth["distance"] == "l2")]
    return rows.groupby("steps")["error"].max()


def growth_per_step(answer: object, *, growth: pd.DataFrame) -> str:
    errors = _largest(growth)
    steps = int(errors.index[-1] - errors.index[0])
    ratio = float(errors.iloc[-1] / errors.iloc[0])
    right = ratio ** (1 / steps)
    traps = {
        ratio: f"That is the growth over all {steps} steps; which factor, applied {steps} times, makes it?",
        ratio / steps: f"Growth multiplies: {steps} steps of that factor each would make far more.",
        right - 1: "That is what is added in a step, as a share; the factor is what the error is multiplied by.",
    }
    return wrong_number(answer, right, "as a factor", within=0.02, traps=traps)


def twice_as_far(
    answer: object, *, proof: Proof, growth: pd.DataFrame, calibration: Calibration, conditions: Conditions
) -> str:
    errors, reference = _largest(growth), calibration.reference["weights"]["l2"]
    first, last = int(errors.index[0]), int(errors.index[-1])
    source = {SOURCE: noise_sources(conditions)[SOURCE]}
    measured = float(_largest(error_growth(proof, source, steps=[2 * last], remember=True)).iloc[0])
    predicted = errors.iloc[-1] * (errors.iloc[-1] / errors.iloc[0]) ** (last / (last - first))
    traps = {
        predicted / reference: "That is the prediction; no two models of this task are so far apart. Measure it.",
        measured: "That is the error itself; divide it by d_ref.",
        errors.iloc[-1] / reference: f"That is the error after {last} steps.",
    }
    return wrong_number(answer, measured / reference, "d_ref", within=0.05, traps=traps)


EXERCISES = {
    "1.1": Exercise(
        "easy",
        10,
        pieces_at_least_delta,
        "Between the smallest δ that lets this replay pass and the calibrated one lies a factor of two, "
        "and Bob's line needs twice as many pieces. He only has to cut more finely.",
    ),
    "1.2": Exercise(
        "easy",
        5,
        delta_against_k,
        "How errors grow with k is a property of the landscape: a single bowl draws two runs together, "
        "the early training of a network drives them apart.",
    ),
    "1.3": Exercise(
        "easy",
        5,
        spoof_of_the_model,
        "A proof is a proof of one set of weights. Who claims to own what a model can do needs evidence of "
        "another kind, and that is where distillation counts.",
    ),
    "1.4": Exercise(
        "medium",
        10,
        cost_inequalities,
        "One cheap record that passes is enough to break the second inequality; and whoever knows the "
        "prover's seeds pays exactly her price, which is not more.",
    ),
    "1.5": Exercise(
        "medium",
        10,
        growth_per_step,
        "A last bit is multiplied by such a factor at every step, on average; the figure shows that the "
        "factor itself is not the same everywhere.",
    ),
    "1.6": Exercise(
        "hard",
        15,
        twice_as_far,
        "The factor was the average of an explosion that a few steps made, and no law. Nor can any replay "
        "get much farther than one d_ref, which is how far apart trainings are that share nothing.",
    ),
}
