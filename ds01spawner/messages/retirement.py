"""What is said while a session is being retired. Pure."""

from __future__ import annotations

from ..core.errors import Refusal
from .examples import RETRY_SOON, example, sessions_text, short

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


@example()
def session_unsure() -> Refusal:
    """Whether a session runs cannot be told now."""
    return Refusal(
        code="session-unsure",
        asked="this session was asked for",
        limit="the container engine does not answer, so whether it runs cannot be told now",
        when="nothing was done to it",
        do="try again in a minute",
        status=503,
        retry_after=RETRY_SOON,
    )


@example(user="alice", count=2)
def user_not_deleted(user: str, count: int) -> Refusal:
    """A user is deleted while sessions of theirs are still there."""
    return Refusal(
        code="user-has-sessions",
        asked=f"{short(user)!r} was to be deleted",
        limit=f"{sessions_text(count)} of that user "
        + ("is" if count == 1 else "are")
        + " still starting or being retired",
        when="the user and the files are as they were",
        do="delete the user again in a minute, when nothing of them runs",
        status=409,
        retry_after=RETRY_SOON,
    )


@example(old="alice", new="alice2")
def rename_while_running(old: str, new: str) -> Refusal:
    """A user is renamed while a session of theirs runs."""
    return Refusal(
        code="rename-while-running",
        asked=f"{short(old)!r} was to be renamed {short(new)!r}",
        limit="a running session carries its owner's name for good",
        do="retire the sessions of that user first, then rename",
        status=409,
    )


@example(old="alice", new="alice2", why="the container engine does not answer")
def rename_unsure(old: str, new: str, why: str) -> Refusal:
    """Whether a user who is renamed has sessions or files cannot be told now."""
    return Refusal(
        code="rename-unsure",
        asked=f"{short(old)!r} was to be renamed {short(new)!r}",
        limit=f"whether sessions run under the old name cannot be told now: {short(why)}",
        do="rename again in a minute; nothing was changed",
        status=503,
        retry_after=RETRY_SOON,
    )


@example(old="alice", new="alice2", why="there is a workspace of that name already")
def rename_files(old: str, new: str, why: str) -> Refusal:
    """The files of a user who is renamed cannot be taken along."""
    return Refusal(
        code="rename-files",
        asked=f"{short(old)!r} was to be renamed {short(new)!r}",
        limit=f"the files cannot be moved along: {short(why)}",
        when="nothing was changed",
        do="move or rename the workspace folder yourself, then rename the user",
        status=409,
    )
