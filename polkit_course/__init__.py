"""The judges of the book's exercises, which only its notebooks need: `check` says what is wrong with an answer."""

from importlib import import_module

from polkit_course.checking import Exercise, Feedback

CHAPTERS = [import_module(f"polkit_course.chapter_{number:02d}") for number in range(1, 13)]
STATED = [each for chapter in CHAPTERS for each in vars(chapter).values() if isinstance(each, Exercise)]
EXERCISES = {each.number: each for each in STATED}


def check(exercise: str, answer: object, **given: object) -> Feedback:
    """What an answer to an exercise comes to: a notebook shows it, nbgrader takes its points.

    exercise: its number, such as "4.1"
    answer: None if there is none yet; what trying it raises is said in the feedback
    given: what the chapter computed and the judge of the exercise asks for

    Raises ValueError for an exercise that does not exist.
    """
    if exercise not in EXERCISES:
        raise ValueError(f"there is no exercise {exercise!r}; there are {', '.join(EXERCISES)}")
    return EXERCISES[exercise].check(answer, **given)
