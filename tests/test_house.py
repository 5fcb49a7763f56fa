"""The rooms of polkit: imports point one way, and the package stays thin."""

import ast
from pathlib import Path

import pytest

import polkit

PACKAGE = Path(polkit.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
# From the bottom to the top; rooms on one floor do not import each other.
FLOORS = (
    {"training"},
    {"proof"},
    {"prover"},
    {"verifier"},
    {"adversary", "defences"},
    {"experiments"},
    {"book"},
    {"reproduce"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
CORE = ("training", "proof", "prover", "verifier", "adversary")


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_rooms(file: Path) -> set[str]:
    """The rooms that a module imports from, inside its functions too."""
    rooms = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            rooms |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file} imports relatively"
            rooms |= {node.module} if node.module != "polkit" else {f"polkit.{alias.name}" for alias in node.names}
    return {name.split(".")[1] if "." in name else "" for name in rooms if name.split(".")[0] == "polkit"}


def lines_of(file: Path) -> int:
    return len(file.read_text().splitlines())


@pytest.mark.parametrize("file", [file for file in MODULES if room_of(file) in FLOOR], ids=str)
def test_imports_point_down(file):
    """Not even `import polkit`, the face of all rooms, except where a chapter's code is to read as a reader's own."""
    here = room_of(file)
    for room in imported_rooms(file) - {here}:
        assert (room or "polkit") in {*FLOOR, "polkit"}, f"{file} imports {room}"
        if room:
            assert FLOOR[room] < FLOOR[here], f"{file} imports from {room}, which does not lie below {here}"
        else:
            assert here == "book", f"{file} imports polkit as a whole"


def test_the_test_of_imports_can_fail(tmp_path):
    module = tmp_path / "module.py"
    module.write_text(
        "import polkit as pk\n\n\ndef late():\n    from polkit.book import figures\n    import polkit.prover\n"
    )
    assert imported_rooms(module) == {"", "book", "prover"}


def test_the_package_stays_thin():
    sizes = {file: lines_of(file) for file in MODULES}
    assert sum(sizes.values()) <= 11_500
    assert sum(lines for file, lines in sizes.items() if room_of(file) in CORE) <= 4_300
    assert [str(file) for file, lines in sizes.items() if lines > 300] == []
    assert len([entry for entry in PACKAGE.iterdir() if entry.name != "__pycache__"]) <= 13


def test_no_room_needs_the_exercises_and_the_challenge_which_are_a_package_of_their_own():
    for file in MODULES:
        assert "polkit_course" not in file.read_text(), file
    files = sorted((PACKAGE.parent / "polkit_course").glob("*.py"))
    assert len(files) == 16
    assert max(map(lines_of, files)) <= 300


def test_every_room_says_in_one_docstring_what_it_is_for():
    assert [str(file) for file in MODULES if not ast.get_docstring(ast.parse(file.read_text()))] == []
