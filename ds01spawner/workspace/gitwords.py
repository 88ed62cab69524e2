"""What git says while it fetches: how far it is, and in plain words why it could not. Pure.

Its output is partly the server's own text, so nothing of it is trusted: it is cut, freed of control
characters, and only ever shown as text.
"""

from __future__ import annotations

import re

from ..core.logtext import clean, plain

MAX_LINE = 160
_PROGRESS = re.compile(r"(Receiving objects|Resolving deltas|Updating files): +([0-9]{1,3})%(.*)")
_PHASES = {"Receiving objects": (0.1, 0.6), "Resolving deltas": (0.7, 0.2), "Updating files": (0.9, 0.1)}
_PRIVATE = "look at the address; a private repository can be cloned in a terminal of the session"
_AGAIN = "look at the address and try again; if it stays so, tell an admin"
_REASONS: tuple[tuple[str, str, str], ...] = (
    (r"remote branch .* not found", "it has no such branch or tag", "look at the name that comes after #"),
    (r"could not resolve host", "its host is not known here", _AGAIN),
    (
        r"could not read (?:username|password)|authentication failed|access denied|not found|error: 40[134]",
        "there is no such repository, or it is private",
        _PRIVATE,
    ),
    (r"certificate|ssl|tls|gnutls", "a safe connection to its host cannot be made", _AGAIN),
    (
        r"connection (?:refused|timed out|reset)|failed to connect|couldn't connect|too slow|no route",
        "its host does not answer",
        _AGAIN,
    ),
    (
        r"transport .* not allowed|protocol .* not (?:allowed|supported)|unsupported protocol",
        "it leads to an address of a kind that is not allowed",
        _AGAIN,
    ),
    (
        r"no space left|disk quota exceeded",
        "there is no space left for it",
        "delete files of other projects, or ask an admin for space; then try again",
    ),
)
_TOO_LARGE = re.compile(r"file too large|file size limit exceeded", re.IGNORECASE)
_WEIGHTY = ("fatal:", "error:")


def lines(output: str) -> list[str]:
    """The output as lines of plain text; of a progress bar, its last state."""
    found = (plain(clean(line)).strip() for line in output.split("\n"))
    return [line[:MAX_LINE] for line in found if line]


def progress(output: str) -> tuple[str, float]:
    """Git's progress in one line and as a fraction; empty while it has said nothing of it."""
    for line in reversed(lines(output)):
        if match := _PROGRESS.match(line):
            start, share = _PHASES[match[1]]
            return match[0], start + share * min(100, int(match[2])) / 100
    return "", 0.0


def last_word(output: str) -> str:
    """The line that says why it failed: git's last error, else its last line."""
    said = lines(output)
    weighty = [line for line in said if line.startswith(_WEIGHTY)]
    return (weighty or said or [""])[-1]


def is_too_large(output: str) -> bool:
    """Whether it failed at the limit on the size of a file."""
    return bool(_TOO_LARGE.search(output))


def reason(output: str) -> tuple[str, str]:
    """Why it failed and what to do, in our own words."""
    text = "\n".join(lines(output)).lower()
    for pattern, why, do in _REASONS:
        if re.search(pattern, text):
            return why, do
    return "git could not fetch it", _AGAIN
