"""The rooms of the site: formulas, the words of pictures, tables, references, and what Sphinx is given to read."""

import os
import re
import subprocess
import sys

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from docutils.utils.math import MathError
from IPython.core.inputtransformer2 import TransformerManager
from pybtex.database import parse_file

from notebooks.site.build import build
from notebooks.site.formulas import mathml
from notebooks.site.online import buttons
from notebooks.site.pages import dressed
from notebooks.site.sources import BIBLIOGRAPHY, Work, page_of, prose, works
from polkit.book.chapters import GUIDE, appendices, chapters
from polkit.experiments.published import find_notebooks

pytestmark = pytest.mark.slow  # for makers, not for readers

ROOT = find_notebooks().parent
PICTURE = '<div class="cell_output"><img src="a.png" alt="_images/a.png"/><p><em>In words: It falls.</em></p></div>'


def soup(html):
    return BeautifulSoup(html, "html.parser")


def test_a_formula_is_drawn_by_the_browser_itself():
    made = soup(mathml(r"W_0, \dots, \mathcal V"))
    assert made.math.msub.get_text(" ").split() == ["W", "0"]
    assert "…" in made.get_text()
    assert "𝒱" in made.get_text()
    hat = soup(mathml(r"\hat W_t")).math
    assert (hat.mover.mi.get_text(), hat.msub.get_text().strip(), hat.munderover) == ("W", "t", None)
    assert soup(mathml(r"\big(\tfrac1k\big)", as_block=True)).math["display"] == "block"
    with pytest.raises(MathError, match="nosuchcommand"):
        mathml(r"\nosuchcommand")


def test_a_picture_says_its_sentence_and_one_without_is_an_error():
    picture = soup(dressed(PICTURE)).img
    assert (picture["alt"], picture.parent["href"]) == ("It falls.", "a.png")
    with pytest.raises(ValueError, match=r"a\.png has no sentence"):
        dressed(PICTURE.replace("In words", "In short"))


def test_a_table_names_its_head_cells_and_scrolls_in_a_box_named_after_its_section():
    head, body = "<thead><tr><th></th><th>l2</th></tr></thead>", "<tbody><tr><th>0</th><td>1</td></tr></tbody>"
    page = soup(dressed(f"<h2>What k costs<a href='#x'>#</a></h2><table border='1'>{head}{body}</table>"))
    assert [(cell.name, cell.get("scope")) for cell in page.find_all(["th", "td"])] == [
        ("td", None),
        ("th", "col"),
        ("th", "row"),
        ("td", None),
    ]
    box = page.table.parent
    assert (box["role"], box["tabindex"], box["aria-label"]) == ("group", "0", "table: What k costs")
    assert not page.table.has_attr("border")


def test_the_names_of_an_index_stand_in_the_row_of_the_columns():
    index = pd.Index(["Attack II"], name="attack")
    made = soup(dressed("<h2>Errors</h2>" + pd.DataFrame({"l1": [1], "from W_T": [2]}, index=index).to_html()))
    assert [cell.get_text() for cell in made.select("thead th")] == ["attack", "l1", "from WT"]
    assert made.select_one("thead sub").get_text() == "T"
    both = pd.DataFrame({"l1": [1]}, index=index).rename_axis(columns="T'")
    assert [cell.get_text() for cell in soup(dressed("<h2>Errors</h2>" + both.to_html())).select("thead th")] == [
        "attack",
        "l1",
    ]
    two = pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_product([["l1"], ["least", "most"]]))
    assert len(soup(dressed("<h2>Errors</h2>" + two.to_html())).select("thead tr")) == 2  # these are no names


def test_choices_with_letters_have_no_other_marks():
    page = soup(dressed("<ul><li>(a) one</li><li>(b) two</li></ul><ul><li>three</li></ul>"))
    assert [each.get("class") for each in page.find_all("ul")] == [["choices"], None]


@pytest.mark.parametrize(
    ("text", "classes"), [("2.1e-03", ["number"]), (" 36 % ", ["number"]), ("-1,200", ["number"]), ("float-16", None)]
)
def test_no_number_of_a_table_is_broken(text, classes):
    page = soup(dressed(f"<h2>Errors</h2><table><tbody><tr><td>{text}</td></tr><tr><td>no</td></tr></tbody></table>"))
    assert page.td.get("class") == classes


