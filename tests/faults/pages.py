"""What the pages themselves show, read as a browser without JavaScript gets them."""

from __future__ import annotations

import re
from collections.abc import Collection

import httpx
from support.browse import log_in

from .observe import Seen
from .verdict import Violation

TAKEN = ("held", "mine", "foreign")
_SEGMENT = re.compile(r'class="ds01-seg ds01-seg-([a-z]+)"')


class Browser:
    """A person who is logged in, also after the hub was started again."""

    def __init__(self, url: str, user: str) -> None:
        self.user = user
        self.http = httpx.Client(base_url=url, follow_redirects=True, timeout=30)

    def page(self, path: str) -> str:
        """A page's text; `httpx.HTTPError` where there is none."""
        answer = self.http.get(path)
        if "hub/login" in str(answer.url):
            try:
                log_in(self.http, self.user)
            except AssertionError as error:
                raise httpx.HTTPError(f"the log-in failed: {error}") from error
            answer = self.http.get(path)
        answer.raise_for_status()
        return answer.text


def strip_is_true(
    page: str, where: str, held: Collection[str], devices: int, faulted: bool = False
) -> list[Violation]:
    """As many devices are shown as taken as the engine's containers hold, and no more as free. Pure.

    ``faulted``: a card or the driver has had a fault a short time ago. Until a card has been well for a while
    its devices are shown as kept back, held or not; a driver that did not answer in time is asked again only
    after some seconds, and until then the page says that instead.
    """
    states = _SEGMENT.findall(page)
    if faulted and not states and "the NVIDIA driver did not answer" in page:
        return []
    taken = sum(s in TAKEN for s in states)
    free = states.count("free")
    hidden = len(states) - taken - free if faulted else 0
    if len(states) == devices and 0 <= len(held) - taken <= hidden and free <= devices - len(held):
        return []
    text = (
        f"{where} shows {len(states)} devices, {taken} taken, {free} free; {len(held)} of {devices} are held"
    )
    return [Violation("pages are true", text)]


def home_is_true(page: str, user: str, runs: Collection[Seen]) -> list[Violation]:
    """Home offers to open what runs, and nothing else. Pure."""
    shown = set(re.findall(rf'href="/user/{re.escape(user)}/(\w*)/?"', page))
    true = {s.server for s in runs}
    return [
        Violation("pages are true", f"the home page of {user} {says} {name or 'the default server'}")
        for says, names in (("does not show", true - shown), ("shows", shown - true))
        for name in sorted(names)
    ]
