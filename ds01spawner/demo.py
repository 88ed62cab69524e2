"""Accounts for trying the product out: everybody shares one password, so only this machine may log in.

`DemoAuthenticator` refuses to start a hub that listens on anything but loopback, and refuses every
log-in that did not come from this machine. A real site uses an authenticator of its own.
"""

from __future__ import annotations

import hmac
import ipaddress
from typing import Any
from urllib.parse import urlsplit

from jupyterhub.auth import Authenticator
from traitlets import Unicode

ACCOUNTS = {
    "alice": "student",
    "bob": "student",
    "teacher": "instructor",
    "admin": "administrator",
}
"""The demo's people and what they are, in the order in which they are shown."""


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only mean this machine."""
    host = host.strip("[]").removeprefix("::ffff:")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class DemoAuthenticator(Authenticator):  # type: ignore[misc]
    """One shared password for the accounts of the demo; serves loopback only."""

    password = Unicode(help="The password of every demo account; empty refuses everyone.").tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        bind_url = getattr(self.parent, "bind_url", None)
        if bind_url is not None and not is_loopback(urlsplit(bind_url).hostname or ""):
            raise ValueError(
                f"the demo accounts share one password, so the hub must not listen at {bind_url}: set "
                "c.JupyterHub.bind_url = 'http://127.0.0.1:8000', or configure a real authenticator"
            )

    async def authenticate(self, handler: Any, data: dict[str, str]) -> str | None:
        """The user's name when the password is right and the request came from this machine."""
        request = handler.request
        if not is_loopback(request.remote_ip) or not is_loopback(
            urlsplit(f"//{request.host}").hostname or ""
        ):
            self.log.warning("A demo log-in from %s for %s is refused", request.remote_ip, request.host)
            return None
        name, given = data.get("username", ""), data.get("password", "")
        right = hmac.compare_digest(given.encode(), self.password.encode())
        return name if self.password and right and name in ACCOUNTS else None
