"""A JupyterLab for the files that need one, on a copy of the chapters, and a Chromium to drive it."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from serving import free_port, serving

from notebooks.site.store import find_browser

REPOSITORY = Path(__file__).resolve().parents[2]
TOKEN = "polkit"
SETTINGS = {  # every cell stays in the page, and nobody asks for news
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


@pytest.fixture(scope="module")
def chromium():
    found = find_browser()
    if not found:
        pytest.skip("no Chromium is installed: the panels are not tried in a browser")
    return found


@pytest.fixture(scope="module")
def lab(chromium, tmp_path_factory):
    """The address of a running JupyterLab whose root is a copy of `notebooks/`, at $POLKIT_LAB_ROOT."""
    place = tmp_path_factory.mktemp("lab")
    root = shutil.copytree(REPOSITORY / "notebooks", place / "notebooks")
    os.environ["POLKIT_LAB_ROOT"] = str(root)
    for name, values in SETTINGS.items():
        file = place / "settings" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        f"--port={port}",
        "--ip=127.0.0.1",
        f"--IdentityProvider.token={TOKEN}",
        f"--ServerApp.root_dir={root}",
        "--LabApp.expose_app_in_browser=True",
        f"--LabApp.user_settings_dir={place / 'settings'}",
        f"--LabApp.workspaces_dir={place / 'workspaces'}",
    ]
    own = {name: str(place / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    with serving(command, os.environ | own, place / "lab.log", f"http://127.0.0.1:{port}", f"/api?token={TOKEN}") as at:
        yield at


@pytest.fixture(scope="module")
def browser(chromium):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def page(browser):
    opened = browser.new_page(viewport={"width": 1300, "height": 1000})
    yield opened
    opened.close()
