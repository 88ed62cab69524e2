"""Refusals and failures of devices, engine and start. Pure; never log text."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.errors import Refusal
from .examples import RETRY_LATER, RETRY_SOON, example, rule_text, short, words


@example(places=("/workspace",))
def folder_swapped(places: Sequence[str]) -> Refusal:
    """A started container has another folder than the one that was checked."""
    return Refusal(
        code="folder-swapped",
        asked="a session was asked for",
        limit=f"the folder at {words(places)} was exchanged for another one while the session started",
        when="nothing of it is kept running",
        do="try again; tell an admin if you did not move or replace the project's folder",
        status=409,
    )


@example(ways=("TCP over IPv4", "UDP over IPv4"))
def sessions_not_apart(ways: Sequence[str]) -> Refusal:
    """The probe found that sessions on the network reach each other's ports."""
    return Refusal(
        code="network-open",
        asked="a session was asked for",
        limit=f"this server does not keep sessions apart: one reaches another by {words(ways)}",
        when="until an admin has put that right",
        do="tell an admin; `ds01 check isolation` shows what was tried",
        status=503,
        retry_after=RETRY_LATER,
    )


@example(seconds=20)
def lock_busy(seconds: int) -> Refusal:
    """The claim lock could not be had; without it nothing is granted."""
    return Refusal(
        code="busy",
        asked="a session was asked for",
        limit=f"another start held the lock on the devices for more than {seconds} seconds",
        do="try again; nothing was created",
        status=503,
        retry_after=RETRY_SOON,
    )


@example(limit=2, source="defaults (policy.yaml:40)")
def too_many_tickets(limit: int, source: str) -> Refusal:
    """The person waits in as many places of the queue as they may."""
    return Refusal(
        code="queue-places",
        asked="one more place in the queue was asked for",
        limit="you may not wait in the queue" if limit == 0 else f"you may hold {limit} at a time",
        rule=rule_text(source),
        do="start without a GPU" if limit == 0 else "give one of your places up, or start without a GPU",
        status=409,
    )


@example(why="the engine does not answer")
def engine_down(why: str = "the engine does not answer") -> Refusal:
    """The container engine cannot be asked, so nothing is granted."""
    return Refusal(
        code="engine-down",
        asked="a session was asked for",
        limit=f"the container engine cannot be used: {why}",
        when="running sessions are not touched",
        do="try again in a minute; if it lasts, tell an admin",
        status=503,
        retry_after=RETRY_SOON,
    )


@example(seconds=890)
def turn_never_came(seconds: int) -> Refusal:
    """Too many others started at the same time, and this start was not let through."""
    return Refusal(
        code="start-crowded",
        asked="the session was started",
        limit=f"so many others were starting that its turn did not come within {seconds} seconds",
        when="nothing is held by it and your files are untouched",
        do="start again in a few minutes, when the others are done",
        status=503,
        retry_after=60,
    )


@example(seconds=110)
def start_timeout(seconds: int) -> Refusal:
    """The session did not answer in time and was removed."""
    return Refusal(
        code="start-timeout",
        asked="the session was started",
        limit=f"it did not answer within {seconds} seconds and was removed again",
        when="nothing is held by it and your files are untouched",
        do="start again; if it happens twice with this environment, look at the log below or try another one",
        status=504,
        retry_after=RETRY_SOON,
    )


@example(why="no space left on device")
def start_failed(why: str) -> Refusal:
    """The start went wrong for a reason of the site's."""
    return Refusal(
        code="start-failed",
        asked="the session could not be started",
        limit=why,
        when="what it had made was removed and your files are untouched",
        do="start again; if it happens twice, tell an admin what stands here",
        status=500,
    )


@example(memory="8 GiB", source="group students (policy.yaml:16)")
def out_of_memory(memory: str, source: str = "") -> Refusal:
    """The kernel ended the session because it passed its memory."""
    most = f"its limit of {memory}" if memory else "it may"
    return Refusal(
        code="out-of-memory",
        asked="the session ended",
        limit=f"it used more memory than {most}, and was ended by the kernel",
        rule=rule_text(source),
        when="your files are untouched",
        do="start again with smaller batches or less data in memory, or ask for an exception",
        status=500,
    )


@example(what=["memory is unlimited instead of 8 GiB"])
def limits_not_in_force(what: Sequence[str]) -> Refusal:
    """The kernel does not enforce what the session was created with, so it does not stay."""
    return Refusal(
        code="limits-not-in-force",
        asked="the session was started",
        limit=f"its limits were not in force: {words(what)}",
        when="it was removed again and your files are untouched",
        do="tell an admin what stands here; the machine's cgroups or the engine need mending",
        status=500,
    )


@example(reason="its main process stopped with exit code 1")
def crashed(reason: str) -> Refusal:
    """The session's container ended by itself."""
    return Refusal(
        code="crashed",
        asked="the session ended",
        limit=reason,
        when="your files are untouched",
        do="look at the last lines of its log, then start again or try another environment",
        status=500,
    )


@example(reason="its main process stopped with exit code 1")
def crashed_at_start(reason: str) -> Refusal:
    """The container ended before its server answered."""
    return Refusal(
        code="crashed-at-start",
        asked="the session was started",
        limit=f"it ended before it answered: {reason}",
        when="nothing is held by it and your files are untouched",
        do="look at the last lines of its log, or try another environment",
        status=500,
    )


@example(until="Fri 18:00 UTC", reason="kernel update")
def maintenance(until: str, reason: str) -> Refusal:
    """The site takes no new sessions."""
    return Refusal(
        code="maintenance",
        asked="a session was asked for",
        limit="no new sessions are started at the moment" + (f": {reason}" if reason else ""),
        when=f"until {until}" if until else "",
        do="come back then; your files stay",
        status=503,
        retry_after=RETRY_LATER,
    )


@example(name="ds01-alice-thesis")
def name_taken(name: str) -> Refusal:
    """A container that is not this session's has the name the session needs."""
    return Refusal(
        code="name-taken",
        asked="the session could not be started",
        limit=f"a container this session may not touch has its name, {short(name)!r}",
        do="tell an admin; nothing of it was changed",
        status=409,
    )
