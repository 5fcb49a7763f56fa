"""A chapter as it is, through nbgrader: released, handed in by three students, graded."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbgrader.utils import determine_grade

import polkit_course as course
from polkit.book.chapters import chapters

pytestmark = pytest.mark.slow  # a chapter is executed for each student
CHAPTER = "05_attack_1"
RIGHT, EMPTY, MIXED = "right", "empty", "mixed"


def nbgrader(place: Path, *arguments: str) -> None:
    own = {name: str(place / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    own["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # nbgrader starts alembic
    command = [sys.executable, "-m", "nbgrader", *arguments, "--log-level=WARN"]
    done = subprocess.run(command, cwd=place, env=os.environ | own, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


def hand_in(place: Path, student: str, answers: dict[str, str]) -> None:
    """The released chapter with these cells filled in, as a student hands it in."""
    released = nbformat.read(place / "release" / CHAPTER / f"{CHAPTER}.ipynb", as_version=4)
    for cell in released.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        cell.source = answers.get(name, cell.source)
    folder = place / "submitted" / student / CHAPTER
    folder.mkdir(parents=True)
    nbformat.write(released, folder / f"{CHAPTER}.ipynb")


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """student -> score, and the highest score that nbgrader knows of."""
    place = tmp_path_factory.mktemp("course")
    (file,) = [file for file in chapters() if file.stem == CHAPTER]
    (place / "source" / CHAPTER).mkdir(parents=True)
    shutil.copy(file, place / "source" / CHAPTER)
    nbgrader(place, "generate_assignment", CHAPTER)
    solved = nbformat.read(file.parent / "solutions" / file.name, as_version=4)
    answers = {
        cell.metadata.nbgrader.grade_id: cell.source
        for cell in solved.cells
        if cell.metadata.get("nbgrader", {}).get("solution")
    }
    hand_in(place, RIGHT, answers)
    hand_in(place, EMPTY, {})
    hand_in(place, MIXED, answers | {"answer-5-2": "answer_5_2 = 1.0", "answer-5-4": "answer_5_4 = no_such_name"})
    nbgrader(place, "autograde", CHAPTER, "--ExecutePreprocessor.timeout=300")
    nbgrader(place, "export", "--to=grades.csv")
    with (place / "grades.csv").open() as grades:
        rows = list(csv.DictReader(grades))
    return {row["student_id"]: float(row["score"]) for row in rows}, {float(row["max_score"]) for row in rows}, place


LOUD = """
import subprocess, sys, warnings
import numpy as np
from tqdm.auto import tqdm as widget
from tqdm import tqdm

def answer(number):
    np.log(np.zeros(1))
    warnings.warn("mine")
    print("out"), print("err", file=sys.stderr)
    subprocess.run("echo below >&2", shell=True)
    list(tqdm(range(3))), list(widget(range(3))), display(7)
    return number
"""
ANSWERS = {  # to an exercise worth 2 points: its last line -> its points
    "lambda: answer(2)": 2,
    "lambda: answer(3)": 0,
    "lambda: sys.exit()": 0,
    "lambda: exit()": 0,
    "lambda: (answer(2), 1 / 0)": 0,
    "lambda: 2": 2,
}


def test_points_are_for_what_is_right_whatever_an_answer_says_or_stops():
    stated = "from polkit_course.checking import exercise\n"
    stated += "known = exercise('1.1', 2, 'It is two.')(lambda answer: '' if answer() == 2 else 'No.')"
    checks = [nbformat.v4.new_code_cell(f"known.check({answer})") for answer in ANSWERS]
    for number, cell in enumerate(checks):
        cell.metadata.nbgrader = {"grade": True, "points": 2, "grade_id": f"check-{number}", "solution": False}
    notebook = nbformat.v4.new_notebook(cells=[*map(nbformat.v4.new_code_cell, (LOUD, stated)), *checks])
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    assert {answer: determine_grade(cell)[0] for answer, cell in zip(ANSWERS, checks, strict=True)} == ANSWERS


def test_what_is_released_has_no_answer_and_no_output(graded):
    _, _, place = graded
    released = nbformat.read(place / "release" / CHAPTER / f"{CHAPTER}.ipynb", as_version=4)
    cells = {cell.metadata.nbgrader.grade_id: cell for cell in released.cells if "nbgrader" in cell.metadata}
    assert all("NotImplementedError" in cell.source for name, cell in cells.items() if name.startswith("answer"))
    assert not any(cell.get("outputs") for cell in released.cells)
    assert all(not cell.metadata.get("editable", True) for name, cell in cells.items() if name.startswith("check"))


def test_solutions_have_full_marks_the_release_none_and_a_wrong_answer_loses_its_own(graded):
    scores, most, _ = graded
    points = {name: exercise.points for name, exercise in course.EXERCISES.items() if name.startswith("5.")}
    assert most == {sum(points.values())}
    assert scores == {RIGHT: sum(points.values()), EMPTY: 0, MIXED: points["5.1"] + points["5.3"]}
