"""`python -m tests.browser.film SITE`: films the front page's panel for the README, into data/panel.webp.

SITE: folder of the built site (`make site`)
"""

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from notebooks.site.store import find_browser

WIDTH = 1200  # pixels
FILM = Path(__file__).resolve().parents[2] / "data" / "panel.webp"
SHOWN = "panel => panel.dataset.shown?.split(',').at(-1) === panel.querySelectorAll('input')[2].value"


def pictures(site: Path) -> list[Image.Image]:
    """The panel, while T'/k goes from few pieces to many."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 1000}, device_scale_factor=1.5)
        page.goto((site / "index.html").resolve().as_uri())
        panel = page.locator(".polkit-panel").first
        pieces, taken = panel.locator("input").nth(2), []
        for value in range(int(pieces.get_attribute("max")) + 1):
            pieces.fill(str(value))
            page.wait_for_function(SHOWN, arg=panel.element_handle())
            taken.append(Image.open(io.BytesIO(panel.screenshot())).convert("RGB"))
        browser.close()
    height = max(picture.height for picture in taken)
    sheets = [Image.new("RGB", (taken[0].width, height), "white") for _ in taken]
    for sheet, picture in zip(sheets, taken, strict=True):
        sheet.paste(picture)
    return [sheet.resize((WIDTH, round(height * WIDTH / sheet.width))) for sheet in sheets]


if __name__ == "__main__":
    first, *others = pictures(Path(sys.argv[1]))
    shown = {"duration": [900] * len(others) + [2500], "loop": 0, "lossless": True, "method": 6}
    first.save(FILM, save_all=True, append_images=others, **shown)
    print(f"{FILM}: {FILM.stat().st_size / 1000:.0f} kB")
