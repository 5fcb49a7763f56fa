"""What a page needs beyond Sphinx's own: the words of its pictures, and tables that can be read aloud."""

import re
from html import escape

from bs4 import BeautifulSoup, NavigableString, Tag

SYMBOL = re.compile(r"\b(W|d|ε)_(0|T|t\+k|t|ref|repr)\b")
NUMBER = re.compile(r"\s*[-+−]?[\d.,]+(e[-+]?\d+)?( ± [\d.]+)?\s*%?\s*")
LONG = 60  # letters of a cell that needs room on a phone
IN_WORDS = "In words: "


def dressed(html: str) -> str:
    """A page's body: pictures with their sentences, tables in boxes that scroll."""
    page = BeautifulSoup(html, "html.parser")
    describe_pictures(page)
    glue_marks(page)
    for choices in page.find_all("ul"):
        if choices.get_text(strip=True).startswith("(a)"):
            add_class(choices, "choices")
    for table in page.find_all("table"):
        if not table.find_parent(class_="pst-scrollable-table-container"):  # around tables of prose the theme has one
            add_class(table, "dataframe")  # known to the theme, light and dark
            box_table(page, table)
        join_heads(table)
        head_cells(table)
        mark_cells(table)
    for place in page.select("table, .cell_output em, .cell_output p, .polkit-prediction"):
        for text in place.find_all(string=SYMBOL.search):
            text.replace_with(BeautifulSoup(SYMBOL.sub(r"\1<sub>\2</sub>", escape(text)), "html.parser"))
    return str(page)


def glue_marks(page: BeautifulSoup) -> None:
    """Keeps a short formula on one line with the bracket before it and the marks behind it."""
    for formula in page.select("math:not(.formula math)"):
        before, behind = formula.previous_sibling, formula.next_sibling
        opened = re.search(r"[(\[]$", before) if isinstance(before, NavigableString) else None
        closed = re.match(r"[.,;:!?)\]]+", behind) if isinstance(behind, NavigableString) else None
        if len(formula.get_text()) > 24 or not (opened or closed):
            continue
        span = formula.wrap(page.new_tag("span", attrs={"class": "glued"}))
        if opened:
            before.replace_with(before[: opened.start()])
            span.insert(0, opened[0])
        if closed:
            behind.replace_with(behind[closed.end() :])
            span.append(closed[0])


def mark_cells(table: Tag) -> None:
    """Says which cells are numbers, which need room on a phone, and which columns are numbers from top to bottom."""
    rows = [row.find_all(["th", "td"]) for row in table.select("tbody > tr")]
    for cell in (cell for row in rows for cell in row):
        if NUMBER.fullmatch(cell.get_text()):
            add_class(cell, "number")
        elif len(cell.get_text()) > LONG:
            add_class(cell, "long")
    head = [row.find_all(["th", "td"]) for row in table.select("thead > tr")][-1:]
    for column in zip(*(reversed(row) for row in head + rows), strict=False):  # from the right: heads may span rows
        values = [cell.get_text(strip=True) for cell in column[len(head) :]]
        if any(map(NUMBER.fullmatch, values)) and all(NUMBER.fullmatch(value) or value in "–" for value in values):
            for cell in column:
                add_class(cell, "figures")


def add_class(tag: Tag, name: str) -> None:
    tag["class"] = [*tag.get("class", []), name]


def describe_pictures(page: BeautifulSoup) -> None:
    """Gives each figure's picture the sentence below it as its text. Raises ValueError for one without."""
    for picture in page.select(".cell_output img:not(.polkit-plot img)"):  # a panel's has its own
        below = picture.find_next("em")
        if below is None or not below.get_text().startswith(IN_WORDS):
            raise ValueError(f"the picture {picture['src']} has no sentence that begins with {IN_WORDS!r} below it")
        picture["alt"] = below.get_text().removeprefix(IN_WORDS)
        picture.wrap(page.new_tag("a", href=picture["src"], title="the picture alone"))  # a phone can enlarge that


def join_heads(table: Tag) -> None:
    """Moves the names of an index up to those of the columns, where pandas gives them a row of their own."""
    rows = table.select("thead > tr")
    if rows and not table.thead.get_text(strip=True):
        table.thead.decompose()
    if len(rows) < 2:
        return
    upper, lower = (row.find_all(["th", "td"]) for row in rows[-2:])
    pairs = list(zip(upper, lower, strict=False))
    if len(upper) == len(lower) and not any(a.get_text(strip=True) and b.get_text(strip=True) for a, b in pairs[1:]):
        for above, below in pairs:
            columns, name = above.get_text(strip=True), below.get_text(strip=True)
            if name and columns and not table.caption:  # the first column has both names
                caption = BeautifulSoup("<caption></caption>", "html.parser").caption
                caption.string = f"in the columns: {columns}"
                table.insert(0, caption)
            if name:
                above.string = name
        rows[-1].decompose()


def head_cells(table: Tag) -> None:
    """Says of each head cell whether it heads a column or a row; an empty one is no head."""
    del table["border"]
    for cell in table.find_all("th"):
        if not cell.get_text(strip=True):
            cell.name = "td"
        elif not cell.get("scope"):
            cell["scope"] = "col" if cell.find_parent("thead") else "row"


def box_table(page: BeautifulSoup, table: Tag) -> None:
    """Puts a table into a box that scrolls by itself, named after the heading above it."""
    heading = table.find_previous(["h1", "h2", "h3"])
    title = heading.find(string=True, recursive=False) if heading else None
    box = page.new_tag("div", role="group", tabindex="0", attrs={"class": "table-box"})
    box["aria-label"] = f"table: {title}" if title else "table"
    table.wrap(box)
