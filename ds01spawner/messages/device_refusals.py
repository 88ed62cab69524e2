"""What is said when no device is given. Pure."""

from __future__ import annotations

from ..core.errors import Refusal
from .examples import RETRY_SOON, example

CURED_BY_TIME = ("full", "unavailable")


@example(
    what="1 × 1g.10gb",
    why="of 7 such devices none is free: 7 in use by sessions",
    when="one becomes free as soon as a session that holds it is retired",
    code="full",
)
def nothing_free(what: str, why: str, when: str, code: str) -> Refusal:
    """No device can be given now, or ever; ``code``, ``why`` and ``when`` are the placement's."""
    waiting_helps = code in CURED_BY_TIME
    return Refusal(
        code=f"gpus-{code}",
        asked=f"{what} was asked for",
        limit=why,
        when=when,
        do=(
            "choose another GPU, start without one, or wait in the queue"
            if waiting_helps
            else "choose another GPU or fewer of them, or start without one"
        ),
        status=503 if waiting_helps else 400 if code == "no-such-profile" else 403,
        retry_after=2 * RETRY_SOON if waiting_helps else None,
    )
