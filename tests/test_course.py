"""The exercises: what each judge says of right and of usual wrong answers, and how chapters carry them."""

import os
import re

import nbformat
import pytest
from nbclient import NotebookClient
from wrong_answers import WRONG

from polkit.book import course
from polkit.book.chapters import chapters
from polkit.book.course.checking import Exercise, judged, wrong_choice, wrong_number, wrong_numbers

CHAPTERS = chapters()
SOLUTIONS = [file.parent / "solutions" / file.name for file in CHAPTERS]
NAMES = {file: f"{int(file.stem[:2])}." for file in CHAPTERS + SOLUTIONS}


def graded(file):
    """The cells of a notebook that nbgrader knows, by their names."""
    cells = nbformat.read(file, as_version=4).cells
    return {cell.metadata.nbgrader.grade_id: cell for cell in cells if "nbgrader" in cell.metadata}


def exercises_of(file):
    return [name for name in course.EXERCISES if name.startswith(NAMES[file])]


def cells_of(name):
    """The names of an exercise's two cells."""
    number = name.replace(".", "-")
    return f"answer-{number}", f"check-{number}"


def test_an_answer_is_none_right_or_wrong_and_worth_its_points():
    known = {"1.1": Exercise("medium", 5, lambda answer: "" if answer == 2 else "Count again.", "Two it is.")}
    none, wrong, right = (judged(known, "1.1", answer, {}) for answer in (None, 3, 2))
    assert [each.points for each in (none, wrong, right)] == [0, 0, 2]
    assert [each.right for each in (none, wrong, right)] == [False, False, True]
    assert (str(wrong), str(right)) == ("✗ Not yet. Count again.", "✓ Right. Two it is.")
    assert wrong._repr_mimebundle_() == {"text/plain": "0", "text/markdown": "**✗ Not yet.** Count again."}
    assert right._repr_mimebundle_()["text/plain"] == "2"
    assert str(none).startswith("… Not answered yet.")


def test_what_an_answer_raises_is_said():
    known = {"1.1": Exercise("easy", 5, lambda answer: answer(), "")}

    def broken():
        raise KeyError("weights")

    assert judged(known, "1.1", broken, {}).says == "Trying your answer raised KeyError: 'weights'"
    with pytest.raises(ValueError, match=r"there is no exercise '9\.99'; there are"):
        course.check("9.99", 1)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (10, ""),
        (10.4, ""),
        (12, "12 steps is too large."),
        (5, "Half of it."),
        (True, "must be a number"),
        ("10", "must be a number"),
        (float("inf"), "must be a finite number"),
        ([10], "must be a number"),
    ],
)
def test_a_number_is_judged_with_its_usual_mistakes(answer, said):
    found = wrong_number(answer, 10, "steps", within=0.05, traps={5: "Half of it."})
    assert said in found
    assert bool(said) == bool(found)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("A", ""),
        ({"a"}, ""),
        (["a", "b"], "Not (b): b is cheap."),
        ("d", "There is no choice 'd'."),
        (set(), "Something is missing."),
        (7, "must be letters"),
    ],
)
def test_a_choice_is_judged_by_its_letters(answer, said):
    found = wrong_choice(answer, {"a"}, {"b": "b is cheap.", "c": "c is dear."})
    assert said in found
    assert bool(said) == bool(found)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((10, 400), ""),
        ([10.2, 400], ""),
        ((10, 80), "The largest: That is the cost."),
        ((9, 400), "The least: 9 steps"),
        ((10,), "must be 2 numbers, not 1: the least, the largest"),
        (10, "2 numbers in round brackets, not int"),
        ({10: 400}, "not dict"),
        ("10", "not str"),
        ((10, None), "The largest: The answer must be a number"),
    ],
)
def test_several_numbers_are_judged_in_their_order(answer, said):
    right = {"the least": 10, "the largest": 400}
    found = wrong_numbers(answer, right, "steps", within=0.03, traps={"the largest": {80: "That is the cost."}})
    assert said in found
    assert bool(said) == bool(found)


@pytest.mark.parametrize("file", CHAPTERS, ids=lambda file: file.stem)
def test_a_chapter_asks_its_exercises(file):
    """Three to six, each with a heading, difficulty, minutes and a folded hint, and cells that nbgrader knows."""
    named, known = exercises_of(file), graded(file)
    assert 3 <= len(named) <= 6
    assert list(known) == [cell for name in named for cell in cells_of(name)]
    text = "\n".join(cell.source for cell in nbformat.read(file, as_version=4).cells)
    for name in named:
        exercise, (answer, check) = course.EXERCISES[name], (known[cell] for cell in cells_of(name))
        (about,) = re.findall(rf"### Exercise {re.escape(name)} · .+\n\n\*[\w ]+ · (.+)\*\n\n(?:.|\n)+?<details>", text)
        assert about == f"{exercise.difficulty} · {exercise.minutes} minutes"
        variable = f"answer_{name.replace('.', '_')}"
        assert f"`{variable}`" in text
        assert re.fullmatch(rf"{variable} = None  # .+", answer.source)
        assert check.source.startswith(f'pk.course.check("{name}", {variable}')
        assert (answer.metadata.nbgrader.solution, check.metadata.nbgrader.grade) == (True, True)
        assert check.metadata.nbgrader.points == exercise.points
        assert "Not answered yet" in check.outputs[0].data["text/markdown"]


def test_every_exercise_has_two_wrong_answers_or_more():
    assert list(WRONG) == list(course.EXERCISES)
    assert all(len(answers) >= 2 for answers in WRONG.values())


# Jupyter's own packages warn while a kernel starts.
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("file", SOLUTIONS, ids=lambda file: file.stem)
def test_solutions_are_right_and_wrong_answers_are_told_why(file, monkeypatch):
    """Executes the solutions, then each wrong answer before the same judge, in the same kernel."""
    notebook, named = nbformat.read(file, as_version=4), exercises_of(file)
    checks = {name: graded(file)[cells_of(name)[1]].source for name in named}
    chapter = graded(file.parent.parent / file.name)
    assert checks == {name: chapter[cells_of(name)[1]].source for name in named}
    tried = []
    for name in named:
        variable = f"answer_{name.replace('.', '_')}"
        for wrong, said in WRONG[name]:
            source = re.sub(rf"\b{variable}\b", lambda _, wrong=wrong: f"({wrong})", checks[name], count=1)
            notebook.cells.append(nbformat.v4.new_code_cell(source))
            tried.append((wrong, said))
    monkeypatch.setitem(os.environ, "PYDEVD_DISABLE_FILE_VALIDATION", "1")
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(file.parent)}}).execute()
    says = {
        cell.source: cell.outputs[-1].data["text/markdown"]
        for cell in notebook.cells
        if cell.cell_type == "code" and "pk.course.check" in cell.source
    }
    assert all(says[source].startswith("**✓ Right.**") for source in checks.values()), says
    for cell, (wrong, said) in zip(notebook.cells[-len(tried) :], tried, strict=True):
        told = cell.outputs[-1].data["text/markdown"]
        assert told.startswith("**✗ Not yet.**"), (wrong, told)
        assert said in told, (wrong, told)
