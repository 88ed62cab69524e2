"""Using a hub as a browser without JavaScript does."""

from __future__ import annotations

import httpx
from bs4 import BeautifulSoup

from .running_hub import PASSWORD


def log_in(browser: httpx.Client, user: str) -> None:
    """Log in by the form; ``browser`` has the hub's address as its base and follows redirects."""
    page = browser.get("hub/login")
    form = BeautifulSoup(page.text, "html.parser").find("input", {"name": "_xsrf"})
    assert form is not None
    answer = browser.post("hub/login", data={"_xsrf": form["value"], "username": user, "password": PASSWORD})
    assert answer.status_code == 200
    assert "hub/login" not in str(answer.url), "the log-in was refused"
