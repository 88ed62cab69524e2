"""How sessions end, in clauses that their owners read. Pure."""

from __future__ import annotations

import signal

UNRECORDED = "it ended; the reason was not recorded"
"""Stands wherever a reason is missing: no other sentence may."""
WITH_FORMER_STORE = "it ended; why was written in the session store that was removed or replaced since"
LOST = "its container was gone when it was next looked for, and the engine has no record of how it ended"
THROUGH_HUB = "it was stopped through JupyterHub, which does not record who asked or why"
SHUT_DOWN = "its server was shut down, from inside or by a request to its container; your files are untouched"
ENGINE_STOPPED = (
    "the container engine was stopped or restarted, which ended the session; your files are untouched. "
    "Start again"
)
REMOVED = "its container was removed from outside, straight on the container engine; your files are untouched"
LEFTOVER = "it never came up, and what its start had left behind was removed"
CANCELLED = "its start was cancelled before it came up"


def killed(number: int) -> str:
    """A signal was sent to the session through the container engine."""
    return (
        f"it was ended from outside, by the signal {signal_name(number)} given straight to the container "
        "engine; your files are untouched"
    )


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9; the number where it has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
