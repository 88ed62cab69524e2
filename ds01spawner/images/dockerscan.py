"""Read a user's Dockerfile before it is sent: which images it takes from, which files it copies. Pure.

The builder itself keeps a build inside its context. This adds what it does not know: that an image on
the same engine may belong to somebody else. It follows the builder's own reading of lines, and refuses
the few things that would make the two read differently.
"""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..errors import Problem
from .yamlfile import FileProblems

_INSTRUCTION = re.compile(r"\s*(?:ONBUILD\s+)*([A-Za-z]+)\s*(.*)", re.DOTALL | re.IGNORECASE)
_CONTINUED = re.compile(r"\\[ \t]*$")
_DIRECTIVE = re.compile(r"\s*#\s*(escape)\s*=", re.IGNORECASE)
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|([A-Za-z_][A-Za-z0-9_]*))")
_ID = re.compile(r"(?:sha256:)?[0-9a-f]{4,64}", re.IGNORECASE)


@dataclass(frozen=True)
class Instruction:
    """One instruction with the line it starts on; ``text`` is whole, continuations joined."""

    line: int
    word: str
    rest: str

    @property
    def text(self) -> str:
        """The instruction as one line."""
        return f"{self.word} {self.rest}".strip()


def instructions(text: str) -> list[Instruction]:
    """The instructions in the order of the build's steps."""
    found: list[Instruction] = []
    parts: list[str] = []
    start = 0
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.rstrip("\r")
        if line.lstrip().startswith("#") or (not line.strip() and parts):
            continue
        if not parts:
            start = number
        more = _CONTINUED.search(line)
        parts.append(line[: more.start()] if more else line)
        if not more:
            _close(found, start, parts)
            parts = []
    _close(found, start, parts)
    return found


def _close(found: list[Instruction], start: int, parts: list[str]) -> None:
    match = _INSTRUCTION.fullmatch("".join(parts))
    if match and match[1]:
        found.append(Instruction(start, match[1].upper(), match[2].strip()))


@dataclass(frozen=True)
class Scan:
    """What a Dockerfile takes: ``images`` as ``(line, reference)``, ``sources`` as ``(line, path)``."""

    images: tuple[tuple[int, str], ...]
    sources: tuple[tuple[int, str], ...]
    steps: tuple[Instruction, ...]


def scan(text: str, name: str = "Dockerfile") -> Scan:
    """Read a Dockerfile; `FileProblems` for what is refused whatever the policy."""
    problems: list[Problem] = []
    if any(_DIRECTIVE.match(line) for line in text.split("\n")[:20]):
        problems.append(Problem(name, 1, "escape", "another escape character is not supported"))
    steps = instructions(text)
    if not any(s.word == "FROM" for s in steps):
        problems.append(Problem(name, 1, "FROM", "is missing: a Dockerfile starts from an image"))
    images, sources = [], []
    variables: dict[str, str] = {}
    stages: set[str] = set()
    before_from = True
    for step in steps:
        if step.word == "ARG" and before_from:
            key, _, value = step.rest.partition("=")
            variables[key.strip()] = value.strip().strip("\"'")
        elif step.word == "FROM":
            before_from = False
            reference, stage = _from(step, variables)
            if reference is None:
                problems.append(Problem(name, step.line, "FROM", f"cannot be read: {step.rest[:60]!r}"))
            elif reference.lower() not in stages:
                images.append((step.line, reference))
            if stage:
                stages.add(stage.lower())
        elif step.word in ("COPY", "ADD"):
            taken, paths = _copy(step)
            if taken is not None and taken.lower() not in stages and not taken.isdecimal():
                images.append((step.line, taken))
            elif taken is None:
                sources += [(step.line, p) for p in paths]
    problems += [Problem(name, line, "FROM", why) for line, ref in images if (why := _unclear(ref))]
    problems += [
        Problem(name, line, "COPY", f"{path!r} reaches outside the project; copy files of the project only")
        for line, path in sources
        if _escapes(path)
    ]
    if problems:
        raise FileProblems(sorted(problems, key=lambda p: p.line))
    return Scan(tuple(images), tuple(sources), tuple(steps))


def _from(step: Instruction, variables: dict[str, str]) -> tuple[str | None, str]:
    words = [w for w in step.rest.split() if not w.startswith("--")]
    if len(words) not in (1, 3) or (len(words) == 3 and words[1].lower() != "as"):
        return None, ""

    def value(match: re.Match[str]) -> str:
        return variables.get(match[1] or match[3] or "", match[2] or "")

    return _VARIABLE.sub(value, words[0]).strip("\"'"), words[2] if len(words) == 3 else ""


def _copy(step: Instruction) -> tuple[str | None, list[str]]:
    """The image or stage of ``--from``, and the sources."""
    rest, taken = step.rest, None
    while flag := re.match(r"--([a-z-]+)(?:=(\S*))?\s+", rest):
        if flag[1] == "from":
            taken = (flag[2] or "").strip("\"'")
        rest = rest[flag.end() :]
    if rest.startswith("["):
        try:
            words = [str(w) for w in json.loads(rest)]
        except ValueError:
            words = rest.split()
    else:
        try:
            words = shlex.split(rest)
        except ValueError:
            words = rest.split()
    return taken, words[:-1]


def _unclear(reference: str) -> str:
    if reference == "scratch":
        return ""
    if "$" in reference or not reference:
        return "the image must be written out, or given by an ARG with a default above the first FROM"
    if _ID.fullmatch(reference):
        return f"{reference[:20]!r} looks like an image's id; images are taken by name"
    return ""


def _escapes(path: str) -> bool:
    if re.match(r"[a-z]+://", path):
        return False
    normal = posixpath.normpath(path.lstrip("/"))
    return normal == ".." or normal.startswith("../") or ".." in path.split("/")


def refused_images(found: Scan, allowed: Callable[[str], str], name: str = "Dockerfile") -> list[Problem]:
    """A problem for each image that ``allowed`` gives a reason against (empty: it may be used)."""
    return [
        Problem(name, line, "FROM", why)
        for line, ref in found.images
        if ref != "scratch" and (why := allowed(ref))
    ]


def refused_sources(found: Scan, outside: Iterable[str], name: str = "Dockerfile") -> list[Problem]:
    """A problem for each copied path that is, or goes through, a link out of the project."""
    links = set(outside)
    problems = []
    for line, path in found.sources:
        parts = posixpath.normpath(path.lstrip("/")).split("/")
        above = {"/".join(parts[: i + 1]) for i in range(len(parts))}
        for link in sorted(links & above):
            problems.append(
                Problem(
                    name,
                    line,
                    "COPY",
                    f"{link!r} is a link that leads outside the project; copy the file itself",
                )
            )
    return problems
