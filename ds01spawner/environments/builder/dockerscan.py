"""Read a Dockerfile strictly: what builders of different age could read in two ways is refused. Pure.

Nothing is guessed: a line that is let through has one reading, which `pinning` writes back in a form that
leaves a builder no other.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from ...core.errors import Problem
from ...core.yaml_reader import FileProblems

WORDS = frozenset(
    [
        "ADD",
        "ARG",
        "CMD",
        "COPY",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "FROM",
        "HEALTHCHECK",
        "LABEL",
        "MAINTAINER",
        "ONBUILD",
        "RUN",
        "SHELL",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "WORKDIR",
    ]
)
MAX_STEPS = 500
MAX_LINE = 60_000
"""Bytes of one instruction. The builder reads lines of less than 64 KiB."""
_INSTRUCTION = re.compile(r"([A-Za-z]+)(?:[ \t]+(.*))?")
_CONTINUED = re.compile(r"(\\+)[ \t]*$")
_ESCAPE = re.compile(r"#\s*escape\s*=\s*(\S*)\s*", re.IGNORECASE)
_HEREDOC = re.compile(r"(?:^|\s)[0-9]*<<-?[^<\s]")


@dataclass(frozen=True)
class Instruction:
    """One instruction with the line it starts on; ``rest`` is whole, continuations joined."""

    line: int
    word: str
    rest: str

    @property
    def text(self) -> str:
        """The instruction as one line."""
        return f"{self.word} {self.rest}".strip()


def read(text: str, name: str = "Dockerfile") -> tuple[Instruction, ...]:
    """The instructions in the order of the build's steps; `FileProblems` with every line that is refused."""
    problems = _signs(text, name)
    if problems:
        raise FileProblems(problems)
    found: list[Instruction] = []
    parts: list[str] = []
    start = number = 0
    for number, line in enumerate(text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n"), 1):
        if not found and not parts and (match := _ESCAPE.fullmatch(line.strip())) and match[1] != "\\":
            problems.append(Problem(name, number, "escape", "another escape character is not supported"))
        if line.lstrip().startswith("#") or (not line.strip() and parts):
            continue
        start = start if parts else number
        more = _CONTINUED.search(line)
        if more and len(more[1]) > 1:
            problems.append(Problem(name, number, "", "builders differ on more than one \\ at a line's end"))
        parts.append(line[: more.start()] if more else line)
        if not more:
            _close(found, problems, start, "".join(parts), name)
            parts = []
    if parts:
        problems.append(Problem(name, start, "", "the last line ends with a \\; take it out"))
    if not any(i.word == "FROM" for i in found):
        problems.append(Problem(name, 1, "FROM", "is missing: a Dockerfile starts from an image"))
    if len(found) > MAX_STEPS:
        problems.append(Problem(name, 0, "", f"more than {MAX_STEPS} instructions"))
    if problems:
        raise FileProblems(problems[:50])
    return tuple(found)


def read_one(text: str) -> Instruction:
    """The instruction of an image's build trigger; `ValueError` where it is not exactly one."""
    if "\n" in text or _signs(text, ""):
        raise ValueError("it is not one plain line")
    found: list[Instruction] = []
    problems: list[Problem] = []
    more = _CONTINUED.search(text)
    _close(found, problems, 1, text, "")
    if problems or more or len(found) != 1:
        raise ValueError(problems[0].message if problems else "it is not one instruction")
    return found[0]


def _signs(text: str, name: str) -> list[Problem]:
    """Signs that editors do not show and builders read in different ways, outside of comments."""
    problems = []
    for number, line in enumerate(text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n"), 1):
        if line.lstrip(" \t").startswith("#") and not any(
            c in line for c in "\0\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
        ):
            continue
        for sign in line:
            if sign in " \t" or (sign.isascii() and sign.isprintable()):
                continue
            if unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp"):
                kind = f"the sign U+{ord(sign):04X}, which cannot be seen; write it anew without"
                problems.append(Problem(name, number, "", kind))
                break
    return problems[:20]


def _close(found: list[Instruction], problems: list[Problem], start: int, text: str, name: str) -> None:
    text = text.strip(" \t")
    if not text:
        return
    match = _INSTRUCTION.fullmatch(text)
    if match is None or match[1].upper() not in WORDS:
        word = text.split()[0][:40]
        problems.append(Problem(name, start, "", f"{word!r} is not an instruction of a Dockerfile"))
        return
    instruction = Instruction(start, match[1].upper(), (match[2] or "").strip(" \t"))
    if why := _unfit(instruction):
        problems.append(Problem(name, start, instruction.word, why))
    found.append(instruction)


def _unfit(instruction: Instruction) -> str:
    if not instruction.rest:
        return "nothing follows it"
    if len(instruction.text.encode()) > MAX_LINE:
        return f"it is longer than {MAX_LINE} bytes, continuations joined; put it into a script and COPY that"
    if instruction.rest.endswith("\\"):
        return "it ends with a \\"
    if instruction.word in ("RUN", "COPY", "ADD", "ONBUILD") and _HEREDOC.search(instruction.rest):
        return "the builder here knows no heredocs (<<); put the text into a file of the project and COPY it"
    return ""
