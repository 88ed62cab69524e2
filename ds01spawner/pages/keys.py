"""Keys for the live fragments of a page.

Pages of the hub refresh parts of themselves from the service. The service's cookie does not serve
there (a script may not use another path's cookie without its XSRF token), so the page carries a signed
key that names the person and expires. It opens the live fragments (and dismisses a
notice) and nothing else, and travels in a header, which no other site can send. It lives for an hour, each
live fragment brings the next one, and all of a person's keys end when they log out.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from tornado.web import create_signed_value, decode_signed_value

HEADER = "X-DS01-Key"
NEXT = "DS01-Key"
"""The header of a fragment with the key for the next one."""
LIFETIME = timedelta(hours=1)
NAME = "ds01-page"
"""What the key is for is part of what is signed."""


def milliseconds(now: datetime) -> int:
    """Since the epoch: whoever logs out and in again within a second has a page that lives."""
    return int(now.timestamp() * 1000)


def sign(secret: bytes, person: str, now: datetime) -> str:
    """A key for ``person`` that `verify` accepts for `LIFETIME`."""
    value = f"{milliseconds(now)}:{person}"
    return create_signed_value(secret, NAME, value, version=2, clock=now.timestamp).decode()


def verify(
    secret: bytes, key: str, now: datetime, ended: Callable[[str], float] = lambda person: 0.0
) -> str | None:
    """The person a key was made for; None when it is forged, broken, too old or of an earlier log-in.

    ``ended(person)`` is when they last logged out, in milliseconds since the epoch.
    """
    days = LIFETIME / timedelta(days=1)
    try:
        value = decode_signed_value(secret, NAME, key, max_age_days=days, clock=now.timestamp, min_version=2)
    except ValueError:  # no text that could be a key
        return None
    if value is None:
        return None
    made, _, person = value.decode().partition(":")
    return person if person and (int(made) > ended(person) or not ended(person)) else None


class LogOuts:
    """When people last logged out: the hub writes it, the service reads it. A small file for each person."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / "logouts"

    def note(self, person: str, now: datetime) -> None:
        """Keys made until now are over."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(person)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(f"{milliseconds(now)}")
        temporary.replace(path)

    def last(self, person: str) -> float:
        """Milliseconds since the epoch; 0 for who never did. What cannot be read ends every key."""
        try:
            return float(self._path(person).read_text())
        except FileNotFoundError:
            return 0.0
        except (OSError, ValueError):
            return float("inf")

    def _path(self, person: str) -> Path:
        return self._folder / hashlib.sha256(person.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def load_secret(state_dir: Path) -> bytes:
    """The secret that hub and service share, made on first use; readable by its owner only."""
    path = state_dir / "fragments.key"
    try:
        return path.read_bytes()
    except FileNotFoundError:
        pass
    state_dir.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.touch(mode=0o600)
    temporary.write_bytes(secrets.token_bytes(32))
    try:
        os.link(temporary, path)  # the first process wins; the others read what it wrote
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    return path.read_bytes()
