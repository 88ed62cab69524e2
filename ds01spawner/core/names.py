"""Names made from what people type: containers, folders, Unix users. Pure and injective.

Two different inputs never give one name: a part that had to be changed, or that could be mistaken
for a changed one, carries a hash of the original.
"""

from __future__ import annotations

import hashlib
import json
import re

MAX_DNS_LABEL = 63
_SAFE = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_UNIX = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")
_SERVER = re.compile(r"[a-z](?:-?[a-z0-9])*")
MAX_SERVER = 30
_FOLDER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._@+-]{0,62}[A-Za-z0-9])?")


def _hash(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]


def _slug(text: str) -> str:
    return re.sub(r"-+", "-", re.sub(r"[^a-z0-9]+", "-", text.lower())).strip("-")


def dns_label(*parts: str, limit: int = MAX_DNS_LABEL) -> str:
    """Join parts into a DNS label of at most ``limit`` characters, unique for these parts.

    Parts that are safe already stay readable: ``("ds01", "alice", "thesis")`` becomes
    ``ds01--alice--thesis``. Otherwise eight hex digits of a hash are added at the end.
    """
    joined = "--".join(parts)
    if len(joined) <= limit and all(_SAFE.fullmatch(p) and "--" not in p for p in parts):
        return joined
    digest = _hash(*parts)
    readable = "--".join(_slug(p) or "x" for p in parts)[: limit - 12].strip("-")
    # Three dashes cannot come from safe parts, so the two forms never meet.
    return f"{readable}---{digest}"


def folder_name(text: str) -> str:
    """A plain folder name for a user: the name itself where it is safe, else a slug and a hash."""
    if _FOLDER.fullmatch(text) and ".." not in text and "---" not in text:
        return text
    return f"{_slug(text)[:48] or 'user'}---{_hash(text)}"


def unix_name(text: str) -> str:
    """A name for ``/etc/passwd`` inside the container: the user's own where Unix tools can take it."""
    if _UNIX.fullmatch(text):
        return text
    plain = re.sub(r"[^a-z0-9_.-]", "_", text.lower())[:32]
    return plain if _UNIX.fullmatch(plain) else f"u_{plain}"[:32]


def is_server_name(text: str) -> bool:
    """Whether the hub makes a server of this name: 1 to 30 lower-case letters, digits and single dashes that
    begin with a letter. Its default server has no name."""
    return text == "" or (len(text) <= MAX_SERVER and bool(_SERVER.fullmatch(text)))


def server_name_for(project: str, taken: frozenset[str] = frozenset()) -> str:
    """A valid server name (see `is_server_name`) for a project, not among ``taken``."""
    base = re.sub(r"^[^a-z]+", "", _slug(project))[:26].strip("-") or "session"
    if base not in taken:
        return base
    return next(n for i in range(2, len(taken) + 3) if (n := f"{base}-{i}") not in taken)
