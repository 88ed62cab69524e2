"""A Dockerfile rewritten so that the builder sees ids of images only, and no line has a second reading.

Pure but for ``resolve``, which says what an image's name means for whoever builds. Every image is written
as ``sha256:`` with all digits, every stage by its number, labels and added files with their variables
replaced; what cannot be written so is refused with its line and a way out.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from ...core.errors import Problem
from ...core.yaml_reader import FileProblems
from ..facts import ImageFacts
from ..image_labels import is_reserved, reserved
from . import dockerscan, dockerwords
from .dockerscan import Instruction

Resolve = Callable[[str], ImageFacts]
"""What a name means for whoever builds; ``ValueError`` with a clause where it means nothing for them."""

_STAGE = re.compile(r"[a-z][a-z0-9_.-]{0,99}")
_FLAG = re.compile(r"--([a-z-]+)(?:=((?:[^\s\"'\\]|\"[^\"\\\s]*\")*))?(?:\s+|$)")
_CHOWN = re.compile(r"[A-Za-z0-9_.-]{1,64}(?::[A-Za-z0-9_.-]{1,64})?|:[A-Za-z0-9_.-]{1,64}")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")
_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|[^/]*@[^/]*:|github\.com/", re.IGNORECASE)
_HEALTH = frozenset({"interval", "timeout", "start-period", "retries"})
_INSTEAD = {
    "mount": "copy what the step needs, and remove it in the same step",
    "chmod": "add a line RUN chmod …",
    "link": "leave it out",
    "network": "leave it out",
    "security": "leave it out",
    "checksum": "leave it out",
}
SCRATCH = "scratch"


@dataclass(frozen=True)
class PinnedImage:
    """An image a Dockerfile takes from: the line, the name as written there, and what it is."""

    line: int
    reference: str
    facts: ImageFacts


@dataclass(frozen=True)
class PinnedDockerfile:
    """A Dockerfile for the builder. ``text`` has one line for each of ``steps``, which are the author's."""

    text: str
    steps: tuple[Instruction, ...]
    images: tuple[PinnedImage, ...]
    sources: tuple[tuple[int, str], ...]
    """Paths of the project that are copied, with the lines they are on."""


@dataclass
class _Stage:
    name: str = ""
    env: dict[str, str] = field(default_factory=dict)
    args: dict[str, str] = field(default_factory=dict)

    @property
    def values(self) -> Mapping[str, str]:
        return {**self.args, **self.env}


def pin(
    text: str, resolve: Resolve, name: str = "Dockerfile", platform: str = "linux/amd64"
) -> PinnedDockerfile:
    """Rewrite a Dockerfile; `FileProblems` with every line that is refused."""
    return _Pinner(resolve, name, platform).pin(dockerscan.read(text, name))


