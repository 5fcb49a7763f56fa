"""The exercises: what each judge says of right and of usual wrong answers, and how chapters carry them."""

import json
import logging
import math
import os
import re
import subprocess
import sys
import warnings

import nbformat
import numpy as np
import pytest
import torch
from tqdm import tqdm
from wrong_answers import WRONG

import polkit as pk
import polkit_course as course
from polkit.book.chapters import chapters
from polkit_course.checking import exercise, wrong_choice, wrong_function, wrong_number, wrong_numbers

CHAPTERS = chapters()
SOLUTIONS = [file.parent / "solutions" / file.name for file in CHAPTERS]
DIFFICULTY = {1: "easy", 2: "medium", 3: "hard"}
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


def questions(file):
    """Heading -> what is asked, without the hint, of every exercise of a notebook."""
    cells = [cell.source.strip() for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == "markdown"]
    asked = [source.partition("<details>")[0].strip() for source in cells if source.startswith("### Exercise ")]
    return {source.partition("\n")[0]: source for source in asked}


@pytest.mark.parametrize(("chapter", "solution"), [*zip(CHAPTERS, SOLUTIONS, strict=True)])
def test_a_solution_repeats_the_question_it_answers(chapter, solution):
    assert questions(chapter)
    assert questions(solution) == questions(chapter)


def test_an_answer_is_none_right_or_wrong_and_worth_its_points():
    known = exercise("1.1", 2, "It is two.")(lambda answer: "" if answer == 2 else "Count again.")
    none, wrong, right = map(known.check, (None, 3, 2))
    assert [each.points for each in (none, wrong, right)] == [0, 0, 2]
    assert (str(wrong), str(right)) == ("✗ Not yet. Count again.", "✓ Right. It is two.")
    assert wrong._repr_mimebundle_() == {"text/plain": "0", "text/markdown": "**✗ Not yet.** Count again."}
    assert right._repr_mimebundle_()["text/plain"] == "2"
    assert str(none).startswith("… Not answered yet.")


def test_what_an_answer_raises_is_said():
    def broken():
        raise KeyError("weights")

    known = exercise("1.1", 1, "")(lambda answer: answer())
    assert known.check(broken).says == "Trying your answer raised KeyError: 'weights'"
    with pytest.raises(ValueError, match=r"there is no exercise '9\.99'; there are"):
        course.check("9.99", 1)


def logged():
    logging.getLogger("a reader's").warning("by a logger")


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("noise", "said"),
    [
        (lambda: np.log(np.zeros(1)), "`RuntimeWarning: divide by zero encountered in log`"),
        (
            lambda: np.float64("inf") - np.float64("inf"),
            "`RuntimeWarning: invalid value encountered in scalar subtract`",
        ),
        (lambda: [warnings.warn(text, stacklevel=1) for text in "aab"], "`UserWarning: a · UserWarning: b`"),
        (lambda: print("two\n`words`", file=sys.stderr), "`two · 'words'`"),
        (lambda: list(tqdm(range(3), desc="bar")), "`bar: 100%|"),
        (lambda: list(tqdm(range(3), leave=False)), ""),
        (logged, "`by a logger`"),
        (lambda: os.write(2, b"from C"), "`from C`"),
        (lambda: subprocess.run("echo elsewhere >&2", shell=True, check=True), "`elsewhere`"),
        (lambda: print("to stdout"), ""),
        (lambda: None, ""),
    ],
)
def test_a_right_answer_keeps_its_points_whatever_it_says_on_stderr(noise, said, capfd):
    """nbgrader takes all points of a cell with anything on stderr."""

    def judge(answer, told):
        answer()
        return told

    handler = logging.StreamHandler()  # made before, as by a reader's own cell: it holds the stream itself
    logging.getLogger("a reader's").addHandler(handler)
    try:
        right, wrong = (exercise("1.1", 2, "So it is.")(judge).check(noise, told=told) for told in ("", "No."))
    finally:
        logging.getLogger("a reader's").removeHandler(handler)
    assert capfd.readouterr().err == ""
    assert (right.points, wrong.points) == (2, 0)
    for found, begins in ((right, "So it is."), (wrong, "No.")):
        assert found.says.startswith(f"{begins} While it was tried it said: {said}" if said else begins)
        assert said or found.says == begins
    print("heard again", file=sys.stderr)
    os.write(2, b"below too")
    assert "heard again" in (err := capfd.readouterr().err)
    assert "below too" in err


@pytest.mark.parametrize(("code", "said"), [(0, "SystemExit: 0"), ("stop", "SystemExit: stop"), (None, "SystemExit")])
def test_an_answer_that_exits_is_wrong_and_ends_nothing(code, said):
    known = exercise("1.1", 1, "")(lambda answer: answer())
    assert known.check(lambda: sys.exit(code)).says == f"Trying your answer raised {said}"
    with pytest.raises(KeyboardInterrupt):  # the reader's own wish to stop
        known.check(lambda: (_ for _ in ()).throw(KeyboardInterrupt))


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
        ((10,), "must be 2 numbers (the least, the largest), not 1."),
        (10, "2 numbers (the least, the largest) in round brackets, not int"),
        ((400, 10), "The other way round."),
        ({10: 400}, "not dict"),
        ("10", "not str"),
        ((10, None), "The largest: The answer must be a number"),
    ],
)
def test_several_numbers_are_judged_in_their_order(answer, said):
    right = {"the least": 10, "the largest": 400}
    traps = {"the largest": {80: "That is the cost."}}
    found = wrong_numbers(answer, right, "steps", within=0.03, traps=traps, swapped="The other way round.")
    assert said in found
    assert bool(said) == bool(found)


