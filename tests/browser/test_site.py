"""The site as a reader has it: opened from disk, by mouse or keyboard, in light or dark, on a screen or a phone."""

import re
import subprocess
import sys
import urllib.parse
from pathlib import Path

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from bs4 import BeautifulSoup
from chapter import PICTURES

from notebooks.site.pages import IN_WORDS, SYMBOL
from polkit.book.chapters import GUIDE, chapters

pytestmark = [pytest.mark.ui, pytest.mark.slow]
# Every box that scrolls shows that there is more to the right.
MARKED = """() => [...document.querySelectorAll(".table-box, .formula")].every(
  box => box.classList.contains("more") === box.scrollWidth - box.clientWidth > 4)"""
PHONE = {"width": 390, "height": 844}
UNSEEN = "() => [...document.images].filter(image => !image.naturalWidth).map(image => image.src)"
TO_THE_END = "box => { box.scrollLeft = 1e6; return [box.scrollLeft, box.scrollWidth - box.clientWidth] }"
ONE_OF_EACH_KIND = """() => {
  const seen = new Set();
  for (const word of document.querySelectorAll("pre span")) {
    if (seen.has(word.className)) word.replaceWith(...word.childNodes);
    seen.add(word.className);
  }
  [...document.querySelectorAll("math")].slice(3).forEach(formula => formula.remove());
  document.querySelectorAll(".table-box tbody tr:nth-child(n + 2)").forEach(row => row.remove());
  const style = document.createElement("style");
  style.textContent = "* { transition: none !important }";  // no colour is caught on its way to another
  document.head.append(style);
}"""
MOST_BYTES = {"index": 1_500_000, "page": 3_000_000}
DEAD = "run the chapter to move them"
# Of a figure: every number that it draws, and all that stands beside it.
DRAWN = "plot => JSON.stringify([plot.data, plot.layout?.shapes, plot.layout?.annotations, plot.layout?.title])"
SHOWN = """panel => {
  const at = [...panel.querySelectorAll("input")].filter(each => each.type === "range" || each.checked);
  return panel.dataset.shown === at.map(each => each.value).join();
}"""
BACKGROUND = "() => getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def site(chromium, tmp_path_factory):
    """The folder of the site, as `make site` builds it."""
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run([sys.executable, "-m", "notebooks.site.build", str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def pages(site):
    """file -> what stands in it, for every page that a reader can open."""
    files = sorted(file for file in site.rglob("*.html") if "_static" not in file.parts)
    return {file: BeautifulSoup(file.read_text(encoding="utf-8"), "html.parser") for file in files}


@pytest.fixture
def asked(page):
    """Every address that the page asks for; nothing but the disk is there to answer."""
    addresses = []
    page.context.set_offline(True)
    page.on("request", lambda request: addresses.append(request.url))
    return addresses


def outside(addresses):
    return [address for address in addresses if not re.match(r"file:|data:|blob:|about:", address)]


def test_next_leads_through_every_chapter_and_previous_back(site, page, asked):
    page.goto((site / "index.html").as_uri())
    names = [file.stem for file in chapters()]
    for name in names:
        page.get_by_role("link", name=re.compile("next", re.IGNORECASE)).last.click()
        page.wait_for_url(f"**/{name}.html")
        assert page.locator("h1").first.inner_text().startswith(str(int(name[:2])))
        assert page.evaluate(UNSEEN) == []
    page.get_by_role("link", name=re.compile("previous", re.IGNORECASE)).last.click()
    page.wait_for_url(f"**/{names[-2]}.html")
    page.get_by_role("link", name=re.compile("^2 · ")).first.click()
    page.wait_for_url(f"**/{names[1]}.html")
    assert outside(asked) == []


def test_a_search_without_a_server_finds_the_chapter(site, page, asked):
    page.goto((site / "index.html").as_uri())
    page.keyboard.press("Control+k")
    page.get_by_role("searchbox").or_(page.locator("input[type=search]:visible")).first.fill("interpolation")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=interpolation*")
    page.wait_for_selector("#search-results li a")
    page.wait_for_function("() => !document.querySelector('#search-progress')?.innerText.includes('…')")
    found = [link.get_attribute("href").partition("?")[0] for link in page.locator("#search-results li a").all()]
    assert "06_attack_2.html" in [Path(each.partition("#")[0]).name for each in found]
    page.locator("#search-results li a[href*='06_attack_2']").first.click()
    page.wait_for_url("**/06_attack_2.html*")
    assert outside(asked) == []


def test_dark_is_a_switch_and_stays(site, page, asked):
    page.goto((site / "02_proof_creation.html").as_uri())
    light = page.evaluate(BACKGROUND)
    page.get_by_role("button", name="Color mode").click()
    page.get_by_role("button", name="Dark").click()
    dark = page.evaluate(BACKGROUND)
    assert (light, page.locator("html").get_attribute("data-theme")) == ("rgb(255, 255, 255)", "dark")
    assert max(map(int, re.findall(r"\d+", dark)[:3])) < 60
    page.goto((site / "03_verification.html").as_uri())
    assert page.evaluate(BACKGROUND) == dark
    assert outside(asked) == []


def test_on_a_phone_no_page_is_wider_than_the_screen_and_wide_tables_scroll(site, pages, page):
    page.set_viewport_size(PHONE)
    scrolled = 0
    for file in pages:
        page.goto(file.as_uri())
        assert page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"], file.name
        page.evaluate("() => window.scrollBy(500, 0)")
        assert page.evaluate("() => window.scrollX") == 0, file.name
        page.wait_for_function(MARKED)
        for box in page.locator(".table-box, .pst-scrollable-table-container").all():
            reached, hidden = box.evaluate(TO_THE_END)
            assert abs(reached - hidden) <= 1, file.name
            scrolled += reached > 0
    assert scrolled > 10


def serious(page, **options):
    """What axe-core, which the page has loaded, calls serious or critical: rule, how often, where."""
    found = page.evaluate("options => axe.run(options)", {"resultTypes": ["violations"], "preload": False} | options)
    barriers = [each for each in found["violations"] if each["impact"] in ("serious", "critical")]
    return [(each["id"], len(each["nodes"]), each["nodes"][0]["target"]) for each in barriers]


def test_no_page_has_a_serious_barrier(browser, pages):
    """axe-core on every page, in light and in dark, with everything opened that can be folded.

    Contrast takes most of its time: it is asked once for each kind of word in a page's code, of three formulas
    and of one row of a table. The other rules, which no colour changes, see the whole page.
    """
    context = browser.new_context(viewport={"width": 1300, "height": 1000}, offline=True)
    page, found = context.new_page(), []
    for file in pages:
        page.goto(file.as_uri())
        page.evaluate("() => document.querySelectorAll('details').forEach(each => { each.open = true })")
        page.evaluate(AXE_SCRIPT)
        found += [(file.name, *each) for each in serious(page, rules={"color-contrast": {"enabled": False}})]
        page.evaluate(ONE_OF_EACH_KIND)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_function("wanted => document.documentElement.dataset.theme === wanted", arg=scheme)
            found += [(file.name, scheme, *each) for each in serious(page, runOnly=["color-contrast"])]
    context.close()
    assert found == []


def test_a_barrier_would_be_seen(page):
    page.set_content("<main><img src='x'><p style='color: #bbb; background: #fff'>pale</p></main>")
    page.evaluate(AXE_SCRIPT)
    assert {"image-alt", "color-contrast", "html-has-lang"} <= {rule for rule, *_ in serious(page)}


def read(words):
    """As a page shows it, where an index stands below its letter."""
    return SYMBOL.sub(r"\1\2", words)


def test_every_picture_says_what_the_sentence_below_it_says(pages):
    described = 0
    for file, page in pages.items():
        for panel in page.select(".polkit-panel"):
            assert read(panel.select_one("img")["alt"]) == panel.select_one(".polkit-says").get_text(), file.name
        for picture in page.select("article img:not(.polkit-plot img)"):
            assert f"{IN_WORDS}{read(picture['alt'])}" == picture.find_next("em").get_text(), file.name
            assert len(picture["alt"]) > 60
            described += 1
    assert described >= len(chapters())


def test_each_page_is_light_and_none_has_the_words_for_a_panel_that_cannot_move(site, pages):
    assert (site / "index.html").stat().st_size < MOST_BYTES["index"]
    for file, page in pages.items():
        assert file.stat().st_size < MOST_BYTES["page"], file.name
        assert DEAD not in page.get_text(), file.name
    assert sum(len(page.select(".polkit-panel")) for page in pages.values()) >= 18


def test_the_front_page_shows_a_panel_before_three_sentences_are_over(pages):
    (front,) = [page for file, page in pages.items() if file.name == "index.html"]
    before = [
        each.get_text()
        for each in front.select_one(".polkit-panel").find_all_previous("p")
        if each.parent.name == "section"
    ]
    assert 0 < sum(len(re.findall(r"[.!?](\s|$)", text)) for text in before) <= 3


WATCHED = """panel => {
  window.took = new Promise((done, late) => {
    let begun;
    panel.addEventListener("input", () => { begun ??= performance.now(); }, {capture: true, once: true});
    new MutationObserver((_, watch) => { watch.disconnect(); done(performance.now() - begun); })
      .observe(panel, {attributeFilter: ["data-shown"]});
    setTimeout(late, 10000, "no other figure after ten seconds");
  });
}"""


def answered(panel, act):
    """Moves something, and says in how many milliseconds the page showed another figure."""
    panel.evaluate(WATCHED)
    act()
    return panel.evaluate("() => window.took")


def by_keyboard(page, panel, control):
    last = control.get_attribute("max") == control.input_value()
    control.focus()
    return answered(panel, lambda: control.press("ArrowLeft" if last else "ArrowRight"))


def by_mouse(page, panel, control):
    """A click at the end of the slider that it is farther from."""
    box, most = control.bounding_box(), float(control.get_attribute("max"))
    at = 4 if float(control.input_value()) > most / 2 else box["width"] - 4
    return answered(panel, lambda: control.click(position={"x": at, "y": box["height"] / 2}))


def state(panel):
    """What a reader sees of a panel: its figure, its sentence."""
    plot, title = panel.locator(".polkit-plot"), panel.locator(".polkit-title").inner_text()
    return (title, plot.evaluate(DRAWN)), panel.locator(".polkit-says").inner_text()


def test_every_slider_of_every_panel_moves_by_keyboard_and_by_mouse(site, pages, page, asked):
    moved, slow, stuck = 0, [], []
    for file, content in pages.items():
        if not content.select(".polkit-panel"):
            continue
        page.goto(file.as_uri())
        for panel in page.locator(".polkit-panel").all():
            panel.scroll_into_view_if_needed()
            name = f"{file.name} {panel.get_attribute('id')}"
            for control in panel.locator("input[type=range]").all():
                seen = []
                for move in (by_keyboard, by_mouse):
                    panel.get_by_role("button", name="Reset").click()
                    page.wait_for_function(SHOWN, arg=panel.element_handle())
                    before = state(panel)
                    slow.append(move(page, panel, control))
                    seen.append(state(panel) != before)
                for end in ("Home", "End"):  # from one to the other the figure changes, and the sentence, too
                    control.press(end)
                    page.wait_for_function(SHOWN, arg=panel.element_handle())
                    seen.append(state(panel))
                seen[2:] = [first != last for first, last in zip(*seen[2:], strict=True)]
                stuck += [(name, control.get_attribute("id"), seen)] if not all(seen) else []
                moved += 1
            for group in panel.locator("fieldset").all():
                panel.get_by_role("button", name="Reset").click()
                page.wait_for_function(SHOWN, arg=panel.element_handle())
                before, chosen = state(panel), group.locator("input:not(:checked)").first
                chosen.focus()
                chosen.press("Space")
                page.wait_for_function(SHOWN, arg=panel.element_handle())
                stuck += [(name, group.inner_text())] if state(panel) == before else []
                moved += 1
    assert stuck == []
    assert moved >= 40
    print(f"{moved} controls; the page answered in {sorted(slow)[len(slow) // 2]:.0f} ms (median)")
    assert outside(asked) == []


def test_a_prediction_is_kept_and_said_beside_its_panel(site, page, asked):
    page.goto((site / "01_primer.html").as_uri())
    guess, panel = page.locator(".polkit-prediction").first, page.locator(".polkit-panel").first
    guess.locator("input").fill("12")
    guess.get_by_role("button", name="Keep").click()
    assert guess.locator(".polkit-kept").inner_text().startswith("kept: 12 ")
    page.wait_for_function(SHOWN, arg=panel.element_handle())
    assert "Your prediction: 12 " in panel.locator(".polkit-says").inner_text()
    assert outside(asked) == []


def test_every_link_inside_leads_to_a_page_and_a_place(site, pages):
    places = {file: {tag["id"] for tag in page.find_all(id=True)} for file, page in pages.items()}
    broken = []
    for file, page in pages.items():
        for link in page.find_all("a", href=True):
            address, _, place = link["href"].partition("#")
            if re.match(r"[a-z]+:", address):
                continue
            target = (file.parent / urllib.parse.unquote(address)).resolve() if address else file
            known = not place or target not in places or urllib.parse.unquote(place) in places[target]
            if not target.is_file() or not known:
                broken.append((file.name, link["href"]))
    assert broken == []


def test_references_lead_to_their_publishers(pages):
    (references,) = [page for file, page in pages.items() if file.name == "references.html"]
    addresses = [link["href"] for link in references.select("article a[href^='http']")]
    assert "https://doi.org/10.1109/SP46214.2022.9833596" in addresses


def test_the_guide_comes_first_and_notebooks_can_be_taken_along(site, pages):
    by_name = {file.name: page for file, page in pages.items()}
    assert by_name["index.html"].h1.get_text().startswith("Start here")
    assert not (site / GUIDE).exists()
    for file in chapters():
        (download,) = {link["href"] for link in by_name[f"{file.stem}.html"].select("a[href$='.ipynb']")}
        assert (site / download).read_bytes() == file.read_bytes()


def test_screenshots_for_whoever_wants_to_look(site, browser):
    PICTURES.mkdir(parents=True, exist_ok=True)
    looks = {
        "light": ("light", {"width": 1300, "height": 1000}),
        "dark": ("dark", {"width": 1300, "height": 1000}),
        "phone": ("light", PHONE),
    }
    for look, (scheme, size) in looks.items():
        context = browser.new_context(color_scheme=scheme, viewport=size, offline=True)
        page = context.new_page()
        for name in ("index", "06_attack_2", "references"):
            page.goto((site / f"{name}.html").as_uri())
            picture = PICTURES / f"site-{name}-{look}.png"
            page.screenshot(path=picture)
            assert picture.stat().st_size > 20_000
        context.close()
