"""Words and variables of a Dockerfile, as the builder takes them. Pure.

`expand` follows the builder's own rules for quotes, ``\\`` and ``$``; forms that builders of different age
read in different ways raise ``ValueError`` with a clause.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

MAX_VALUE = 32 * 1024
"""Characters a value may grow to: ``ENV A=$A$A`` thirty times would be a gigabyte."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def words(text: str) -> list[str]:
    """The words of an instruction, quotes and escapes as they are."""
    found: list[str] = []
    word, quote, position = "", "", 0
    while position < len(text):
        sign = text[position]
        if sign == "\\" and quote == "'":
            raise ValueError("builders differ on a \\ between single quotes; use double quotes")
        if sign == "\\":
            word += text[position : position + 2]
            position += 2
            continue
        if quote:
            quote = "" if sign == quote else quote
            word += sign
        elif sign in " \t":
            if word:
                found.append(word)
            word = ""
        else:
            quote = sign if sign in "'\"" else ""
            word += sign
        position += 1
    if quote:
        raise ValueError(f"a {quote} is not closed")
    return [*found, word] if word else found


def pairs(text: str) -> list[tuple[str, str]]:
    """The ``name=value`` words of ARG, ENV and LABEL, unexpanded; also the old form ``name value``."""
    found = words(text)
    if found and "=" not in found[0]:
        if len(found) == 1:
            raise ValueError(f"{found[0][:40]!r} has no value")
        return [(found[0], text.split(None, 1)[1])]
    made = []
    for word in found:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise ValueError(f"{word[:40]!r} is not name=value")
        made.append((name, value))
    return made


def expand(text: str, values: Mapping[str, str]) -> str:
    """``text`` without quotes and escapes, variables replaced."""
    result, end = _until(text, 0, "", values, 0)
    assert end == len(text)
    return result


def _until(text: str, at: int, stop: str, values: Mapping[str, str], depth: int) -> tuple[str, int]:
    """Expand from ``at`` up to the sign ``stop`` (empty: the end); the result and where it goes on."""
    if depth > 8:
        raise ValueError("variables are nested too deeply")
    result: list[str] = []
    size = 0
    while at < len(text):
        sign = text[at]
        if sign == stop:
            return "".join(result), at + 1
        if sign == "'":
            end = text.find("'", at + 1)
            if end < 0:
                raise ValueError("a ' is not closed")
            piece, at = text[at + 1 : end], end + 1
        elif sign == '"':
            piece, at = _quoted(text, at + 1, values, depth)
        elif sign == "$":
            piece, at = _variable(text, at + 1, values, depth)
        elif sign == "\\":
            if at + 1 == len(text):
                raise ValueError("it ends with a \\")
            piece, at = text[at + 1], at + 2
        else:
            piece, at = sign, at + 1
        size += len(piece)
        if size > MAX_VALUE:
            raise ValueError(f"a value grows beyond {MAX_VALUE} characters")
        result.append(piece)
    if stop:
        raise ValueError(f"a {stop} is missing")
    return "".join(result), at


def _quoted(text: str, at: int, values: Mapping[str, str], depth: int) -> tuple[str, int]:
    result: list[str] = []
    size = 0
    while at < len(text):
        sign = text[at]
        if sign == '"':
            return "".join(result), at + 1
        if sign == "$":
            piece, at = _variable(text, at + 1, values, depth)
        elif sign == "\\" and text[at + 1 : at + 2] in ('"', "$", "\\"):
            piece, at = text[at + 1], at + 2
        else:
            piece, at = sign, at + 1
        size += len(piece)
        if size > MAX_VALUE:
            raise ValueError(f"a value grows beyond {MAX_VALUE} characters")
        result.append(piece)
    raise ValueError('a " is not closed')


def _variable(text: str, at: int, values: Mapping[str, str], depth: int) -> tuple[str, int]:
    if text[at : at + 1] != "{":
        match = _NAME.match(text, at)
        if match is None:
            raise ValueError("a $ has a variable's name after it; write \\$ for the sign itself")
        return values.get(match[0], ""), match.end()
    match = _NAME.match(text, at + 1)
    if match is None:
        raise ValueError("${ has a variable's name after it")
    value, at = values.get(match[0]), match.end()
    if text[at : at + 1] == "}":
        return value or "", at + 1
    form = text[at : at + 2]
    if form not in (":-", ":+"):
        raise ValueError(f"of ${{{match[0]}…}} only ${{name}}, ${{name:-word}} and ${{name:+word}} are taken")
    word, at = _until(text, at + 2, "}", values, depth + 1)
    if form == ":-":
        return value or word, at
    return word if value else "", at


def quoted(text: str) -> str:
    """``text`` as a word in double quotes, which expands to itself."""
    return '"' + re.sub(r'([\\"$])', r"\\\1", text) + '"'


def literal(text: str) -> str:
    """``text`` as a word of a JSON list, which expands to itself."""
    return re.sub(r"""([\\"'$])""", r"\\\1", text)