def test_columns_of_numbers_are_told_from_others():
    table = pd.DataFrame({"T'": ["140", "–"], "here": ["0.3", "in one"]}, index=["Attack II", "Attack III"])
    page = soup(dressed("<h2>Errors</h2>" + table.to_html()))
    assert [cell.get_text() for cell in page.select(".figures")] == ["T'", "140", "–"]


def test_the_name_of_the_columns_is_not_lost_beside_that_of_the_rows():
    table = pd.DataFrame([[0.9, 1.5]], index=["Attack II"], columns=[40, 70])
    page = soup(dressed("<h2>Errors</h2>" + table.rename_axis(index="attack", columns="error at T' =").to_html()))
    assert page.caption.get_text() == "in the columns: error at T' ="
    assert [cell.get_text() for cell in page.select("thead th")] == ["attack", "40", "70"]


def test_a_head_without_words_is_no_head():
    page = soup(dressed("<h2>Time</h2><table><thead><tr><th></th><th></th></tr></thead><tr><td>1</td></tr></table>"))
    assert page.thead is None


def test_marks_stay_with_the_formula_before_them():
    page = soup(dressed("<p>so (<math><mi>a</mi></math>), or <math><mi>b</mi></math> alone.</p>"))
    assert [span.get_text() for span in page.select(".glued")] == ["(a),"]
    assert page.p.get_text() == "so (a), or b alone."


def test_thousands_are_one_number():
    assert "<mn>1,200</mn>" in mathml(r"T' = 1{,}200")
    assert "<mn>1,200</mn>" not in mathml(r"(1, 20)")


@pytest.mark.parametrize(
    ("text", "found"),
    [("a ResNet-20 in bf16", "ResNet-20"), ("ResNets", "ResNets"), ("a PreResNet", None), ("its ResNet.", "ResNet")],
)
def test_a_mention_takes_its_ending_along(text, found):
    mention = Work("he", "ResNet").mention(text)
    assert (mention and mention[0]) == found


def test_every_work_is_named_in_a_chapter_and_can_be_found():
    texts = ["\n".join(prose(nbformat.read(file, as_version=4))) for file in [*chapters(), *appendices()]]
    assert [work.key for work in works() if not any(map(work.mention, texts))] == []
    for key, entry in parse_file(str(BIBLIOGRAPHY)).entries.items():
        doi = entry.fields.get("doi")
        assert doi is None or re.fullmatch(r"10\.\d{4,5}/\S+", doi), key
        assert {"title", "year", "named"} <= set(entry.fields), key
        assert entry.persons["author"], key
    unfound = {
        key for key, entry in parse_file(str(BIBLIOGRAPHY)).entries.items() if not {"doi", "url"} & set(entry.fields)
    }
    assert unfound == {"freivalds1977", "krizhevsky2009"}  # neither has one


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A book of one chapter, with an exercise as the chapters have them."""
    stored = nbformat.read(chapters()[0], as_version=4)
    (panel,) = [cell for cell in stored.cells if "panels.surface_panel(" in cell.source]
    folder = tmp_path / "notebooks"
    (folder / "experiments").mkdir(parents=True)
    exercise = "## Exercises\n\nWhat is $k$?\n\n<details><summary>Hint</summary>\n\nThe *distance*.\n\n</details>"
    pages = {"00_start_here": "# Start here\n\n[One](01_one.ipynb)", "01_one": f"# 1 · One\n\nJia et al.\n\n{exercise}"}
    for name, text in pages.items():
        made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)], metadata=stored.metadata)
        made.cells += [panel] if name == "01_one" else []  # the front page shows it
        nbformat.write(made, folder / f"{name}.ipynb")
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Sphinx and what it imports warn of their own future.
@pytest.mark.filterwarnings("ignore")
def test_an_exercise_keeps_its_hint_folded_and_its_markdown(shelf):
    assert build(shelf / "site") == 0
    page = soup((shelf / "site" / "01_one.html").read_text(encoding="utf-8"))
    hint = page.find("details")
    assert (hint.summary.get_text(), hint.em.get_text()) == ("Hint", "distance")
    assert not hint.has_attr("open")
    assert page.find("math").get_text().strip() == "k"
    references = soup((shelf / "site" / "references.html").read_text(encoding="utf-8"))
    named = references.find(id="jia2021").find_next(string=re.compile("Named in chapter"))
    assert named.find_next("a").get_text() == "1"


@pytest.mark.filterwarnings("ignore")
def test_a_link_that_leads_nowhere_is_an_error(shelf, capsys):
    guide = shelf / "notebooks" / "00_start_here.ipynb"
    guide.write_text(guide.read_text().replace("01_one.ipynb", "02_two.ipynb"))
    assert build(shelf / "site") == 1
    assert "02_two.ipynb" in capsys.readouterr().err


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(FileExistsError, match="holds no site"):
        build(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.fixture(scope="module")
def online(tmp_path_factory):
    """The site with the address of a public copy; made in a process, since Sphinx's theme warns of itself."""
    site = tmp_path_factory.mktemp("online") / "site"
    asked = [sys.executable, "-m", "notebooks.site.build", site, "https://github.com/someone/polkit"]
    subprocess.run(asked, cwd=ROOT, capture_output=True, check=True)
    return site