class _Pinner:
    def __init__(self, resolve: Resolve, name: str, platform: str) -> None:
        self.resolve = resolve
        self.name = name
        self.platform = platform
        self.globals: dict[str, str] = {}
        self.stages: list[_Stage] = []
        self.images: list[PinnedImage] = []
        self.sources: list[tuple[int, str]] = []
        self.line = 0

    def pin(self, steps: tuple[Instruction, ...]) -> PinnedDockerfile:
        lines: list[str] = []
        problems: list[Problem] = []
        for step in steps:
            self.line = step.line
            try:
                lines.append(self._write(step))
            except ValueError as error:
                problems.append(Problem(self.name, step.line, step.word, str(error)))
                if step.word == "FROM":
                    self.stages.append(_Stage())
        if problems:
            raise FileProblems(problems)
        return PinnedDockerfile("\n".join(lines) + "\n", steps, tuple(self.images), tuple(self.sources))

    def _write(self, step: Instruction) -> str:
        if step.word == "FROM":
            return self._from(step.rest)
        if not self.stages:
            if step.word != "ARG":
                raise ValueError("only ARG may stand before the first FROM")
            return self._global_arg(step.rest)
        if step.word in ("COPY", "ADD"):
            return self._copy(step)
        if step.word == "LABEL":
            return self._label(step.rest)
        if step.word == "ONBUILD":
            trigger = dockerscan.read_one(step.rest)
            check_trigger(trigger)
            return f"ONBUILD {trigger.text}"
        _no_flags(step)
        if step.word in ("ARG", "ENV"):
            self._set(self.stages[-1], step)
        return step.text

    # ------------------------------------------------------------ images

    def _from(self, rest: str) -> str:
        flags, rest = _flags(rest)
        for flag, value in flags:
            if flag != "platform":
                raise ValueError(_no_flag(flag))
            self._check_platform(value)
        words = rest.split()
        if len(words) not in (1, 3) or (len(words) == 3 and words[1].lower() != "as"):
            raise ValueError(f"cannot be read: {rest[:60]!r}; write FROM image, or FROM image AS name")
        if any(c in words[0] for c in "\"'\\"):
            raise ValueError("an image's name stands without quotes and \\")
        stage = words[2].lower() if len(words) == 3 else ""
        if stage and not _STAGE.fullmatch(stage):
            raise ValueError(f"{words[2][:40]!r} cannot be a stage's name: letters, digits and . _ - are")
        if stage and any(s.name == stage for s in self.stages):
            raise ValueError(f"there is a stage {stage!r} already")
        written, env = self._base(self._expand(words[0]))
        self.stages.append(_Stage(stage, env))
        return f"FROM {written}" + (f" AS {stage}" if stage else "")

    def _expand(self, word: str) -> str:
        reference = dockerwords.expand(word, self.globals)
        if not reference:
            raise ValueError(
                "the image must be written out, or given by an ARG with a default above the first FROM"
            )
        return reference

    def _base(self, reference: str) -> tuple[str, dict[str, str]]:
        for known in self.stages:
            if known.name and known.name == reference.lower():
                return known.name, dict(known.env)
        if reference == SCRATCH:
            return SCRATCH, {}
        facts = self._image(reference)
        stage = _Stage(env=dict(facts.env))
        for text in facts.onbuild:
            self._set(stage, dockerscan.read_one(text))
        return facts.id, stage.env

    def _image(self, reference: str) -> ImageFacts:
        facts = self.resolve(reference)
        if why := unfit_base(facts):
            raise ValueError(why)
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", facts.id):
            raise ValueError("the engine gave no full id for it")
        self.images.append(PinnedImage(self.line, reference, facts))
        return facts

    def _check_platform(self, value: str) -> None:
        known = dict.fromkeys(("BUILDPLATFORM", "TARGETPLATFORM"), self.platform)
        wanted = dockerwords.expand(value, {**known, **self.globals}).lower()
        if not wanted or not f"{self.platform}/".startswith(f"{wanted}/"):
            raise ValueError(f"images here are for {self.platform}; leave --platform out")

    # ------------------------------------------------------------ files

    def _copy(self, step: Instruction) -> str:
        flags, rest = _flags(step.rest)
        written, taken = [], False
        for flag, value in flags:
            if flag == "from" and step.word == "COPY" and not taken:
                taken = True
                written.append(f"--from={self._copied_from(value)}")
            elif flag == "chown":
                owner = dockerwords.expand(value, self.stages[-1].values)
                if not _CHOWN.fullmatch(owner):
                    raise ValueError(f"--chown={owner[:40]} is not a user or group")
                written.append(f"--chown={owner}")
            else:
                raise ValueError(_no_flag(flag))
        words = [self._path(word) for word in _paths(rest)]
        if len(words) < 2:
            raise ValueError("what to copy, and where to, must be given")
        for source in words[:-1]:
            check_source(step.word, source)
            if not taken:
                if leaves_context(source):
                    raise ValueError(
                        f"{source!r} reaches outside the project; copy files of the project only"
                    )
                self.sources.append((step.line, source))
        listed = json.dumps([dockerwords.literal(w) for w in words], ensure_ascii=True)
        return " ".join([step.word, *written, listed])

    def _copied_from(self, value: str) -> str:
        if any(c in value for c in "\"'\\$") or not value:
            raise ValueError(
                "--from takes a stage or an image without quotes and variables; for a variable write"
                " FROM … AS name above, and --from=name"
            )
        earlier = self.stages[:-1]
        if value.isascii() and value.isdecimal():
            if int(value) >= len(earlier):
                raise ValueError(f"there is no stage {value} before this one")
            return str(int(value))
        for number, stage in enumerate(earlier):
            if stage.name and stage.name == value.lower():
                return str(number)
        return self._image(value).id

    def _path(self, word: str) -> str:
        path = dockerwords.expand(word, self.stages[-1].values)
        if not path or not path.isprintable():
            raise ValueError(f"{word[:60]!r} gives no path here")
        return path

    # ------------------------------------------------------------ labels and variables

    def _label(self, rest: str) -> str:
        values, written = self.stages[-1].values, []
        for key, value in dockerwords.pairs(rest):
            label, content = dockerwords.expand(key, values), dockerwords.expand(value, values)
            check_label(label)
            if not content.replace("\t", " ").isprintable():
                raise ValueError(f"the label {label} has signs that cannot be printed")
            written.append(f"{label}={dockerwords.quoted(content)}")
        return f"LABEL {' '.join(written)}"

    def _global_arg(self, rest: str) -> str:
        written = []
        new: dict[str, str] = {}
        for word in dockerwords.words(rest):
            key, equals, value = word.partition("=")
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key):
                raise ValueError(f"{key[:40]!r} is not a variable's name")
            if not equals:
                written.append(key)
                continue
            new[key] = dockerwords.expand(value, {**self.globals, **new})
            if not new[key].isprintable():
                raise ValueError(f"{key} has signs that cannot be printed")
            written.append(f"{key}={dockerwords.quoted(new[key])}")
        self.globals |= new
        # One a line of its own would change the steps' numbers; the builder's reading does not depend on it.
        return f"ARG {' '.join(written)}"

    def _set(self, stage: _Stage, step: Instruction) -> None:
        values = stage.values
        if step.word == "ENV":
            for key, value in dockerwords.pairs(step.rest):
                stage.env[dockerwords.expand(key, values)] = dockerwords.expand(value, values)
        elif step.word == "ARG":
            for word in dockerwords.words(step.rest):
                key, equals, value = word.partition("=")
                if equals:
                    stage.args[key] = dockerwords.expand(value, values)
                elif key in self.globals:
                    stage.args[key] = self.globals[key]


