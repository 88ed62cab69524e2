"""Text that people type and others read: one rule for titles, descriptions, reasons and names. Pure.

Control characters can move a terminal's cursor or end a line of a log; marks of writing direction and
invisible signs let one text look like another. Neither has a place in what one person writes and another
decides on. Letters of every script, emoji and the joiners that both need stay.
"""

from __future__ import annotations

import unicodedata

_INVISIBLE = frozenset(
    [
        *(0x061C, 0x180E, 0xFEFF, 0x200B, 0x200E, 0x200F),  # marks of direction, spaces without width
        *range(0x202A, 0x202F),  # embeddings and overrides
        *range(0x2060, 0x2070),  # isolates, invisible operators
        *range(0xFFF9, 0xFFFC),  # annotations
        *range(0xE0000, 0xE0080),  # tags
    ]
)
_REFUSED = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Categories of Unicode: controls, halves of characters, separators of lines and paragraphs."""


def problem(text: str, *, lines: bool = False) -> str:
    """What a text has that no reader can see, in words; empty where it is plain.

    ``lines`` lets it have several lines (and tabs).
    """
    for sign in text:
        if lines and sign in "\n\t":
            continue
        if unicodedata.category(sign) in _REFUSED or ord(sign) in _INVISIBLE:
            return f"it has a sign that nobody can see (U+{ord(sign):04X})"
    return ""


def checked(text: str, *, lines: bool = False) -> str:
    """The text, or ``ValueError`` saying what it has; for validators of models."""
    if why := problem(text, lines=lines):
        what = "printable text" if lines else "one line of printable text"
        raise ValueError(f"{what} is expected here; {why}")
    return text


def plain(text: str, *, lines: bool = False) -> str:
    """The text with every such sign replaced, for what a form sends with line ends of its own making."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join("\ufffd" if problem(sign, lines=lines) else sign for sign in text)
