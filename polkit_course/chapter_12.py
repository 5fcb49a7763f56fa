"""Exercises of chapter 12, spoofs against defences."""

import math
from collections.abc import Callable, Iterable
from itertools import combinations

import pandas as pd

from polkit.defences import detection_probability
from polkit.experiments.gallery import SPOOFS
from polkit.experiments.matrix import HONEST, ON_TOP
from polkit_course.checking import exercise, wrong_choice, wrong_function, wrong_number

# n intervals, f of them made up, the probability wanted.
DRAWS = ((5, 3, 0.99), (440, 2, 0.5), (440, 2, 0.99), (440, 264, 0.99), (10, 10, 0.5), (5, 3, 1.0), (100, 0, 0.99))


@exercise("12.1", 2, "Three draws catch blindfold top-Q; two intervals of 440 need nine tenths of them replayed.")
def draws_needed(answer: object) -> str:
    return wrong_function(answer, "n, f and the probability", wrong_draws, DRAWS)


def wrong_draws(answer: Callable, n: int, made_up: int, wanted: float) -> str:
    case, found = f"{made_up} of {n} made up, probability {wanted}", answer(n, made_up, wanted)
    seen = [detection_probability(n, made_up, drawn) >= wanted for drawn in range(n + 1)]
    if not any(seen):
        return "" if found is None else f"{case}: no number of draws is enough, and None is asked for."
    right = seen.index(True)
    back = n if made_up == n else math.log(max(1 - wanted, 1e-300)) / math.log(1 - made_up / n)
    traps = {right / n: f"{case}: that is a share; how many intervals is it?"}
    if back > right * 1.02:
        traps[math.ceil(back)] = f"{case}: nobody looks at an interval twice: the draws are not independent."
    return wrong_number(found, right, f"intervals ({case})", traps=traps)


@exercise("12.2", 2, "Two defences stop the spoofs of this matrix, one does not. A later spoof may pass both.")
def fewest_defences(answer: object, *, trainings: pd.DataFrame) -> str:
    chosen = [answer] if isinstance(answer, str) else answer
    if not isinstance(chosen, Iterable) or not all(isinstance(each, str) for each in chosen):
        return f"The answer must be a set of names of verifiers, not {type(answer).__name__}."
    table = trainings.query("task == 'digits'").pivot_table("accepted", ["folder", "seed"], "defence")
    if others := sorted(set(chosen) - set(ON_TOP)):
        return f"{others[0]!r} is not one of the defences with one check more than “Algorithm 2, corrected”."
    sound = [defence for defence in ON_TOP if table.loc[HONEST, defence].all()]
    if unsound := [defence for defence in chosen if defence not in sound]:
        return f"{unsound[0]!r} rejects the honest proof, too."
    forged = table.loc[[name for name in SPOOFS if name in table.index]]
    passing = forged[forged[list(chosen)].all(axis=1)]
    if len(passing):
        spoof = passing.index[0][0]
        return f"{spoof} passes all of them in {len(passing.loc[spoof])} of the trainings."
    fewer = combinations(sound, len(set(chosen)) - 1)
    enough = any(not forged[list(few)].all(axis=1).any() for few in fewer)
    return "They stop the spoofs of the matrix, but fewer of them do." if enough else ""


@exercise("12.3", 1, "Seeds and momenta are nearly free; a smaller k, exact arithmetic and succinct proofs are not.")
def paid_by_the_prover(answer: object) -> str:
    why_not = {
        "a": "eight bytes a step are nothing beside the checkpoints.",
        "b": "What does the prover store at every checkpoint?",
        "c": "the prover has handed in the proof by then; it is the verifier who computes.",
        "d": "What does a step in float64 cost, against one in float32?",
        "e": "Who makes the proof of a step?",
        "f": "that is one hash for each image, once.",
        "g": "the momentum stands in the checkpoint already; the verifier compares one tensor more.",
    }
    return wrong_choice(answer, {"b", "d", "e"}, why_not)