# ------------------------------------------------------------ rules for single instructions


def check_trigger(trigger: Instruction) -> None:
    """`ValueError` where a build trigger may not be: it runs in later builds, with variables of those."""
    if trigger.word in ("FROM", "ONBUILD", "MAINTAINER"):
        raise ValueError(f"{trigger.word} cannot be a build trigger")
    if trigger.word in ("COPY", "ADD"):
        flags, rest = _flags(trigger.rest)
        if any(flag != "chown" for flag, _ in flags):
            raise ValueError(f"a build trigger may not take --{flags[0][0]}; copy from the project only")
        for word in _paths(rest)[:-1]:
            if trigger.word == "ADD" and "$" in word:
                raise ValueError("a build trigger adds files without variables in their names")
            check_source(trigger.word, dockerwords.expand(word, {}))
    elif trigger.word == "LABEL":
        for key, _ in dockerwords.pairs(trigger.rest):
            check_label(key)
    else:
        _no_flags(trigger)


def unfit_base(facts: ImageFacts) -> str:
    """Why an image may not be built on by whoever may read it, or nothing: its labels and build triggers."""
    if lying := reserved(facts.labels):
        return f"the image has the label {lying[0]}, which is the site's own"
    for text in facts.onbuild:
        try:
            check_trigger(dockerscan.read_one(text))
        except ValueError as error:
            return f"the image has a build trigger that is not allowed here ({text[:60]!r}): {error}"
    return ""


def check_source(word: str, source: str) -> None:
    """`ValueError` for an address: the engine itself would fetch it, from the server's own network."""
    if _REMOTE.match(source.strip()):
        way = "fetch it in a step: RUN curl -fsSLO …" if word == "ADD" else "copy files of the project only"
        raise ValueError(f"{source[:60]!r} is an address; {way}")


def check_label(label: str) -> None:
    """`ValueError` for a label that people may not give."""
    if not _LABEL.fullmatch(label):
        raise ValueError(f"{label[:60]!r} cannot be a label: letters, digits and . _ / - are")
    if is_reserved(label):
        raise ValueError(f"the label {label} is the site's own; leave it out of the Dockerfile")


def refused_sources(pinned: PinnedDockerfile, outside: Iterable[str], name: str) -> list[Problem]:
    """A problem for each copied path that is, or goes through, a link out of the project."""
    links = set(outside)
    problems = []
    for line, path in pinned.sources:
        parts = posixpath.normpath(path.lstrip("/")).split("/")
        above = {"/".join(parts[: i + 1]) for i in range(len(parts))}
        for link in sorted(links & above):
            why = f"{link!r} is a link that leads outside the project; copy the file itself"
            problems.append(Problem(name, line, "COPY", why))
    return problems


def leaves_context(path: str) -> bool:
    """Whether a path of the project leads out of it."""
    normal = posixpath.normpath(path.lstrip("/"))
    return normal == ".." or normal.startswith("../") or ".." in path.split("/")


def _flags(rest: str) -> tuple[list[tuple[str, str]], str]:
    """The ``--flags`` an instruction begins with, and what follows them."""
    found = []
    while rest.startswith("--"):
        match = _FLAG.match(rest)
        if match is None:
            raise ValueError(f"cannot be read: {rest.split()[0][:60]!r}")
        found.append((match[1], match[2] or ""))
        rest = rest[match.end() :]
    return found, rest


def _no_flags(step: Instruction) -> None:
    if step.word not in ("RUN", "HEALTHCHECK", "CMD", "ENTRYPOINT") and not step.rest.startswith("--"):
        return
    flags, _ = _flags(step.rest)
    for flag, _value in flags:
        if step.word != "HEALTHCHECK" or flag not in _HEALTH:
            raise ValueError(_no_flag(flag))


def _no_flag(flag: str) -> str:
    return f"the builder here does not take --{flag}: {_INSTEAD.get(flag, 'leave it out')}"


def _paths(rest: str) -> list[str]:
    """Sources and target, unexpanded."""
    if not rest.startswith("["):
        return rest.split()
    try:
        listed = json.loads(rest)
    except ValueError:
        listed = None
    if not isinstance(listed, list) or not all(isinstance(w, str) for w in listed):
        raise ValueError('a list is written ["source", "target"], with double quotes')
    return [str(w) for w in listed]
