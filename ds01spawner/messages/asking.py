"""What is wrong with a request itself, before any limit is looked at. Pure."""

from __future__ import annotations

from ..core.errors import Refusal
from .examples import RETRY_LATER, RETRY_SOON, example, short


@example(project="thesis", why="the file system is mounted read-only")
def workspace_unusable(project: str, why: str) -> Refusal:
    """The project's folder could not be made or prepared."""
    return Refusal(
        code="workspace-unusable",
        asked=f"the folder of project {short(project)!r} cannot be used",
        limit=why,
        do="choose another project, or tell an admin what stands here; no file was changed",
        status=409,
    )


@example(why="setquota: project identifier not found")
def quota_not_set(why: str) -> Refusal:
    """The site's own command that gives a workspace its quota failed."""
    return Refusal(
        code="quota-not-set",
        asked="a session was asked for",
        limit=f"your workspace could not be given its quota: {short(why)}",
        when="your files are untouched",
        do="tell an admin what stands here; then start again",
        status=503,
    )


@example(server="My server")
def bad_server(server: str) -> Refusal:
    """A server name that the hub would refuse when it starts."""
    return Refusal(
        code="bad-server",
        asked=f"a place in the queue for the server {short(server)!r} was asked for",
        limit="the hub makes no server of that name: it has 1 to 30 lower-case letters, digits and single "
        "dashes and begins with a letter",
        do="choose another name, or leave it empty for your default server",
        status=400,
    )


@example(what="places in the queue", most=200)
def too_many_a_day(what: str, most: int) -> Refusal:
    """More of something within a day than any person needs, whatever became of it."""
    return Refusal(
        code="too-many-a-day",
        asked=f"one more of your {what} was asked for",
        limit=f"you have asked for {most} within the last 24 hours",
        do="wait a while; if a program of yours asks again and again, stop it",
        status=429,
        retry_after=RETRY_LATER,
    )


@example()
def too_many_at_once() -> Refusal:
    """More requests of one person in progress than the service keeps waiting."""
    return Refusal(
        code="too-many-at-once",
        asked="one more request was sent to the service",
        limit="many of yours are still being answered",
        do="wait for their answers, then try again",
        status=429,
        retry_after=RETRY_SOON,
    )


@example(why="it has no end within the next year", do="say until when you need it")
def bad_request(why: str, do: str) -> Refusal:
    """A request for more than one's limits that cannot be taken as it stands."""
    return Refusal(
        code="bad-request",
        asked="the request for more cannot be taken",
        limit=why,
        do=do,
        status=400,
    )


@example()
def no_request() -> Refusal:
    """There is no such open request for more, or it is another person's."""
    return Refusal(
        code="no-request",
        asked="this request was asked for",
        limit="there is no such open request, or it is not yours",
        do="look at the list of requests",
        status=404,
    )


@example(name="gpu_count", why="it is a number from 1 to 16")
def bad_option(name: str, why: str) -> Refusal:
    """An option of a start that cannot be used."""
    shown = name if len(name) <= 40 else name[:40] + "…"
    return Refusal(
        code="bad-options",
        asked=f"the option {shown!r} cannot be used",
        limit=why,
        do="correct it and start again; nothing was created",
        status=400,
    )
