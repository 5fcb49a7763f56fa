"""What README.md and the course guide tell a reader to do: every target, command, file, section and minute is there."""

import re
import shlex
from pathlib import Path

import nbformat
import pytest

import polkit.book.chapters as book
from polkit.__main__ import main, make_parser
from tests import sliders

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = book.chapters()


def prose(file):
    cells = nbformat.read(file, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


GUIDE = prose(book.find_notebooks() / book.GUIDE)
README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXTS = [pytest.param(README, id="README"), pytest.param(GUIDE, id="guide")]


def quoted(text):
    """What stands in backticks or in a block of code, line by line."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    return [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()] + spans


@pytest.mark.parametrize("text", TEXTS)
def test_every_make_target_exists(text):
    named = {found[1] for line in quoted(text) if (found := re.match(r"make (?:[A-Z]+=\S+ )?([a-z-]+)$", line))}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert {"lab", "book", "site", "test"} <= named | {"lab"}
    assert named - targets == set()


@pytest.mark.parametrize("text", TEXTS)
def test_every_command_exists(text):
    named = {found[1] for line in quoted(text) if (found := re.match(r"(?:\S+\\)?polkit ([a-z]+)\b", line))}
    (commands,) = [action.choices for action in make_parser()._actions if action.metavar == "COMMAND"]
    assert "book" in named
    assert named - set(commands) == set()


@pytest.mark.parametrize("text", TEXTS)
def test_every_file_exists(text):
    made = ("build/", "data/results/NAME")  # by the commands themselves
    kinds = r"(data|notebooks|polkit|tests|build)/[\w./-]+|[\w-]+\.(yml|toml)"
    named = {each for each in quoted(text) if re.fullmatch(kinds, each)}
    assert [each for each in sorted(named) if not each.startswith(made) and not (ROOT / each).exists()] == []


# The solutions repeat the chapters' prose one folder below.
NOTEBOOKS = [file for file in sorted((ROOT / "notebooks").rglob("*.ipynb")) if file.parent.name != "solutions"]
LINKING = [ROOT / "README.md", *sorted(ROOT.glob("[!.]*/README.md")), *NOTEBOOKS]


@pytest.mark.parametrize("file", LINKING, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_every_link_between_files_leads_somewhere(file):
    text = file.read_text(encoding="utf-8") if file.suffix == ".md" else prose(file)
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"https?:|#", link)]
    assert [link for link in links if not (file.parent / link.partition("#")[0]).exists()] == []


def test_the_guide_is_no_chapter_and_links_to_each():
    assert book.GUIDE not in [file.name for file in CHAPTERS]
    assert len(CHAPTERS) == 12
    assert [file.stem[0] for file in book.appendices()] == list("ABCDEFGHI")
    stored = nbformat.read(book.find_notebooks() / book.GUIDE, as_version=4)
    assert {cell.cell_type for cell in stored.cells} == {"markdown"}
    for file in CHAPTERS:
        assert f"]({file.name})" in GUIDE
    objectives = re.findall(r"^\d+\. .*\(([^()]*)\)\.$", GUIDE, flags=re.MULTILINE)
    assert {int(number) for each in objectives for number in re.findall(r"\d+", each)} == set(range(1, 13))


def lectures():
    """number -> (file names of its chapters, all that is said of it)"""
    told = re.findall(r"^### Lecture (\d) · (.*?)(?=^#)", GUIDE, flags=re.MULTILINE | re.DOTALL)
    return {number: (re.findall(r"\]\((\w+\.ipynb)\)", text), text) for number, text in told}


def test_the_plan_takes_ninety_minutes_each_and_every_chapter_once():
    plan = lectures()
    assert list(plan) == ["1", "2", "3", "4"]
    assert [name for names, _ in plan.values() for name in names] == [file.name for file in CHAPTERS]
    for _, text in plan.values():
        assert sum(map(int, re.findall(r"\((\d+)\)", text))) == 90


def test_the_plan_counts_the_reading_as_the_chapters_do_and_names_their_sections():
    texts = {file.name: prose(file) for file in CHAPTERS}
    told = list(map(int, re.findall(r"\d+", re.search(r"read the chapters it shows: (.*?) minutes", GUIDE)[1])))
    for minutes, (names, text) in zip(told, lectures().values(), strict=True):
        assert minutes == sum(int(re.search(r"\*\*Minutes\*\*: (\d+) to read", texts[name])[1]) for name in names)
        headings = {heading for name in names for heading in re.findall(r"^#+ (.*)$", texts[name], flags=re.MULTILINE)}
        left = re.findall(r'"([^"]+)"', text)
        assert left
        assert set(left) <= headings


def test_the_readme_is_short_and_has_a_line_for_each_chapter():
    assert len(README.split()) <= 900
    for file in CHAPTERS:
        assert f"](notebooks/{file.name}): " in README


def test_the_guide_says_which_panel_has_which_slider():
    guide = nbformat.read(book.find_notebooks() / book.GUIDE, as_version=4)
    (cell,) = [cell for cell in guide.cells if cell.id == sliders.CELL]
    assert cell.source == sliders.TEXT + sliders.table()


def test_every_stored_panel_can_move_and_shows_the_four_sliders_in_one_order():
    stored = [still for file in book.chapters() + book.appendices() for still in sliders.stored_panels(file)]
    assert len(stored) >= 18
    for still in stored:
        found = list(dict.fromkeys(sliders.symbol(control["label"]) for control in still["controls"]))
        shared = [name for name in found if name in sliders.SYMBOLS]
        assert shared == [name for name in sliders.SYMBOLS if name in shared]
        assert found[: len(shared)] == shared
        assert "frames" in still
        assert all(len(control["words"]) > 1 for control in still["controls"])


def test_the_readmes_python_and_its_commands_run_as_they_stand(tmp_path, monkeypatch, capsys):
    """On a training of one epoch, with the README's own lines."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("secrets.randbits", lambda _: 0)  # some draws reject so short a training
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    (lines,) = [block for language, block in blocks if language == "python"]
    small = lines.replace('pk.task("digits")', 'pk.task("digits", epochs=1, checkpoint_interval=11)')
    small = small.replace("spoof_steps=140", "spoof_steps=11")
    assert small.count("spoof_steps=11") == small.count("epochs=1") == 1
    exec(compile(small, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("accepted (1 ")

    (commands,) = [block for language, block in blocks if not language and block.startswith("polkit ")]
    for command in commands.splitlines():
        words = shlex.split(command.replace("--spoof-steps 140", "--spoof-steps 11"))[1:]
        small = ["--epochs", "1", "--checkpoint-interval", "11"] if words[0] == "prove" else []
        assert main([*words, *small]) == 0, command
    folders = {"honest", "forged"}
    assert {file.name for file in tmp_path.iterdir()} == {
        f"{name}{end}" for name in folders for end in ("", ".record.json")
    } | {"calibration.json"}


def test_the_readme_shows_a_picture_before_its_third_sentence_ends():
    before, picture, _ = README.partition("![")
    assert picture
    assert len(re.findall(r"[.!?](?:\s|$)", before)) <= 3
