"""Refusals and failures as the exceptions JupyterHub shows, on hub 5 and 6 alike.

The hub reads ``jupyterhub_message`` and ``jupyterhub_html_message`` and falls back to ``str(exc)``,
which would show log text to people; so every attribute any of its pages reads is set here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from html import escape
from typing import Any

from tornado import web

from ..core.errors import Refusal

try:
    from jupyterhub.spawner import SpawnException as _Base
except ImportError:  # hub 5
    _Base = None


class SessionRefused(_Base or web.HTTPError):  # type: ignore[misc]
    """A refusal (or a failure already explained) on its way through the hub.

    ``log_tail`` are the last lines of the container's log; they are shown escaped below the sentence.
    ``ask_url`` is where its owner can ask for more (for REST in a ``Link`` header); empty where that does not
    help. ``headers`` are sent
    with the answer. ``to_form`` says that whoever waits for the start is best sent back to the form,
    which tells the reason.
    """

    def __init__(
        self,
        refusal: Refusal,
        *,
        log_tail: str = "",
        ask_url: str = "",
        headers: Mapping[str, str] | None = None,
        to_form: bool = False,
    ) -> None:
        self.refusal = refusal
        self.to_form = to_form
        self.log_tail = log_tail
        message = refusal.sentence
        if _Base is None:
            super().__init__(refusal.status, message.replace("%", "%%"), reason=refusal.code)
        else:
            super().__init__(message, reason=refusal.code, status_code=refusal.status)
        self.status_code = refusal.status
        self.reason = refusal.code
        self.jupyterhub_message = message
        self.jupyterhub_html_message = refusal_html(refusal, log_tail, ask_url)
        self.headers: dict[str, Any] = dict(headers or {})
        if ask_url:
            self.headers["Link"] = f'<{ask_url}>; rel="help"'
        if refusal.retry_after:
            self.headers["Retry-After"] = str(refusal.retry_after)

    def __str__(self) -> str:
        return self.refusal.sentence


class OpenForm(web.HTTPError):
    """Not an error: tells the hub's spawn page to show the form, which says where its choices came from."""

    jupyterhub_message = ""
    jupyterhub_html_message = ""

    def __init__(self) -> None:
        super().__init__(200, "a link opens the form and starts nothing")


class _LinksAreNoFailures(logging.Filter):
    """The hub logs every exception of a link with its traceback, `OpenForm` too."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let all else pass."""
        return not (record.exc_info and isinstance(record.exc_info[1], OpenForm))


_links = _LinksAreNoFailures()


def open_form(log: logging.Logger | logging.LoggerAdapter[Any]) -> OpenForm:
    """What to raise so that the form opens; ``log`` is the hub's, where it leaves no traceback."""
    logger = log.logger if isinstance(log, logging.LoggerAdapter) else log
    logger.addFilter(_links)  # once, however often it is added
    return OpenForm()


def refusal_html(refusal: Refusal, log_tail: str = "", ask_url: str = "") -> str:
    """The refusal as safe HTML: a paragraph, where to ask for more, and the log's last lines."""
    html = f"<p class='ds01-refusal'>{escape(refusal.sentence)}</p>"
    if ask_url:
        html += f"<p class='ds01-ask'><a href='{escape(ask_url)}'>Ask for more</a></p>"
    if log_tail.strip():
        html += (
            "<details open class='ds01-log'><summary>Last lines of the session's log</summary>"
            f"<pre tabindex='0'>{escape(log_tail)}</pre></details>"
        )
    return html
