"""What a Dockerfile's instructions come to, one after the other: stages, segments, variables. Pure.

The engine's builder carries out what runs no program (`Segment`); each RUN is a container of ours
(`Command`). Whatever lies between two commands is one segment, so that the engine is asked seldom.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from . import dockerwords
from .dockerscan import Instruction

DEFAULT_SHELL = ("/bin/sh", "-c")
SCRATCH = "scratch"


@dataclass(frozen=True)
class Step:
    """An instruction with its number among the steps of the build."""

    number: int
    instruction: Instruction


@dataclass(frozen=True)
class Segment:
    """Instructions for the engine's builder, on top of what is there. ``args`` are declared before them."""

    steps: tuple[Step, ...]
    args: Mapping[str, str | None]


@dataclass(frozen=True)
class Command:
    """One RUN with the variables that ARG has set by then."""

    step: Step
    args: Mapping[str, str]


@dataclass(frozen=True)
class Stage:
    """A stage: its name, what it starts from, and its instructions."""

    name: str
    base: str
    step: Step
    steps: tuple[Step, ...]


def stages(
    instructions: Sequence[Instruction], buildargs: Mapping[str, str]
) -> tuple[dict[str, str], list[Stage]]:
    """The variables set above the first FROM, and the stages. Each FROM names an id, a stage or scratch."""
    outside: dict[str, str] = {}
    found: list[Stage] = []
    for number, instruction in enumerate(instructions, 1):
        step = Step(number, instruction)
        if instruction.word == "FROM":
            words = [w for w in instruction.rest.split() if not w.startswith("--")]
            name = words[2].lower() if len(words) == 3 else ""
            found.append(Stage(name, words[0], step, ()))
        elif found:
            last = found.pop()
            found.append(Stage(last.name, last.base, last.step, (*last.steps, step)))
        else:
            for name, default in declared(instruction):
                value = buildargs.get(name, default)
                if value is not None:
                    outside[name] = dockerwords.expand(value, outside)
    return outside, found


def declared(instruction: Instruction) -> Iterator[tuple[str, str | None]]:
    """The variables of an ARG, with their defaults as they are written."""
    for word in dockerwords.words(instruction.rest):
        name, equals, value = word.partition("=")
        yield name, value if equals else None


@dataclass
class Walk:
    """Goes through the instructions of one stage and keeps the variables as the builder does."""

    outside: Mapping[str, str]
    buildargs: Mapping[str, str]
    env: dict[str, str]
    args: dict[str, str | None] = field(default_factory=dict)

    def parts(self, steps: Iterable[Step]) -> Iterator[Segment | Command]:
        """Segments and commands, in order."""
        waiting: list[Step] = []

        def segment() -> Iterator[Segment]:
            if waiting:
                yield Segment(tuple(waiting), dict(self.args))
                waiting.clear()

        for step in steps:
            if step.instruction.word == "RUN":
                yield from segment()
                yield Command(step, {n: v for n, v in self.args.items() if v is not None})
            elif step.instruction.word == "ARG":
                yield from segment()  # what came before may not see it
                self._declare(step.instruction)
            else:
                if step.instruction.word == "ENV":
                    self._set(step.instruction)
                waiting.append(step)
        yield from segment()

    def _values(self) -> dict[str, str]:
        return {**{n: v for n, v in self.args.items() if v is not None}, **self.env}

    def _declare(self, instruction: Instruction) -> None:
        for name, default in declared(instruction):
            if name in self.buildargs:
                self.args[name] = self.buildargs[name]
            elif default is not None:
                self.args[name] = dockerwords.expand(default, self._values())
            else:
                self.args[name] = self.outside.get(name)

    def _set(self, instruction: Instruction) -> None:
        values = self._values()
        for name, value in dockerwords.pairs(instruction.rest):
            self.env[dockerwords.expand(name, values)] = dockerwords.expand(value, values)


def argv(command: Command, shell: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """What a RUN starts. ARG's variables are given by ``env``, so that they do not stay in the image.

    What ENV has set wins over ARG, as in the builder.
    """
    rest = command.step.instruction.rest
    words = exec_form(rest)
    words = [*(shell or DEFAULT_SHELL), rest] if words is None else words
    given = [f"{name}={value}" for name, value in sorted(command.args.items()) if name not in env]
    return ["env", *given, *words] if given else words


def exec_form(rest: str) -> list[str] | None:
    """The words of ``["program", "argument"]``, or None for a line of a shell."""
    if not rest.startswith("["):
        return None
    try:
        words = json.loads(rest)
    except ValueError:
        return None
    if not isinstance(words, list) or not all(isinstance(w, str) for w in words):
        return None
    return words or None


def takes_files(steps: Iterable[Step]) -> bool:
    """Whether one of them copies from the context."""
    return any(
        s.instruction.word in ("COPY", "ADD") and not s.instruction.rest.startswith("--from=") for s in steps
    )


def written(segment: Segment, base: str, images: Sequence[str], names: Mapping[str, int]) -> str:
    """The segment as a Dockerfile on ``base``; stages that are copied from are ``images`` by number."""
    lines = [f"FROM {base}", *(f"ARG {name}" for name in segment.args)]
    for step in segment.steps:
        words = step.instruction.rest.split(" ")
        for place, word in enumerate(words):
            if not word.startswith("--") or step.instruction.word != "COPY":
                break
            if word.startswith("--from="):
                source = word.removeprefix("--from=")
                number = names.get(source.lower(), int(source) if source.isdecimal() else -1)
                words[place] = f"--from={images[number]}" if number >= 0 else word
        lines.append(f"{step.instruction.word} {' '.join(words)}".rstrip())
    return "\n".join(lines) + "\n"
