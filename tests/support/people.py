"""What a person does in a browser: log in, choose, start, work in JupyterLab, retire."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Error, Locator, Page, Request, expect

from .running_hub import PASSWORD, RunningHub

AXE = Path(__file__).resolve().parents[1] / "vendor" / "axe.min.js"
AXE_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PATIENCE_MS = 45_000
"""For what waits for a container or for JupyterLab on a busy machine."""
CUT_OFF = "ERR_NETWORK_CHANGED"
"""Chromium gives up whatever it just loads when the network device of a new container gets its address, a
second or two after that has started: JupyterLab is in the middle of loading then."""
expect.set_options(timeout=PATIENCE_MS)


class Visitor:
    """A person with a browser context of their own. ``clicks`` counts the clicks made through `click`."""

    def __init__(self, browser: Browser, hub: RunningHub, user: str, **context: Any) -> None:
        self.hub, self.user, self.clicks = hub, user, 0
        options = {"viewport": {"width": 1280, "height": 900}, "locale": "en-GB", **context}
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(PATIENCE_MS)
        self.page: Page = self.context.new_page()
        self._errors: list[str] = []
        self.page.on("pageerror", lambda error: self._errors.append(str(error)))
        self.page.on("dialog", lambda dialog: self._errors.append(f"a dialog said {dialog.message}"))
        self._cut_off: list[str] = []
        self.page.on("requestfailed", self._failed)

    def _failed(self, request: Request) -> None:
        if request.failure and CUT_OFF in request.failure:
            self._cut_off.append(request.url)

    @property
    def errors(self) -> list[str]:
        """What went wrong in the page's scripts, but for what names a request that was cut off."""
        return [error for error in self._errors if not any(url in error for url in self._cut_off)]

    def log_in(self) -> Visitor:
        """Log in and be on the page that follows."""
        self.go("hub/login")
        self.page.fill("#username_input", self.user)
        self.page.fill("#password_input", PASSWORD)
        self.page.click("#login_submit")
        self.page.wait_for_url(re.compile(r"^(?!.*/login)"))
        return self

    def leave(self, picture: Path | None) -> None:
        """Close the browser; what was last seen is kept as a picture where one is wanted."""
        if picture is not None:
            with suppress(Error):  # a page that is just going away has no picture
                self.page.screenshot(path=picture)
        self.context.close()

    def go(self, path: str) -> Page:
        """Open a path below the hub's prefix."""
        try:
            self.page.goto(f"{self.hub.url}{path}")
        except Error as error:
            if CUT_OFF not in str(error):
                raise
            self.page.goto(f"{self.hub.url}{path}")
        return self.page

    def click(self, what: str | Locator) -> None:
        """One click, counted."""
        self.clicks += 1
        (self.page.locator(what) if isinstance(what, str) else what).click()

    # --- launch -----------------------------------------------------------------------------------

    @property
    def start_button(self) -> Locator:
        """The button at the foot of the launch page."""
        return self.page.get_by_role("button", name="Start session")

    def choose(self, project: str = "", gpu: str = "", environment: str = "") -> None:
        """Make choices on the launch page; a project is typed as a new one."""
        if project:
            self.page.fill("#ds01-project-new", project)
        if gpu:
            # By keyboard: a choice that is refused now can still be made, but Playwright clicks none.
            self.page.locator(f'input[name="gpu"][value="{gpu}"]').focus()
            self.page.keyboard.press("Space")
        if environment:
            self.page.check(f'input[name="environment"][value="{environment}"]')

    def chosen(self) -> dict[str, str]:
        """What the launch page's form would send, but for its token."""
        expect(self.start_button).to_be_visible()
        script = "() => Object.fromEntries(new FormData(document.querySelector('#spawn_form')))"
        return {k: v for k, v in self.page.evaluate(script).items() if v and k != "_xsrf"}

    def in_lab(self, server: str = "") -> None:
        """Wait until JupyterLab is there to work in."""
        try:
            self.page.wait_for_url(f"**/user/{self.user}/{server + '/' if server else ''}lab**")
        except Error as error:
            if CUT_OFF not in str(error):
                raise
            self.go(f"user/{self.user}/{server}")
        card = self.page.locator(".jp-LauncherCard[data-category='Console']").first
        with suppress(AssertionError):
            expect(card).to_be_visible(timeout=PATIENCE_MS / 3)
            return
        # JupyterLab asks for what it begins with once. Without an answer it stays half empty.
        if self._cut_off:
            self.page.reload()
        expect(card).to_be_visible(timeout=PATIENCE_MS)

    # --- JupyterLab -------------------------------------------------------------------------------

    def open_console(self) -> None:
        """Open a Python console from JupyterLab's launcher (one click), and wait for its kernel."""
        self.click(self.page.locator(".jp-LauncherCard[data-category='Console']").filter(has_text="Python 3"))
        expect(self.page.locator("#jp-main-statusbar")).to_contain_text("| Idle")

    def run_cell(self, code: str, answer: str) -> None:
        """Type code at the console's prompt, run it, and wait for what it prints."""
        prompt = self.page.locator(".jp-CodeConsole-promptCell .cm-content")
        prompt.focus()
        self.page.keyboard.insert_text(code)
        expect(prompt).to_contain_text(code[:20])
        self.page.keyboard.press("Shift+Enter")
        printed = self.page.locator(".jp-OutputArea-output").filter(has_text=answer)
        expect(printed.first).to_be_visible()

    # --- looking ----------------------------------------------------------------------------------

    def serious(self) -> list[tuple[str, str, list[str]]]:
        """What axe-core finds wrong with the page that is shown, if it is serious."""
        self.page.evaluate(AXE.read_text())
        found = self.page.evaluate("rules => axe.run(document, {runOnly: rules})", AXE_RULES)["violations"]
        return [
            (v["impact"], v["id"], [n["html"][:200] for n in v["nodes"]])
            for v in found
            if v["impact"] in ("serious", "critical")
        ]

    def scrolls_sideways(self) -> bool:
        """Whether the page is wider than the screen."""
        wider: bool = self.page.evaluate("document.documentElement.scrollWidth > innerWidth")
        return wider
