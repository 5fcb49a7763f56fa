"""Exercises of the book: `check` says what is wrong with a reader's answer, and why."""

from polkit.book.course import (
    chapter_01,
    chapter_02,
    chapter_03,
    chapter_04,
    chapter_05,
    chapter_06,
    chapter_07,
    chapter_08,
    chapter_09,
)
from polkit.book.course.checking import Exercise, Feedback, judged

EXERCISES: dict[str, Exercise] = {
    **chapter_01.EXERCISES,
    **chapter_02.EXERCISES,
    **chapter_03.EXERCISES,
    **chapter_04.EXERCISES,
    **chapter_05.EXERCISES,
    **chapter_06.EXERCISES,
    **chapter_07.EXERCISES,
    **chapter_08.EXERCISES,
    **chapter_09.EXERCISES,
}


def check(exercise: str, answer: object, **given: object) -> Feedback:
    """What an answer to an exercise comes to: a notebook shows it, nbgrader takes its points.

    exercise: its number, such as "4.1" · answer: None if there is none yet · given: what the chapter computed and the
    judge of the exercise asks for. Raises ValueError for an exercise that does not exist; whatever an answer raises is
    said in the feedback.
    """
    return judged(EXERCISES, exercise, answer, given)
