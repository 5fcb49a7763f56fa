"""The book's part in Sphinx: formulas, pages as they leave for disk, and the site's own style."""

from sphinx.application import Sphinx

from notebooks.site.formulas import write_block, write_inline
from notebooks.site.pages import dressed


def dress_page(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: object) -> None:
    if "body" in context:
        context["body"] = dressed(context["body"])


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (write_inline, None), (write_block, None))
    app.connect("html-page-context", dress_page)
    app.add_css_file("site.css")
    app.add_js_file("panel.js")
    app.add_js_file("site.js", priority=400)  # before Sphinx's search reads its options
    return {"parallel_read_safe": True, "parallel_write_safe": True}
