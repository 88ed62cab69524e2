"""The page of all refusals, made from the example that stands at each."""

from __future__ import annotations

import sys

from ..core.errors import Refusal
from .examples import EXAMPLES

_INTRO = """\
# Refusals

Everything the product refuses to do, with an example of each. A refusal says what was asked, what you
use, the limit and who set it, when it changes, and what to do. The page, the REST API (as JSON, with the
same parts as fields) and the `ds01` command show the same words.

This page is made from the code by `python -m ds01spawner.messages docs/admins/refusals.md`.
"""


def refusals_page() -> str:
    """The page as Markdown."""
    parts = [_INTRO]
    for name, make in EXAMPLES.items():
        function = getattr(sys.modules["ds01spawner.messages"], name)
        parts.append(_entry(make(), (function.__doc__ or "").strip().splitlines()[0]))
    return "\n".join(parts)


def _entry(refusal: Refusal, meaning: str) -> str:
    status = f"HTTP {refusal.status}"
    if refusal.retry_after:
        status += f", `Retry-After: {refusal.retry_after}`"
    head = f"{meaning} ({status})" if meaning else status
    return f"## `{refusal.code}`\n\n{head}\n\n> {refusal.sentence}\n"
