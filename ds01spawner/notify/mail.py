"""Notices by e-mail, through a relay that the site names as an address.

``smtp://relay.example.org:25?from=gpu@example.org&to={user}@example.org``; ``smtps://`` speaks TLS from the
first byte, ``starttls=1`` after the greeting, ``name:password@`` before the host logs in. Best effort, as all
ways to people who are away.
"""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from urllib.parse import parse_qs, unquote, urlsplit

from ..core.errors import DS01Error
from .channels import TIMEOUT, Channel, Notice, WebhookChannel

_SUBJECTS = {
    "warning": "Your session is about to end",
    "withdrawn": "Your session goes on",
    "retired": "Your session was retired",
    "kept": "Your session is kept alive",
    "started": "Your session has started",
    "failed": "Your session could not be started",
    "expired": "Your place in the queue is over",
    "refused": "Your place in the queue cannot become a session",
}


@dataclass(frozen=True)
class Relay:
    """Where mail goes out, and from and to whom. ``to`` has ``{user}`` where the hub's name goes."""

    host: str
    sender: str
    to: str
    port: int = 25
    tls: bool = False
    starttls: bool = False
    user: str = ""
    password: str = ""

    @classmethod
    def parse(cls, address: str) -> Relay:
        """From an address as in the module's text; `DS01Error` says what is wrong with it."""
        try:
            parts = urlsplit(address)
            port, given = parts.port, {k: v[-1] for k, v in parse_qs(parts.query).items()}
        except ValueError as error:
            raise DS01Error(f"this is no mail relay: {error}") from error
        unknown = sorted(set(given) - {"from", "to", "starttls"})
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname or unknown:
            what = f"{unknown[0]} is not known" if unknown else "write smtp://HOST:PORT?from=…&to={user}@…"
            raise DS01Error(f"this is no mail relay: {what}")
        if "@" not in given.get("from", "") or "{user}" not in given.get("to", ""):
            raise DS01Error("a mail relay needs from=ADDRESS and to={user}@DOMAIN")
        return cls(
            parts.hostname,
            given["from"],
            given["to"],
            port or (465 if parts.scheme == "smtps" else 25),
            parts.scheme == "smtps",
            given.get("starttls", "0") == "1",
            unquote(parts.username or ""),
            unquote(parts.password or ""),
        )

    def message(self, notice: Notice) -> EmailMessage:
        """The mail about a notice. ``ValueError`` where the user's name makes no address. Pure."""
        mail = EmailMessage()
        mail["From"] = _address(self.sender)
        mail["To"] = _address(self.to.replace("{user}", notice.user))
        mail["Subject"] = f"{_SUBJECTS.get(notice.kind, 'About your session')} ({notice.project})"
        mail["Date"] = format_datetime(notice.at)
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(notice.text + "\n")
        return mail

    def send(self, mail: EmailMessage) -> None:
        """Hand it to the relay; raises what ``smtplib`` raises. Blocking."""
        trust = ssl.create_default_context()
        with (
            smtplib.SMTP_SSL(self.host, self.port, timeout=TIMEOUT, context=trust)
            if self.tls
            else smtplib.SMTP(self.host, self.port, timeout=TIMEOUT)
        ) as relay:
            if self.starttls:
                relay.starttls(context=trust)
            if self.user:
                relay.login(self.user, self.password)
            relay.send_message(mail)


def _address(text: str) -> Address:
    """One address and nothing else: no name may add another, or a header."""
    try:
        return Address(addr_spec=text)
    except (ValueError, IndexError, HeaderParseError) as error:
        raise ValueError(f"{text[:60]!r} makes no mail address") from error


class MailChannel:
    """One mail for each notice."""

    name, shows = "mail", False

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    async def deliver(self, notice: Notice) -> None:
        """Send, in a thread."""
        await asyncio.to_thread(self._relay.send, self._relay.message(notice))


def channel_for(address: str) -> Channel:
    """The way that an address means: mail for ``smtp:`` and ``smtps:``, else a webhook."""
    if address.startswith(("smtp:", "smtps:")):
        return MailChannel(Relay.parse(address))
    return WebhookChannel(address)
