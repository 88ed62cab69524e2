"""Names of images, by the grammar that registries and engines share (distribution/reference). Pure.

An engine takes more than names: a few characters of an id name an image too, and an id has no owner. So
a text is taken apart here first, and `carries` says whether what the engine answered has that very name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*(?::[0-9]{{1,5}})?")
_PATH = re.compile(r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*" + r"(?:/[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_ID = re.compile(r"sha256:[0-9a-f]{64}")
_HEX = re.compile(r"(?:sha256:)?[0-9a-f]{2,64}")
_PLAIN = re.compile(r"[A-Za-z0-9._/:@-]+")
MAX_NAME = 255
DEFAULT_DOMAIN = "docker.io"


@dataclass(frozen=True)
class Reference:
    """An image's name, normalised. Either ``id`` is set, or ``domain`` and ``path`` with tag or digest."""

    domain: str = ""
    path: str = ""
    tag: str = ""
    digest: str = ""
    id: str = ""
    """A full id, ``sha256:`` and 64 digits."""

    @property
    def name(self) -> str:
        """Where it is kept: ``docker.io/library/python``."""
        return f"{self.domain}/{self.path}"

    def __str__(self) -> str:
        """The whole reference, normalised."""
        if self.id:
            return self.id
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag}"


def parse(text: str) -> Reference:
    """Take a reference apart; ``ValueError`` with a clause where it is none."""
    if not _PLAIN.fullmatch(text):
        raise ValueError("an image's name has letters, digits and . _ - / : @ only, no quotes or variables")
    if _ID.fullmatch(text):
        return Reference(id=text)
    head, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise ValueError(
            f"what follows the @ is not a digest, such as sha256: with 64 digits: {digest[:20]!r}"
        )
    name, tag = _split_tag(head)
    if tag is not None and not _TAG.fullmatch(tag):
        raise ValueError(f"{tag[:40]!r} is not a tag")
    domain, path = _split_domain(name)
    if not _DOMAIN.fullmatch(domain) or not _PATH.fullmatch(path) or len(path) > MAX_NAME:
        raise ValueError("it is not an image's name, such as `python:3.12-slim`; names are in lower case")
    if not at and re.fullmatch(r"[0-9a-f]{64}", name):
        raise ValueError("an image's id is written with sha256: before it")
    return Reference(domain, path, "" if at else (tag or "latest"), digest)


def _split_tag(text: str) -> tuple[str, str | None]:
    head, colon, tag = text.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (text, None)


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    is_domain = slash and ("." in first or ":" in first or first == "localhost" or first.lower() != first)
    domain, path = (first, rest) if is_domain else (DEFAULT_DOMAIN, name)
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = f"library/{path}"
    return domain, path


def parsed(texts: Iterable[str]) -> list[Reference]:
    """The references among texts of an engine, which writes ``<none>:<none>`` for none."""
    found = []
    for text in texts:
        try:
            found.append(parse(text))
        except ValueError:
            continue
    return found


def carries(wanted: Reference, image_id: str, tags: Iterable[str], digests: Iterable[str]) -> bool:
    """Whether an image has the very name asked for. An engine also answers for the beginning of an id."""
    if wanted.id:
        return image_id == wanted.id
    if wanted.digest:
        return any((r.name, r.digest) == (wanted.name, wanted.digest) for r in parsed(digests))
    return any((r.name, r.tag) == (wanted.name, wanted.tag) for r in parsed(tags))


def looks_like_id(text: str) -> bool:
    """Whether a text is more likely part of an id than a name: for the way out in a message."""
    return bool(_HEX.fullmatch(text)) and any(c.isdigit() for c in text)
