"""One look at a session's programs and counters, and what kind of program each is. Pure values."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Kind = Literal["server", "kernel", "shell", "tool", "work"]

_SERVERS = re.compile(
    r"jupyterhub-singleuser|jupyterhub\.singleuser|jupyter-(?:lab|labhub|notebook|server)\b"
)
_KERNELS = re.compile(r"ipykernel|/kernel-[0-9a-f-]{8,}\.json|(?:^|/)kernel-[0-9a-f-]{8,}\.json")
_SHELLS = frozenset(
    {"sh", "ash", "bash", "dash", "zsh", "fish", "ksh", "tcsh", "csh", "login", "su"}
    | {"tini", "dumb-init", "docker-init"}
)
_TOOLS = frozenset(
    {"vi", "vim", "nvim", "nano", "emacs", "less", "more", "man", "tail", "tmux", "screen", "sleep", "watch"}
    | {"top", "htop", "btop", "nvtop", "nvitop", "nvidia-smi", "ps", "w"}
    | {"ssh-agent", "gpg-agent", "dbus-daemon"}
)
_WRAPPERS = frozenset(["env", "nohup", "nice", "time", "timeout", "stdbuf", "setsid"])


@dataclass(frozen=True)
class Process:
    """A process of a container. ``cpu`` is the CPU time it ever used, in seconds."""

    pid: int
    started: int
    name: str
    kind: Kind
    cpu: float


@dataclass(frozen=True)
class Sample:
    """One look at a container: its counters, its processes, and when a terminal last read input.

    A part that could not be read is None, with the reason in ``missing``.
    """

    cpu: float | None
    network: int | None
    processes: tuple[Process, ...] | None
    typed_at: datetime | None = None
    missing: str = ""
    sees_typing: bool = True
    """False where keystrokes cannot be seen, so that ``typed_at`` says nothing."""


def classify(argv: Sequence[str]) -> tuple[str, Kind]:
    """A short name for a command line, and what kind of program it is."""
    line = " ".join(argv)
    if _SERVERS.search(line):
        return "notebook server", "server"
    if _KERNELS.search(line):
        return "kernel", "kernel"
    words = [w for w in argv if w] or [""]
    while len(words) > 1 and _base(words[0]) in _WRAPPERS:
        words = words[1:]
    program = _base(words[0]).lstrip("-")
    if program in _SHELLS:
        return program, "shell"
    if program in _TOOLS:
        return program, "tool"
    script = next((_base(w) for w in words[1:] if not w.startswith("-")), "")
    interpreter = re.match(r"(?:python|perl|ruby|node|java|Rscript|R|julia)[0-9.]*$", program)
    return (f"{program} {script}" if interpreter and script else program), "work"


def _base(path: str) -> str:
    return os.path.basename(path)
