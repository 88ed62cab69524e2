"""Sentences that tell people something without refusing anything. Pure."""

from __future__ import annotations

from datetime import datetime

from ..core.text import stamp
from .examples import short


def memory_kill(project: str, memory: str, times: int) -> str:
    """Processes of a running session were ended for want of memory; the session itself goes on."""
    what = "A process" if times == 1 else f"{times} processes"
    limit = f" of {memory}" if memory else ""
    was = "was" if times == 1 else "were"
    return (
        f"{what} in your session on project {short(project)!r} {was} ended by the kernel, because the "
        f"session used all its memory{limit}. The session goes on and your files are untouched. Restart the "
        "kernel or program with smaller batches or less data in memory, or ask for more memory."
    )


def ends_at(end: datetime | None) -> str:
    """When a session ends at the latest, for the progress of its start."""
    if end is None:
        return "Container created; your policy sets no longest life"
    return f"Container created; it ends at {stamp(end)} at the latest, and you are warned before"


def request_answered(state: str, asked: str, by: str, answer: str, until: datetime | None) -> str:
    """An admin approved or denied what a person asked for."""
    text = f"Your request for {short(asked)} was {state} by {by}"
    if state == "approved" and until is not None:
        text += f", until {stamp(until)}; it counts for sessions you start from now on"
    return f"{text}." + (f" {answer}" if answer else "")


def layer_over(project: str, used: str, limit: str, retire: bool) -> str:
    """A session has written more outside its project than it may."""
    then = "It is retired now" if retire else "Delete what you do not need, or move it into the project"
    return (
        f"Your session on project {short(project)!r} has {used} of files outside its project, such as "
        f"in /tmp or in its home folder, and {limit} is the limit. Such files end with the session. {then}."
    )


def layer_retired(used: str, limit: str) -> str:
    """Why a session was retired that wrote too much outside its project."""
    return f"it had {used} of files outside its project, and {limit} is the limit"


def hub_moved(project: str) -> str:
    """A session that was started when the hub had another inner address."""
    return (
        f"Your session on project {short(project)!r} cannot reach the hub any more, because the hub was "
        "moved. What runs in it goes on, and so does a page that is open; opening it anew ends in an error. "
        "Your files are safe. Retire the session and start it again."
    )


def unknown_to_hub(project: str) -> str:
    """A session runs on though the hub does not know its server (any more)."""
    return (
        f"Your session on project {short(project)!r} still runs, but the hub has lost it. Start it again "
        "under the same name to be back in it, as it is, or retire it. Otherwise it is retired in some "
        "time. Save your work; your project folder stays."
    )
