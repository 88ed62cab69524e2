"""Make the pictures of the documentation again: ``docs/images/*.png``.

The pages are rendered from made-up values, so the pictures do not depend on a running hub.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "browser"), str(ROOT / "tests" / "unit" / "pages")]

from test_pages_static import ARGUMENTS, CHROMIUM, ORIGIN, PAGES, serve  # noqa: E402

TARGET = ROOT / "docs" / "images"
SHOTS = (
    ("launch", "/launch", 1280, "light"),
    ("launch-dark", "/launch", 1280, "dark"),
    ("launch-phone", "/launch", 375, "light"),
    ("launch-lost-race", "/launch-refused", 1280, "light"),
    ("starting", "/pending", 1280, "light"),
    ("home", "/home", 1280, "light"),
    ("home-phone-dark", "/home", 375, "dark"),
    ("ended", "/ended", 1280, "light"),
)
EVENTS = "".join(
    f'data: {{"progress": {p}, "message": "{m}", "step": "{s}", "finished": true}}\n\n'
    for p, m, s in (
        (5, "Limits and options checked", "checks"),
        (15, "Project thesis ready at /workspace", "workspace"),
        (25, "Environment PyTorch 2.6 is here", "image"),
        (45, "Reserved 1g.10gb on GPU 1", "device"),
    )
)


def shoot(page: Page, name: str) -> None:
    """Save a picture of the whole page, the button at its foot in its place."""
    page.add_style_tag(content=".ds01-go { position: static !important; }")
    page.wait_for_timeout(400)
    page.screenshot(path=TARGET / f"{name}.png", full_page=True)
    print(TARGET / f"{name}.png")


def main() -> None:
    """All pictures."""
    TARGET.mkdir(parents=True, exist_ok=True)
    chromium = os.environ.get("DS01_CHROMIUM", CHROMIUM)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        for name, path, width, theme in SHOTS:
            context = browser.new_context(
                viewport={"width": width, "height": 720},
                color_scheme=theme,
                locale="en-GB",
                timezone_id="UTC",
            )
            page = context.new_page()
            serve(page, PAGES)
            page.route(
                "**/hub/api/progress", lambda r: r.fulfill(body=EVENTS, content_type="text/event-stream")
            )
            page.goto(ORIGIN + path)
            shoot(page, name)
            context.close()
        browser.close()


if __name__ == "__main__":
    main()
