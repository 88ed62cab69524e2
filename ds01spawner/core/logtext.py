"""The text of a build's log: whole lines, no control codes, masked secrets, colours as HTML. Pure."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

HEAD, TAIL = 400, 2000
"""Lines of a log that are kept: the first, where the base is, and the last, where the fault is."""
MAX_LINE = 2000
MAX_RAW = 16 * MAX_LINE
"""Characters of a line that are looked at: a progress bar is one line for hours, and its end counts."""
MASK = "•••"

_COLOUR = re.compile(r"\x1b\[([0-9;]*)m")
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_SECRETS = (
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,30}://)[^\s/@:]*(?::[^\s/@]*)?@"), rf"\1{MASK}@"),
    (
        re.compile(
            r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|hf_[A-Za-z0-9]{20,})"
        ),
        MASK,
    ),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bsk-[A-Za-z0-9_-]{20,}"), MASK),
    (
        re.compile(
            r"(?i)\b(\w{0,40}(?:password|passwd|secret|token|api_?key)\w{0,40}\s{0,9}[=:](?!=)\s{0,9})(?!\s)[^\s\"']{4,}"
        ),
        rf"\1{MASK}",
    ),
    (re.compile(r"(?i)(authorization:\s{0,9}\w{1,40}\s{1,9})\S+"), rf"\1{MASK}"),
)


class Masker:
    """Hides what looks like a secret, and the given values themselves."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._values = sorted({v for v in values if len(v) >= 6}, key=len, reverse=True)

    def __call__(self, line: str) -> str:
        """``line`` with every secret replaced."""
        for value in self._values:
            line = line.replace(value, MASK)
        for pattern, replacement in _SECRETS:
            line = pattern.sub(replacement, line)
        return line


def clean(line: str) -> str:
    """One line fit for a log: the last state of a progress bar, colours kept, everything else plain."""
    line = line[-MAX_RAW:].rstrip("\r\n").rsplit("\r", 1)[-1]
    pieces = _COLOUR.split(line)
    text = ""
    for index, piece in enumerate(pieces):
        text += (
            f"\x1b[{piece}m" if index % 2 else _CONTROL.sub("", _ESCAPE.sub("", piece).replace("\x1b", ""))
        )
    return text if len(text) <= MAX_LINE else text[:MAX_LINE] + " …"


class Lines:
    """Puts chunks together to whole, clean, masked lines."""

    def __init__(self, mask: Masker) -> None:
        self._mask = mask
        self._rest = ""

    def feed(self, chunk: str) -> list[str]:
        """The lines that ``chunk`` completes."""
        *lines, self._rest = (self._rest + chunk).split("\n")
        if len(self._rest) > 4 * MAX_LINE:
            self._rest = self._rest[-MAX_RAW:].rsplit("\r", 1)[-1][-4 * MAX_LINE :]
        return [self._mask(clean(line)) for line in lines]

    def end(self) -> list[str]:
        """What is left when the stream ends."""
        rest, self._rest = self._rest, ""
        return [self._mask(clean(rest))] if rest.strip() else []


_STYLES = {"1": "ds01-ansi-bold", "2": "ds01-ansi-dim", "3": "ds01-ansi-italic", "4": "ds01-ansi-underline"}


def to_html(line: str) -> str:
    """A line with its colours as ``<span class="ds01-ansi-31">``; everything else is escaped."""
    pieces = _COLOUR.split(line)
    out = html.escape(pieces[0])
    classes: list[str] = []
    for codes, text in zip(pieces[1::2], pieces[2::2], strict=True):
        for code in codes.split(";"):
            if code in ("", "0"):
                classes = []
            elif code in _STYLES:
                classes.append(_STYLES[code])
            elif re.fullmatch(r"3[0-7]|9[0-7]", code):
                classes = [c for c in classes if not re.fullmatch(r"ds01-ansi-[39][0-7]", c)] + [
                    f"ds01-ansi-{code}"
                ]
        shown = html.escape(text)
        out += f'<span class="{" ".join(classes)}">{shown}</span>' if classes and shown else shown
    return out


def plain(line: str) -> str:
    """A line without colours."""
    return _COLOUR.sub("", line)
