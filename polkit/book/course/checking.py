"""What every exercise is made of: a question's judge, and the sentence that a reader's answer gets."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

POINTS = {"easy": 1, "medium": 2, "hard": 3}


@dataclass(frozen=True)
class Exercise:
    """judge(answer, **given): what is wrong with the answer, in a sentence, or "" · meaning: what a right one shows."""

    difficulty: str
    minutes: int
    judge: Callable[..., str]
    meaning: str

    @property
    def points(self) -> int:
        return POINTS[self.difficulty]


@dataclass(frozen=True)
class Feedback:
    """What an answer came to. points: earned, all or none · says: a sentence."""

    right: bool
    answered: bool
    points: int
    says: str

    def __str__(self) -> str:
        word = "✓ Right." if self.right else "✗ Not yet." if self.answered else "… Not answered yet."
        return f"{word} {self.says}".strip()

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        """Words for a reader; as plain text the points alone, from which nbgrader grades the cell."""
        word, _, rest = str(self).partition(".")
        return {"text/plain": str(self.points), "text/markdown": f"**{word}.**{rest}"}


def judged(exercises: Mapping[str, Exercise], name: str, answer: object, given: Mapping[str, object]) -> Feedback:
    """The feedback on an answer; None is no answer yet. Raises ValueError for an exercise that does not exist."""
    if name not in exercises:
        raise ValueError(f"there is no exercise {name!r}; there are {', '.join(exercises)}")
    exercise = exercises[name]
    if answer is None:
        return Feedback(False, False, 0, "Put your answer in the cell above, run it, then this one.")
    try:
        wrong = exercise.judge(answer, **given)
    except Exception as problem:  # a reader's own code may raise anything, and is told what
        wrong = f"Trying your answer raised {type(problem).__name__}: {problem}"
    if wrong:
        return Feedback(False, True, 0, wrong)
    return Feedback(True, True, exercise.points, exercise.meaning)


def wrong_number(
    answer: object, right: float, unit: str, *, within: float = 0.0, traps: Mapping[float, str] | None = None
) -> str:
    """What is wrong with a number, or "". within: as a share of the right one · traps: usual wrong numbers and why
    they are wrong, recognised within the same share or 0.1 %, whichever is more."""
    if isinstance(answer, bool) or (not isinstance(answer, (int, float)) and not hasattr(answer, "__float__")):
        return f"The answer must be a number ({unit}), not {type(answer).__name__}."
    value = float(answer)
    if not math.isfinite(value):
        return f"The answer must be a finite number ({unit}), not {value}."
    if math.isclose(value, right, rel_tol=max(within, 1e-9), abs_tol=1e-12):
        return ""
    for trap, why in (traps or {}).items():
        if math.isclose(value, trap, rel_tol=max(within, 0.001), abs_tol=1e-12):
            return why
    return f"{value:g} {unit} is too {'large' if value > right else 'small'}."


def wrong_choice(answer: object, right: set[str], why_not: Mapping[str, str]) -> str:
    """What is wrong with a set of letters, or "". A single right letter may be given as a string.

    why_not: letter -> why it must not be chosen, or, of a right letter, what leaving it out overlooks.
    """
    chosen = {answer} if isinstance(answer, str) else answer
    if not isinstance(chosen, (set, frozenset, list, tuple)) or not all(isinstance(each, str) for each in chosen):
        return f"The answer must be letters, such as {{'a', 'b'}}, not {type(answer).__name__}."
    letters = {each.strip().lower() for each in chosen}
    if strange := letters - set(why_not) - right:
        return f"There is no choice {sorted(strange)[0]!r}."
    if surplus := letters - right:
        letter = sorted(surplus)[0]
        return f"Not ({letter}): {why_not[letter]}"
    if missing := right - letters:
        letter = sorted(missing)[0]
        return f"Something is missing. {why_not[letter]}" if letter in why_not else "Something is missing."
    return ""


def wrong_numbers(
    answer: object,
    right: Mapping[str, float],
    unit: str,
    *,
    within: float = 0.0,
    traps: Mapping[str, Mapping[float, str]] | None = None,
) -> str:
    """What is wrong with several numbers in a row, or "": each judged by `wrong_number`, and called by its name.

    right: what a number is -> its value, in the order of the answer · traps: the same names -> usual wrong numbers.
    """
    if isinstance(answer, (str, bytes, Mapping, set)) or not hasattr(answer, "__len__"):
        return f"The answer must be {len(right)} numbers in round brackets, not {type(answer).__name__}."
    if len(answer) != len(right):
        return f"The answer must be {len(right)} numbers, not {len(answer)}: {', '.join(right)}."
    for value, (name, wanted) in zip(answer, right.items(), strict=True):
        if wrong := wrong_number(value, wanted, unit, within=within, traps=(traps or {}).get(name)):
            return f"{name[0].upper()}{name[1:]}: {wrong}"
    return ""
