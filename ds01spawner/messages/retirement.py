"""What is said while a session is being retired. Pure."""

from __future__ import annotations

from ..errors import Refusal
from .base import RETRY_SOON, example, short

BEING_RETIRED = "it is being retired"
ENGINE_SILENT = "it is being retired; the container engine does not answer yet"
NOT_RETIRED = "it could not be retired, and the decision could not be written down either"


def retiring(problem: str) -> str:
    """What is told of a session with an open intent; ``problem`` is why the last attempt failed."""
    return ENGINE_SILENT if problem else BEING_RETIRED


@example(project="thesis")
def being_retired(project: str = "", problem: str = "the engine does not answer") -> Refusal:
    """The server's former session is still being retired."""
    return Refusal(
        code="being-retired",
        asked="a session was asked for",
        used=f"the former session on project {short(project)!r} is still there" if project else "",
        limit=retiring(problem),
        when="its device and its place are free as soon as it is gone; your files are untouched",
        do="try again in a minute, or start another session beside it",
        status=409,
        retry_after=RETRY_SOON,
    )


@example(user="alice", sessions="its sessions are being retired")
def user_not_deleted(user: str, sessions: str) -> Refusal:
    """A user is deleted while sessions of theirs are still there."""
    return Refusal(
        code="user-has-sessions",
        asked=f"{short(user)!r} was to be deleted",
        limit=sessions,
        when="nothing else was changed",
        do="delete the user again when they are gone, in a minute",
        status=409,
        retry_after=RETRY_SOON,
    )
