"""What an exercise is made of: a question's judge, and the sentence that a reader's answer gets."""

import math
import os
import re
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from unittest import mock

from IPython import get_ipython

from polkit.defences import ends_at
from polkit.proof import Proof
from polkit.training import Checkpoint


@dataclass(frozen=True)
class Feedback:
    """What a judge says of an answer: the verdict in two words, the points (all or none), and a sentence."""

    verdict: str
    points: int
    says: str

    def __str__(self) -> str:
        return f"{self.verdict} {self.says}"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        """Words for a reader; as plain text the points alone, from which nbgrader grades the cell."""
        return {"text/plain": str(self.points), "text/markdown": f"**{self.verdict}** {self.says}"}


@dataclass(frozen=True)
class Exercise:
    """A question of the book.

    number: such as "4.1"
    points: 1 if it is easy, 2 if it is medium, 3 if it is hard
    meaning: what a right answer shows
    judge: (answer, **given) -> what is wrong with the answer, in a sentence, or ""
    """

    number: str
    points: int
    meaning: str
    judge: Callable[..., str]

    def check(self, answer: object, **given: object) -> Feedback:
        if answer is None:
            return Feedback("… Not answered yet.", 0, "Put your answer in the cell above, run it, then this one.")
        with heard() as told:
            try:
                wrong = self.judge(answer, **given)
            except (Exception, SystemExit) as problem:  # a reader's own code may raise anything, and is told what
                wrong = f"Trying your answer raised {type(problem).__name__}: {problem}".removesuffix(": ")
        verdict, points, says = ("✗ Not yet.", 0, wrong) if wrong else ("✓ Right.", self.points, self.meaning)
        return Feedback(verdict, points, " ".join([says, *told]))


@contextmanager
def heard() -> Iterator[list[str]]:
    """Keeps warnings and stderr from the cell, where nbgrader takes all points for one letter: what they said.

    The list is filled where the block ends. `exit()` of a notebook, which would stop its kernel, raises SystemExit.
    """
    told, kept = [], os.dup(2)
    with ExitStack() as until:
        until.callback(os.close, kept)
        written = until.enter_context(tempfile.TemporaryFile("w+", newline="", encoding="utf-8", errors="replace"))
        warned = until.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("default")
        # The stream itself, since a logger may hold it, and what lies below it, for libraries and other processes.
        until.enter_context(mock.patch.object(sys.stderr, "write", written.write))
        until.callback(os.dup2, kept, 2)
        os.dup2(written.fileno(), 2)
        if shell := get_ipython():
            until.enter_context(mock.patch.object(shell, "ask_exit", side_effect=SystemExit))
        yield told
        written.seek(0)
        last = re.sub(r"[^\n]*\r", "", written.read())  # of a progress bar, how it ended
        lines = [*(f"{each.category.__name__}: {each.message}" for each in warned), *last.splitlines()]
        said = textwrap.shorten(" · ".join(dict.fromkeys(filter(str.strip, lines))), 300, placeholder=" …")
        told += [f"While it was tried it said: `{said.replace('`', chr(39))}`"] if said else []


def exercise(number: str, points: int, meaning: str) -> Callable[[Callable[..., str]], Exercise]:
    """Decorates a judge, which becomes the exercise."""
    return partial(Exercise, number, points, meaning)


def wrong_number(answer: object, right: float, unit: str, *, within: float = 0.0, traps: Mapping[float, str]) -> str:
    """What is wrong with a number, or "".

    within: the tolerance, as a share of the right number
    traps: usual wrong numbers -> why they are wrong, recognised within the same share or 0.1%, the larger of the two
    """
    if isinstance(answer, bool) or (not isinstance(answer, (int, float)) and not hasattr(answer, "__float__")):
        return f"The answer must be a number ({unit}), not {type(answer).__name__}."
    value = float(answer)
    if not math.isfinite(value):
        return f"The answer must be a finite number ({unit}), not {value}."
    if math.isclose(value, right, rel_tol=max(within, 1e-9), abs_tol=1e-12):
        return ""
    for trap, why in traps.items():
        if math.isclose(value, trap, rel_tol=max(within, 0.001), abs_tol=1e-12):
            return why
    return f"{value:g} {unit} is too {'large' if value > right else 'small'}."


def wrong_row(answer: object, count: int, what: str) -> str:
    """What is wrong with an answer that must be so many values in a row, or ""."""
    if isinstance(answer, (str, bytes, Mapping, set)) or not hasattr(answer, "__len__"):
        return f"The answer must be {what} in round brackets, not {type(answer).__name__}."
    return "" if len(answer) == count else f"The answer must be {what}, not {len(answer)}."


def wrong_numbers(
    answer: object, right: dict[str, float], unit: str, *, within: float, traps: dict[str, dict], swapped: str = ""
) -> str:
    """What is wrong with several numbers in a row, or "": each is judged by `wrong_number`.

    right: what a number is -> its value, in the order of the answer
    traps: what a number is -> its traps
    swapped: what to say where the right numbers stand in the reverse order
    """
    if wrong := wrong_row(answer, len(right), f"{len(right)} numbers ({', '.join(right)})"):
        return wrong
    told = [
        f"{name[0].upper()}{name[1:]}: {wrong}"
        for value, (name, wanted) in zip(answer, right.items(), strict=True)
        if (wrong := wrong_number(value, wanted, unit, within=within, traps=traps.get(name, {})))
    ]
    if told and swapped and not wrong_numbers(answer[::-1], right, unit, within=within, traps={}):
        return swapped
    return told[0] if told else ""


def wrong_choice(answer: object, right: set[str], why_not: Mapping[str, str]) -> str:
    """What is wrong with a set of letters or names, or ""; a single one may be given as a string.

    why_not: letter -> why it must not be chosen, or, of a right letter, what leaving it out overlooks
    """
    chosen = {answer} if isinstance(answer, str) else answer
    if not isinstance(chosen, (set, frozenset, list, tuple)) or not all(isinstance(each, str) for each in chosen):
        return f"The answer must be letters, such as {{'a', 'b'}}, not {type(answer).__name__}."
    letters = {each.strip().lower() for each in chosen}
    if strange := sorted(letters - set(why_not) - right):
        return f"There is no choice {strange[0]!r}."
    if surplus := sorted(letters - right):
        return f"Not ({surplus[0]}): {why_not[surplus[0]]}"
    missing = sorted(right - letters)
    return f"Something is missing. {why_not.get(missing[0], '')}".strip() if missing else ""


def wrong_function(answer: object, arguments: str, judge: Callable[..., str], cases: Iterable[tuple]) -> str:
    """What is wrong with a function, or "": what judge(answer, *case) says of the first case that it fails."""
    if not callable(answer):
        return f"The answer must be a function of {arguments}, not {type(answer).__name__}."
    return next((wrong for case in cases if (wrong := judge(answer, *case))), "")


def wrong_spoof(answer: object, final: Checkpoint) -> str:
    """What is wrong with an answer that must be a spoof of f_{W_T}, or ""."""
    if not isinstance(answer, Proof):
        return f"The answer must be a proof, as an attack returns it, not {type(answer).__name__}."
    if ends_at(answer, final):
        return "It does not end at W_T: a judge would not take it for a training of the disputed model."
    return ""