def test_with_a_public_address_each_page_opens_its_notebook_on_binder_and_colab(online):
    for file in (find_notebooks() / GUIDE, *chapters(), *appendices()):
        page = "index" if file.name == GUIDE else page_of(file)
        links = [a["href"] for a in soup((online / f"{page}.html").read_text()).select("a[href*=someone]")]
        place = file.relative_to(find_notebooks().parent)
        assert links == [
            f"https://mybinder.org/v2/gh/someone/polkit/HEAD?urlpath=lab/tree/{place}",
            f"https://colab.research.google.com/github/someone/polkit/blob/gh-pages/_sources/{page}.ipynb",
        ]


def test_the_notebooks_of_a_public_site_install_the_book_first(online):
    for file in chapters():
        first, *rest = nbformat.read(online / f"_sources/{page_of(file)}.ipynb", as_version=4).cells
        assert "git clone --quiet --depth 1 https://github.com/someone/polkit polkit" in first.source
        assert rest == nbformat.read(file, as_version=4).cells
        code = TransformerManager().transform_cell(first.source)
        exec(compile(code, "install", "exec"), {})  # polkit is here: nothing is fetched
    assert (online / ".nojekyll").exists()


def test_the_font_that_travels_with_the_site_has_every_letter_of_the_books_formulas(online):
    styles = (online / "_static/site.css").read_text("utf-8")
    ranges = re.findall(r"U\+([0-9A-F]+)(?:-([0-9A-F]+))?", styles)
    shipped = {chr(code) for low, high in ranges for code in range(int(low, 16), int(high or low, 16) + 1)}
    pages = [soup(file.read_text("utf-8")) for file in online.glob("*.html")]
    letters = set("".join(formula.get_text() for page in pages for formula in page.find_all("math")))
    assert {"T", "δ", "∑", "⌊", "𝕎"} <= letters
    assert letters - shipped - {"\n"} == set()
    (file,) = re.findall(r'url\("(.+?)"\)', styles)
    assert (online / "_static" / file).read_bytes()[:4] == b"wOF2"


def test_an_address_that_no_service_could_open_is_refused():
    with pytest.raises(ValueError, match="the repository 'git@host:me/polkit' must be a public address"):
        buttons("git@host:me/polkit")


@pytest.mark.parametrize("given", [["site", "git@host:me/polkit"], ["."]])
def test_what_cannot_be_built_is_one_sentence(given, tmp_path):
    (tmp_path / "thesis.txt").touch()
    asked = [sys.executable, "-m", "notebooks.site.build", *given]
    ended = subprocess.run(asked, cwd=tmp_path, env=os.environ | {"PYTHONPATH": ROOT}, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, len(ended.stderr.splitlines())) == (1, "", 1)


def test_colab_is_offered_on_github_alone():
    assert "colab_url" not in buttons("https://gitlab.com/someone/polkit")["launch_buttons"]
