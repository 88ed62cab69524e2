"""Why a new project is not filled as asked. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.errors import Refusal
from .examples import example, short, words

EMPTY = "leave the source empty for an empty folder"


@example(name="torch", known=("python", "experiment"))
def template_unknown(name: str, known: Sequence[str]) -> Refusal:
    """A template that the site does not have."""
    offered = f"choose among {words(known)}" if known else "this site has none"
    return Refusal(
        code="template-unknown",
        asked=f"the template {short(name)!r} was asked for a new project",
        limit="there is no such template",
        do=f"{offered}, or {EMPTY}; nothing was created",
        status=400,
    )


@example(source="http://git.example.org/a/b", schemes=("https",))
def scheme_not_allowed(source: str, schemes: Sequence[str]) -> Refusal:
    """A repository's address with a scheme that the site does not take."""
    what = (
        f"addresses that begin with {words([f'{s}://' for s in schemes])}" if schemes else "no repositories"
    )
    return Refusal(
        code="source-scheme",
        asked=f"a new project from {short(source)} was asked for",
        limit=f"new projects take {what}",
        rule="the site's setting git_schemes",
        do=f"give such an address, or {EMPTY}; nothing was created",
        status=400,
    )


@example(
    source="https://git.example.net/a/b", host="git.example.net", hosts=("github.com", "git.example.org")
)
def host_not_allowed(source: str, host: str, hosts: Sequence[str]) -> Refusal:
    """A repository on a host that the site does not take new projects from."""
    return Refusal(
        code="source-host",
        asked=f"a new project from {short(source)} was asked for",
        limit=f"new projects come from {words(list(hosts)[:8])}, and {short(host)} is not among them",
        rule="the site's setting git_hosts",
        do=f"{EMPTY} and clone it in a terminal of the session, or ask an admin; nothing was created",
    )


@example(environment="TensorFlow 1.15")
def no_git(environment: str) -> Refusal:
    """The environment in which a repository would be fetched has no git."""
    return Refusal(
        code="fetch-no-git",
        asked="a new project from a git repository was asked for",
        limit=f"the environment {short(environment)} has no git, which fetches it",
        do="choose an environment with git for the first start; any other can open the project afterwards",
        status=409,
    )


@example(
    source="https://example.org/a/b",
    why="there is no such repository, or it is private",
    said="fatal: repository 'https://example.org/a/b/' not found",
    do="look at the address; a private repository can be cloned in a terminal of the session",
)
def fetch_failed(source: str, why: str, said: str, do: str) -> Refusal:
    """A repository could not be fetched; ``said`` is git's own last line, as plain text."""
    return Refusal(
        code="fetch-failed",
        asked=f"a new project from {short(source)} was asked for",
        limit=f"{why}; git said: {said[:200]}" if said else why,
        when="no project was made",
        do=do,
        status=424,
    )


@example(source="https://example.org/a/b", limit="3 min", setting="git_time")
def fetch_too_long(source: str, limit: str, setting: str) -> Refusal:
    """A repository took longer than the site gives it."""
    return Refusal(
        code="fetch-too-long",
        asked=f"a new project from {short(source)} was asked for",
        limit=f"fetching it took longer than {limit}",
        rule=f"the site's setting {setting}",
        when="no project was made",
        do=f"try again, or {EMPTY} and clone it in a terminal of the session, where it may take longer",
        status=504,
    )


@example(source="https://example.org/a/b", limit="2 GiB", setting="git_size")
def fetch_too_large(source: str, limit: str, setting: str) -> Refusal:
    """A repository is larger than the site lets a new project begin with."""
    return Refusal(
        code="fetch-too-large",
        asked=f"a new project from {short(source)} was asked for",
        limit=f"it takes more than {limit} of disk space",
        rule=f"the site's setting {setting}",
        when="no project was made",
        do=f"{EMPTY} and clone it with --depth 1 in a terminal of the session, or ask an admin",
        status=413,
    )
