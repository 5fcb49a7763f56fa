"""`python -m notebooks.site.build [FOLDER [REPOSITORY]]`: builds the site; the exit status is 1 if Sphinx warns.

With the address of a public repository of this book, each page has buttons that open its notebook on Binder and Colab.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from plotly.offline import get_plotlyjs
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

from notebooks.site.online import buttons, put_online
from notebooks.site.sources import BIBLIOGRAPHY, lay_out, page_of
from polkit.book.chapters import GUIDE, appendices, chapters
from polkit.experiments.published import find_notebooks

SETTINGS = {
    "project": "polkit",
    "html_use_index": False,
    "html_title": "Proof of learning, and how to spoof it",
    "language": "en",
    "extensions": ["myst_nb", "sphinxcontrib.bibtex", "notebooks.site.extension"],
    "smartquotes": False,  # T' is one symbol, in a sentence as in a figure
    "nb_execution_mode": "off",
    "nb_merge_streams": True,  # what one cell prints is one box
    "suppress_warnings": ["mystnb.unknown_mime_type"],  # an output's other forms, for a kernel or for `polkit book`
    "myst_enable_extensions": ["dollarmath"],
    "bibtex_bibfiles": [BIBLIOGRAPHY.name],
    "bibtex_default_style": "plain",
    "html_math_renderer": "mathml",
    "html_theme": "sphinx_book_theme",
    "html_static_path": [str(Path(__file__).with_name("static"))],
    "html_permalinks_icon": "#",
    "html_show_copyright": False,
    "html_show_sphinx": False,
    "html_sourcelink_suffix": "",
    "html_context": {"default_mode": "auto"},
    "html_theme_options": {
        "navbar_persistent": [],
        "home_page_in_toc": True,
        "show_toc_level": 2,
        "search_bar_text": "Search the book",
        "toc_title": "On this page",
        "footer_content_items": [],
        "use_fullscreen_button": False,
    },
}


def build(out: Path, repository: str = "") -> int:
    """Writes the site to `out`, in place of one that is there; Sphinx's status, which counts a warning as an error.

    Raises FileExistsError for a folder that holds something else.
    """
    if out.exists() and any(out.iterdir()) and not (out / "searchindex.js").exists():
        raise FileExistsError(f"{out} is not empty and holds no site: name another folder")
    options = SETTINGS["html_theme_options"] | (buttons(repository) if repository else {})
    with tempfile.TemporaryDirectory() as folder:
        sources, site = Path(folder, "sources"), Path(folder, "site")
        sources.mkdir()
        lay_out(sources)
        with patch_docutils(), docutils_namespace():
            app = Sphinx(
                sources,
                None,
                site,
                Path(folder, "doctrees"),
                "html",
                confoverrides=SETTINGS | {"html_theme_options": options},
                status=None,
                warning=sys.stderr,
                freshenv=True,
                warningiserror=True,
            )
            app.build()
        if app.statuscode:
            return app.statuscode
        (site / "_static/plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8")
        front = site / "index.html"  # whose notebook has another name
        front.write_text(
            front.read_text(encoding="utf-8").replace("notebooks/index.ipynb", f"notebooks/{GUIDE}"), "utf-8"
        )
        for file in chapters() + appendices():  # what a reader takes along is the notebook itself
            shutil.copy(file, site / f"_sources/{page_of(file)}.ipynb")
        shutil.copy(find_notebooks() / GUIDE, site / "_sources/index.ipynb")
        if out.exists():
            shutil.rmtree(out)
        shutil.copytree(site, out, ignore=shutil.ignore_patterns(".*"))
    if repository:
        put_online(out, repository)
    return 0


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "build/site")
    try:
        status = build(target, *sys.argv[2:3])
    except (ValueError, OSError) as error:
        sys.exit(f"polkit: {error}")
    print(f"open {target / 'index.html'}" if not status else f"{target} was not built")
    sys.exit(status)
