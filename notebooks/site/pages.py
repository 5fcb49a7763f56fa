"""What a page needs beyond Sphinx's own: the words of its pictures, and tables that can be read aloud."""

import re
from html import escape

from bs4 import BeautifulSoup, Tag

SYMBOL = re.compile(r"\b(W|d|ε)_(0|T|t\+k|t|ref|repr)\b")
NUMBER = re.compile(r"\s*[-+]?[\d.,]+(e[-+]?\d+)?\s*%?\s*")
IN_WORDS = "In words: "


def dressed(html: str) -> str:
    """A page's body: pictures with their sentences, tables in boxes that scroll."""
    page = BeautifulSoup(html, "html.parser")
    describe_pictures(page)
    for choices in page.find_all("ul"):
        if choices.get_text(strip=True).startswith("(a)"):
            choices["class"] = [*choices.get("class", []), "choices"]
    for table in page.find_all("table"):
        if not table.find_parent(class_="pst-scrollable-table-container"):  # around tables of prose the theme has one
            table["class"] = [*table.get("class", []), "dataframe"]  # known to the theme, light and dark
            box_table(page, table)
        join_heads(table)
        head_cells(table)
        for cell in table.find_all("td", string=NUMBER.fullmatch):
            cell["class"] = [*cell.get("class", []), "number"]
    for place in page.select("table, .cell_output em, .cell_output p, .polkit-prediction"):
        for text in place.find_all(string=SYMBOL.search):
            text.replace_with(BeautifulSoup(SYMBOL.sub(r"\1<sub>\2</sub>", escape(text)), "html.parser"))
    return str(page)


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
    if len(rows) != 2:
        return
    upper, lower = (row.find_all(["th", "td"]) for row in rows)
    pairs = list(zip(upper, lower, strict=False))
    if len(upper) == len(lower) and not any(a.get_text(strip=True) and b.get_text(strip=True) for a, b in pairs[1:]):
        for above, below in pairs:  # of the index in the first column, its own name says more than that of the columns
            if name := below.get_text(strip=True):
                above.string = name
        rows[1].decompose()


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
