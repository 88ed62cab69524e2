"""The end of a session's log as its owner should read it. Pure."""

from __future__ import annotations

import re

READ_LINES = 2000
"""Lines to read from the engine for a tail: most of a quiet session's lines may be our own looks."""
READ_BYTES = 512 * 1024
LINES = 40
CHARS = 4000
_OUR_LOOK = re.compile(r"/api/(?:kernels|sessions|terminals)\?no_track_activity=1 ")


def tail(raw: bytes, lines: int = LINES, chars: int = CHARS) -> str:
    """The last lines of a log, without the requests by which the idle service looked at its kernels."""
    text = raw.decode(errors="replace").splitlines(keepends=True)
    told = [line for line in text if not _OUR_LOOK.search(line)]
    return "".join(told[-lines:])[-chars:]
