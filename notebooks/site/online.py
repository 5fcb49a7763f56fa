"""The site's buttons that open a page's notebook where there is nothing to install: on Binder and on Colab."""

from pathlib import Path

import nbformat

from polkit.book.chapters import GUIDE

# Binder opens a checkout, and reads its environment.yml. Colab opens one notebook of the branch with the pages, where
# the site keeps each notebook as a reader takes it along.
BINDER, COLAB = "https://mybinder.org", "https://colab.research.google.com"
CHECKOUT, PAGES = "/blob/HEAD/notebooks/", "/blob/gh-pages/_sources/"
INSTALL = """# Where polkit is missing, as on Colab, this cell fetches the book and installs it without extras. That
# takes minutes where PyTorch is missing too; then it installs the one for CPUs.
import importlib.util

if importlib.util.find_spec("polkit") is None:
    if importlib.util.find_spec("torch") is None:
        %pip install --quiet torch torchvision --index-url https://download.pytorch.org/whl/cpu
    !git clone --quiet --depth 1 {repository} polkit
    %cd -q polkit
    %pip install --quiet --editable ."""


def buttons(repository: str) -> dict[str, object]:
    """The theme's options for a button on each page, or for two if the repository is on GitHub, which Colab reads.

    Raises ValueError for an address that no service can open.
    """
    if not repository.startswith("https://"):
        raise ValueError(f"the repository {repository!r} must be a public address that begins with https://")
    services = {"binderhub_url": BINDER, "notebook_interface": "jupyterlab"}
    if repository.startswith("https://github.com/"):
        services["colab_url"] = COLAB
    place = {"repository_url": repository, "repository_branch": "HEAD", "path_to_docs": "notebooks"}
    return place | {"launch_buttons": services}


def put_online(site: Path, repository: str) -> None:
    """Makes a site ready for the branch gh-pages: its notebooks begin with a cell that installs the book."""
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        text = text.replace(CHECKOUT + GUIDE, PAGES + "index.ipynb").replace(CHECKOUT, PAGES)
        page.write_text(text, encoding="utf-8")
    for file in (site / "_sources").rglob("*.ipynb"):
        notebook = nbformat.read(file, as_version=4)
        notebook.cells.insert(0, nbformat.v4.new_code_cell(INSTALL.format(repository=repository), id="install"))
        nbformat.write(notebook, file)
    (site / ".nojekyll").touch()  # else GitHub leaves folders out that begin with _
