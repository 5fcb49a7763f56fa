"""Exercises of chapter 12, spoofs against defences."""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations

import pandas as pd

from polkit.defences import detection_probability
from polkit.experiments.gallery import SPOOFS
from polkit.experiments.matrix import HONEST, ON_TOP
from polkit_course.checking import exercise, wrong_choice, wrong_function, wrong_number

# The speeds of an honest proof's intervals, the speed limit, the way, the watched share of the limit, the chance left.
MIXED = (*(0.05,) * 80, *(0.3,) * 15, *(0.9,) * 5)
FADING = tuple(1 / place for place in range(1, 441))
WATCHED = (
    (MIXED, 1.0, 4.9, 0.25, 1e-3),
    (MIXED, 1.0, 4.9, 0.5, 1e-3),
    (FADING, 2.0, 5.5, 0.1, 1e-6),
    (FADING, 2.0, 5.5, 0.3, 1e-6),
)


@exercise("12.1", 2, "Who watches slower intervals replays more of them, and needs fewer draws: there is a best share.")
def replays_needed(answer: object) -> str:
    named = "the speeds, the limit, the way, the share and the chance"
    return wrong_function(answer, named, wrong_replays, WATCHED)


def wrong_replays(
    answer: Callable, speeds: Sequence[float], limit: float, way: float, share: float, chance: float
) -> str:
    n, watched = len(speeds), sum(speed > share * limit for speed in speeds)
    hops = math.ceil(way / (share * limit))

    def drawn(hops: int) -> int:
        return next(m for m in range(n + 1) if 1 - detection_probability(n, hops, m) <= chance)

    case = f"{n} intervals, {watched} of them watched at a share of {share}"
    back = math.ceil(math.log(chance) / math.log(1 - hops / n))
    traps = {
        watched + drawn(hops): f"{case}: the interval before each watched one is replayed, too.",
        2 * watched + drawn(hops - 1): f"{case}: a part of a hop does not reach the end. How many hops cover the way?",
        2 * watched + back: f"{case}: nobody looks at an interval twice: the draws are not independent.",
        2 * watched: f"{case}: the hops that nobody watches must be found by chance. How many draws does that take?",
        drawn(hops): f"{case}: the watched intervals are replayed, too.",
    }
    return wrong_number(
        answer(speeds, limit, way, share, chance), 2 * watched + drawn(hops), f"replays ({case})", traps=traps
    )


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
