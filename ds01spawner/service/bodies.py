"""The JSON object of a request, held against bounds that no caller of ours needs to pass. Pure."""

from __future__ import annotations

import json
from typing import Any

MAX_BODY = 64 * 1024
MAX_DEPTH = 16
MAX_NUMBER = 2**53
"""Whole numbers beyond this are not the same in every reader of JSON."""


class BadBody(ValueError):
    """It cannot be used; ``status`` is the HTTP status that fits."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def parse(raw: bytes) -> dict[str, object]:
    """The object; an empty body is an empty object. `BadBody` says what is wrong."""
    if len(raw) > MAX_BODY:
        raise BadBody("the request is too large", 413)
    try:
        data = json.loads(raw or b"{}", parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise BadBody("the request is not JSON") from None
    if not isinstance(data, dict):
        raise BadBody("the request is not a JSON object")
    _check(data)
    return data


def _check(data: Any) -> None:
    """Depth, numbers and texts, without recursion: a nested body must not use up the stack."""
    left = [(data, 1)]
    while left:
        value, depth = left.pop()
        if depth > MAX_DEPTH:
            raise BadBody(f"the request is nested more than {MAX_DEPTH} deep")
        if isinstance(value, dict):
            left += [(k, depth) for k in value] + [(v, depth + 1) for v in value.values()]
        elif isinstance(value, list):
            left += [(v, depth + 1) for v in value]
        elif isinstance(value, str):
            _check_text(value)
        elif isinstance(value, (int, float)) and not -MAX_NUMBER <= value <= MAX_NUMBER:
            raise BadBody("the request has a number that is too large")


def _check_text(text: str) -> None:
    # Neither can be kept: a database takes no NUL, and half a character has no encoding.
    if "\x00" in text or any("\ud800" <= sign <= "\udfff" for sign in text):
        raise BadBody("the request has text that cannot be kept (a NUL, or half of a character)")


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