def test_a_function_is_judged_by_the_first_case_that_it_fails():
    def judge(answer, number):
        return "" if answer(number) == 2 * number else f"Not so for {number}."

    assert wrong_function(lambda number: 2 * number, "n", judge, [(1,), (2,)]) == ""
    assert wrong_function(lambda number: 2, "n", judge, [(1,), (2,), (3,)]) == "Not so for 2."
    assert wrong_function(2, "n", judge, []) == "The answer must be a function of n, not int."


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
        assert re.fullmatch(rf"{DIFFICULTY[exercise.points]} · \d+ minutes", about)
        variable = f"answer_{name.replace('.', '_')}"
        assert f"`{variable}`" in text
        assert re.fullmatch(rf"{variable} = None  # .+", answer.source)
        assert check.source.startswith(f'course.check("{name}", {variable}')
        assert (answer.metadata.nbgrader.solution, check.metadata.nbgrader.grade) == (True, True)
        assert check.metadata.nbgrader.points == exercise.points
        assert "Not answered yet" in check.outputs[0].data["text/markdown"]


def test_every_exercise_has_two_wrong_answers_or_more():
    assert list(WRONG) == list(course.EXERCISES)
    assert all(len(answers) >= 2 for answers in WRONG.values())


def test_what_the_manifest_may_say_is_what_no_verifier_compares(copied, small_calibration):
    """Exercise 2.3: an entry with another value of its type is found out, unless it is one of the right answer."""
    said = json.loads((copied.folder / "manifest.json").read_text())
    ignored = {
        name for name, value in said.items() if accepted_with(copied, small_calibration, {**said, name: other(value)})
    }
    assert course.check("2.3", ignored).points == 2


def other(value):
    """Another value of the same type; of a dict the numbers, or else all, are others."""
    if isinstance(value, dict):
        numbers = {key for key, each in value.items() if type(each) in (int, float)}
        return {key: other(each) if key in numbers or not numbers else each for key, each in value.items()}
    return value + "0" if isinstance(value, str) else value + 1


def accepted_with(proof, calibration, said):
    (proof.folder / "manifest.json").write_text(json.dumps(said))
    return pk.verify(proof.folder, calibration, top_q=1).accepted


def test_torchs_own_sgd_carries_gradients_and_momenta_as_exercises_7_2_and_11_1_say(small_task):
    def carried(k, momentum):
        """Gradient i is the i-th unit vector, so the i-th weight shows how far it was carried."""
        weights = torch.zeros(k, requires_grad=True)
        optimiser = torch.optim.SGD([weights], lr=1.0, momentum=momentum)
        for gradient in torch.eye(k):
            weights.grad = gradient.clone()
            optimiser.step()
        return (-weights.detach()).tolist()

    def pushing(now, aim, task, start):
        """The momentum for a way of -1, scaled."""
        weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.SGD([weight], lr=1.0, momentum=task.momentum)
        weight.grad = torch.zeros_like(weight)
        optimiser.state[weight]["momentum_buffer"] = torch.ones_like(weight)
        for step in range(start, start + task.checkpoint_interval):
            optimiser.param_groups[0]["lr"] = task.learning_rate_at(step)
            optimiser.step()
        return {name: (aim[name] - now[name]) / weight.detach() for name in now}

    assert course.check("7.2", carried).points == 2
    assert course.check("11.1", pushing, task=small_task).points == 2


# Those of the other chapters forge or replay for long.
QUICK = ("03", "06", "08", "09", "12")
SOLVED = [pytest.param(file, marks=() if file.stem[:2] in QUICK else pytest.mark.slow) for file in SOLUTIONS]


@pytest.mark.parametrize("file", SOLVED, ids=lambda file: file.stem)
def test_solutions_are_right_and_wrong_answers_are_told_why(file):
    """Runs the cells of a solution in this process, then each wrong answer before the same judge.

    All solutions share the chapters' cache: proofs, calibrations and most spoofs are made once.
    """
    cells = [cell for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == "code"]
    names = {"math": math, "pk": pk}  # for the wrong answers
    checks, chapter = {}, graded(file.parent.parent / file.name)
    for cell in cells:
        if cell.source.startswith("course.check"):
            checks[cell.metadata.nbgrader.grade_id] = cell.source
            right = eval(cell.source, names)
            assert right.verdict == "✓ Right.", (cell.source, right.says)
        else:
            exec(cell.source, names)
    assert checks == {name: cell.source for name, cell in chapter.items() if name.startswith("check")}
    for name in exercises_of(file):
        check, variable = checks[cells_of(name)[1]], f"answer_{name.replace('.', '_')}"
        for wrong, said in WRONG[name]:
            told = eval(re.sub(rf"\b{variable}\b", lambda _, wrong=wrong: f"({wrong})", check, count=1), names)
            assert told.verdict == "✗ Not yet.", (name, wrong, told.says)
            assert said in told.says, (name, wrong, told.says)
