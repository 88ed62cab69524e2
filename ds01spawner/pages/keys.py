"""Keys for the live fragments of a page.

Pages of the hub refresh parts of themselves from the service. The service's cookie does not serve
there (a script may not use another path's cookie without its XSRF token), so the page carries a signed
key that names the person and expires. It opens the live fragments (and dismisses a
notice) and nothing else, and travels in a header, which no other site can send.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from datetime import datetime, timedelta, timezone
from pathlib import Path

HEADER = "X-DS01-Key"
LIFETIME = timedelta(hours=24)


def sign(secret: bytes, person: str, now: datetime, lifetime: timedelta = LIFETIME) -> str:
    """A key for ``person`` that `verify` accepts until ``now + lifetime``."""
    body = f"{int((now + lifetime).timestamp())}:{person}".encode()
    return _encode(body) + "." + _encode(_mac(secret, body))


def verify(secret: bytes, key: str, now: datetime) -> str | None:
    """The person a key was made for, or None when it is forged, broken or past its time."""
    try:
        body, mac = (_decode(part) for part in key.split("."))
        expires, _, person = body.decode().partition(":")
        deadline = datetime.fromtimestamp(int(expires), timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None
    if not person or not hmac.compare_digest(mac, _mac(secret, body)) or now > deadline:
        return None
    return person


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


def _mac(secret: bytes, body: bytes) -> bytes:
    return hmac.new(secret, body, hashlib.sha256).digest()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decode(data: str) -> bytes:
    return base64.urlsafe_b64decode(data + "=" * (-len(data) % 4))
