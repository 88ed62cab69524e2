"""What the sentences share: the registry of examples and small wording helpers. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ..core.errors import Refusal

F = TypeVar("F", bound=Callable[..., Refusal])
EXAMPLES: dict[str, Callable[[], Refusal]] = {}
"""One example of each refusal, by the name of its function, in the order they are written."""

RETRY_SOON, RETRY_LATER = 30, 300
"""Seconds told to a caller where trying again makes sense."""


def example(**values: Any) -> Callable[[F], F]:
    """Register a refusal with the values of its example in the documentation."""

    def register(function: F) -> F:
        EXAMPLES[function.__name__] = lambda: function(**values)
        return function

    return register


def rule_text(source: str) -> str:
    """Whose rule it is, or empty where there is none; ``source`` is that of `Limits.source`."""
    article = "the " if source.startswith(("built-in", "exception")) else ""
    return f"set by {article}{source}" if source else ""


def sessions_text(count: float) -> str:
    """``1 session``, ``3 sessions``."""
    return "1 session" if count == 1 else f"{count:g} sessions"


def short(text: str) -> str:
    """Text from outside, cut to what fits a sentence."""
    return text if len(text) <= 80 else text[:79] + "…"


def words(items: Sequence[str]) -> str:
    """``a, b and c``."""
    return ", ".join(items[:-1]) + " and " + items[-1] if len(items) > 1 else "".join(items)
