"""The page of all refusals, made from their examples. Pure."""

from __future__ import annotations

import sys

from .base import EXAMPLES

_INTRO = """\
# Refusals

Everything the product refuses to do, with an example of each. A refusal says what was asked, what you
use, the limit and whose rule it is, when it changes, and what to do. The page, the REST API (as JSON,
with the same parts as fields) and the `ds01` command show the same words.

This page is made from the code by `python -m ds01spawner.messages docs/admins/refusals.md`.
"""


def refusals_page() -> str:
    """The page as Markdown."""
    parts = [_INTRO]
    for name, make in EXAMPLES.items():
        refusal = make()
        function = getattr(sys.modules["ds01spawner.messages"], name)
        meaning = (function.__doc__ or "").strip().splitlines()[0]
        status = f"HTTP {refusal.status}"
        if refusal.retry_after:
            status += f", `Retry-After: {refusal.retry_after}`"
        parts.append(f"## `{refusal.code}`\n\n{meaning} ({status})\n\n> {refusal.sentence}\n")
    return "\n".join(parts)
