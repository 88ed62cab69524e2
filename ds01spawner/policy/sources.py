"""Where a new project's first files come from: a git repository or one of the site's templates. Pure.

A source is one line of text that somebody typed or linked to: ``https://host/path#branch`` or
``template:NAME``. It is checked twice: its shape by `parse_source`, whoever sends it, and the site's own
rules by `Rules.refusal` when a start would use it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from urllib.parse import urlsplit

from .. import messages
from ..core.errors import Refusal

MAX_SOURCE = 500
MAX_BRANCH = 200
SCHEMES = ("https", "http")
"""Schemes a site may allow. Others run programs, read local files, or need keys nobody gives to a start."""
TEMPLATE = "template:"
ALLOWED = (
    "allowed are an address such as https://example.org/group/repository, with #branch at its end for "
    "another branch than the usual one, and template:NAME for a template of the site"
)

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
_PLAIN = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_CONTROL = re.compile(r"%(?:[01][0-9a-fA-F]|5[cC]|7[fF]|(?![0-9a-fA-F]{2}))")
_BRANCH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+@=-]*")
_SSH = re.compile(r"[\w.-]+@[\w.-]+:.*|ssh://.*")


@dataclass(frozen=True)
class GitSource:
    """A repository to clone; ``branch`` is a branch or tag, empty for the repository's own choice."""

    url: str
    branch: str = ""

    @property
    def scheme(self) -> str:
        """``https`` or ``http``."""
        return self.url.partition(":")[0]

    @property
    def host(self) -> str:
        """The host's name in lower case, without port."""
        return (urlsplit(self.url).hostname or "").rstrip(".")

    def __str__(self) -> str:
        return f"{self.url}#{self.branch}" if self.branch else self.url


@dataclass(frozen=True)
class TemplateSource:
    """A template of the site, by its name."""

    name: str

    def __str__(self) -> str:
        return f"{TEMPLATE}{self.name}"


Source = GitSource | TemplateSource


def parse_source(text: str) -> Source | None:
    """The source that ``text`` names, None for no text; ``ValueError`` says what is wrong and allowed."""
    if not text:
        return None
    if len(text) > MAX_SOURCE:
        raise ValueError(f"it is longer than {MAX_SOURCE} characters")
    if text.startswith(TEMPLATE):
        name = text[len(TEMPLATE) :]
        if not _NAME.fullmatch(name) or ".." in name:
            raise ValueError(f"a template is named as the launch page shows it; {ALLOWED}")
        return TemplateSource(name)
    if _SSH.fullmatch(text):
        raise ValueError(
            "an address that needs an SSH key cannot be used here; take the one that begins with https://, "
            "as the repository's page shows it"
        )
    return _git(text)


def _git(text: str) -> GitSource:
    if not _PLAIN.fullmatch(text):
        raise ValueError(f"it has spaces or characters that an address cannot have; {ALLOWED}")
    url, _, branch = text.partition("#")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"its host or port cannot be read; {ALLOWED}") from None
    if parts.scheme not in SCHEMES or not url.startswith(f"{parts.scheme}://"):
        raise ValueError(ALLOWED)
    if "@" in parts.netloc:
        raise ValueError(
            "an address must not carry a user name or password: others would read it; a private repository "
            "can be cloned in a terminal of the session"
        )
    if not _is_host(parts.netloc, parts.hostname or "") or port == 0:
        raise ValueError(f"it names no host; {ALLOWED}")
    if "?" in url:
        raise ValueError("an address of a repository has no question mark; leave out what comes after it")
    if not parts.path.strip("/") or _CONTROL.search(url):
        raise ValueError(f"it names no repository on {parts.hostname}; {ALLOWED}")
    if "#" in text and not is_branch(branch):
        raise ValueError("what comes after # is not the name of a branch or tag")
    return GitSource(url, branch)


def _is_host(netloc: str, host: str) -> bool:
    if not netloc.startswith("["):
        return len(host) <= 253 and bool(_HOST.fullmatch(host))
    try:
        return IPv6Address(host) is not None
    except ValueError:
        return False


def is_branch(name: str) -> bool:
    """Whether ``name`` can be a branch or tag, by git's own rules and ours (plain ASCII)."""
    return (
        len(name) <= MAX_BRANCH
        and bool(_BRANCH.fullmatch(name))
        and not any(bad in name for bad in ("..", "//", "@{", "/."))
        and not name.endswith(("/", ".", ".lock"))
        and ".lock/" not in name
    )


@dataclass(frozen=True)
class Rules:
    """What one site allows. No schemes: no repositories at all; no hosts: any host."""

    schemes: Sequence[str] = ("https",)
    hosts: Sequence[str] = ()
    """Host names; ``*.example.org`` means every name below it."""
    templates: Sequence[str] = ()

    @property
    def git(self) -> bool:
        """Whether any repository can be had."""
        return any(scheme in SCHEMES for scheme in self.schemes)

    def refusal(self, source: Source) -> Refusal | None:
        """Why this site does not take a source, or None where it does."""
        if isinstance(source, TemplateSource):
            if source.name in self.templates:
                return None
            return messages.template_unknown(source.name, tuple(self.templates))
        if source.scheme not in self.schemes:
            return messages.scheme_not_allowed(str(source), tuple(s for s in self.schemes if s in SCHEMES))
        if self.hosts and not any(_matches(source.host, pattern) for pattern in self.hosts):
            return messages.host_not_allowed(str(source), source.host, tuple(self.hosts))
        return None


def _matches(host: str, pattern: str) -> bool:
    pattern = pattern.lower()
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern
