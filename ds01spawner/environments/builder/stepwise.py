"""Build an image step by step: the engine's builder copies and configures, our containers run.

What a RUN may do is decided by `Sandbox`; everything else is the engine's own builder on the image so far,
so that COPY, ADD, ENV, WORKDIR and the rest mean what they mean everywhere. Blocking; one build an object.
"""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ...core import text
from ...core.errors import EngineError
from ...engines.docker import bounded, runstep
from ...engines.docker.image_store import BuildStream, Images, asking
from ...engines.docker.runstep import Sandbox
from ...workspace.projectfiles import Context
from . import instructions as walking
from .dockerscan import Instruction, read_one
from .instructions import SCRATCH, Command, Segment, Stage, Step

DOCKERFILE = ".ds01.Dockerfile"
IGNORED = f"\n{DOCKERFILE}\n"
"""Goes to the end of the context's ``.dockerignore``: then no COPY takes the builder's own file along."""


class StepFailed(EngineError):
    """A step ended badly. ``number`` is its place among the steps, ``error`` what the engine would say."""

    def __init__(self, number: int, error: str) -> None:
        super().__init__(error)
        self.number = number
        self.error = error


class Stopped(EngineError):
    """The build was stopped from outside."""


class StepwiseBuild:
    """See the module. ``say`` gets output as it comes, with the engine's ``Step n/m`` lines."""

    def __init__(
        self,
        images: Images,
        name: str,
        sandbox: Sandbox,
        timeout_s: int,
        say: Callable[[str], None],
        *,
        scope: str = "",
        shared_steps: int = 0,
    ) -> None:
        self._images = images
        self._name = name
        self._sandbox = sandbox
        self._timeout = timeout_s
        self._say = say
        self._scope = scope
        self._shared = shared_steps
        self._stopped = threading.Event()
        self._stream: BuildStream | None = None
        self._built: list[str] = []
        self._names: dict[str, int] = {}
        self._context = Context(io.BytesIO())
        self._count = 0
        self._shown: Sequence[str] = ()
        self._client: Any = None

    def stop(self) -> None:
        """End it from another thread; `run` raises `Stopped`."""
        self._stopped.set()
        if stream := self._stream:
            stream.stop()

    def run(
        self,
        dockerfile: Sequence[Instruction],
        context: Context,
        buildargs: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        shown: Sequence[str] = (),
    ) -> str:
        """Carry out a Dockerfile whose images are ids; returns the id of the last stage.

        ``shown`` are its steps as people know them, where that is not how they are carried out.
        """
        self._count = len(dockerfile)
        self._shown = shown or [step.text for step in dockerfile]
        self._context = context
        buildargs = buildargs or {}
        outside, found = walking.stages(dockerfile, buildargs)
        if not found:
            raise StepFailed(1, "the Dockerfile has no FROM")
        self._client = self._images.client(self._timeout)
        try:
            with asking("building"):
                for stage in found:
                    image = self._stage(stage, outside, buildargs)
                    self._built.append(image)
                    if stage.name:
                        self._names[stage.name] = len(self._built) - 1
                if labels:
                    image = self._labelled(image, labels)
        except runstep.Cancelled:
            raise Stopped("stopped") from None
        finally:
            self._client.close()
        return image

    # ------------------------------------------------------------ stages

    def _stage(self, stage: Stage, outside: Mapping[str, str], buildargs: Mapping[str, str]) -> str:
        self._announce(stage.step)
        image, config = self._base(stage)
        env = dict(item.partition("=")[::2] for item in config.get("Env") or ())
        triggers = [Step(stage.step.number, read_one(text)) for text in config.get("OnBuild") or ()]
        if triggers:
            image = runstep.without_triggers(self._client, image, self._container("base"))
        walk = walking.Walk(outside, buildargs, env)
        for part in walk.parts([*triggers, *stage.steps]):
            if self._stopped.is_set():
                raise Stopped("stopped")
            image = self._command(part, image) if isinstance(part, Command) else self._segment(part, image)
        if image == SCRATCH:
            raise StepFailed(stage.step.number, "No image was generated. Is your Dockerfile empty?")
        return image

    def _base(self, stage: Stage) -> tuple[str, Mapping[str, Any]]:
        if stage.base == SCRATCH:
            return SCRATCH, {}
        known = self._names.get(stage.base.lower())
        base = self._built[known] if known is not None else stage.base
        try:
            found = self._client.inspect_image(base)
        except bounded.NotFound:
            raise StepFailed(stage.step.number, f"{base} is not on this machine") from None
        self._say(f" ---> {found['Id'][7:19]}\n")
        return found["Id"], found["Config"] or {}

    def _container(self, part: str) -> str:
        return self._images.name_without_devices(f"{runstep.NAME}{self._name}-{part}")

    def _announce(self, step: Step) -> None:
        self._say(f"Step {step.number}/{self._count} : {self._shown[step.number - 1]}\n")

    # ------------------------------------------------------------ a command

    def _command(self, command: Command, image: str) -> str:
        step = command.step
        self._announce(step)
        if image == SCRATCH:
            raise StepFailed(step.number, "there is nothing to run: the image is still empty")
        config = self._client.inspect_image(image)["Config"] or {}
        env = dict(item.partition("=")[::2] for item in config.get("Env") or ())
        words = walking.argv(command, config.get("Shell") or (), env)
        ended = runstep.run(
            self._client,
            image,
            words,
            self._sandbox,
            self._container(str(step.number)),
            "" if step.number <= self._shared else f"of {self._scope}",
            self._say,
            lambda: not self._stopped.is_set(),
        )
        if ended.code:
            shown = " ".join(words)
            raise StepFailed(step.number, f"The command '{shown}' returned a non-zero code: {ended.code}")
        if ended.too_large and self._sandbox.layer is not None:
            most = text.size(self._sandbox.layer)
            raise StepFailed(
                step.number,
                f"it left {text.size(ended.too_large)} of files, more than the {most}"
                " there may be (sparse files count whole)",
            )
        if ended.cached:
            self._say(" ---> Using cache\n")
        self._say(f" ---> {ended.image[7:19]}\n")
        return ended.image

    # ------------------------------------------------------------ the engine's builder

    def _segment(self, segment: Segment, image: str) -> str:
        text = walking.written(segment, image, self._built, self._names)
        args = {name: value for name, value in segment.args.items() if value is not None}
        first = 1 + len(segment.args)
        numbers = {first + place: step for place, step in enumerate(segment.steps, 1)}
        with_files = walking.takes_files(segment.steps)
        return self._engine_build(text, with_files, numbers, {"buildargs": args})

    def _labelled(self, image: str, labels: Mapping[str, str]) -> str:
        return self._engine_build(f"FROM {image}\n", False, {}, {"labels": dict(labels)})

    def _engine_build(
        self, text: str, with_files: bool, numbers: Mapping[int, Step], options: Mapping[str, object]
    ) -> str:
        stream = self._images.build(
            sent(text, self._context if with_files else None),
            self._timeout,
            dockerfile=DOCKERFILE,
            networkmode="none",  # nothing runs there
            **options,
        )
        self._stream = stream
        try:
            if self._stopped.is_set():
                raise Stopped("stopped")
            return self._follow(stream, numbers)
        finally:
            self._stream = None
            stream.close()

    def _follow(self, stream: BuildStream, numbers: Mapping[int, Step]) -> str:
        image, current, shown = "", 0, False
        for message in stream:
            text = str(message.get("stream") or "")
            if text.startswith("Step ") and "/" in text:
                step = numbers.get(int(text[5:].split("/")[0]))
                shown = step is not None
                if step is not None:
                    current = step.number
                    self._announce(step)
            elif text.strip() and shown and not text.startswith(("Successfully built", "Removing inter")):
                self._say(text)
            if "aux" in message:
                image = message["aux"].get("ID", image)
            if "error" in message:
                if self._stopped.is_set():
                    raise Stopped("stopped")
                raise StepFailed(current, str(message["error"]))
        if self._stopped.is_set():
            raise Stopped("stopped")
        if not image:
            raise EngineError("the engine ended the build without an image")
        return image


def sent(text: str, context: Context | None) -> Iterator[bytes]:
    """The tar for one segment: the context as it was packed, then the Dockerfile.

    It comes last, so that no file of the project can take its place.
    """
    if context is not None:
        context.file.seek(0)
        left = context.end
        while left and (chunk := context.file.read(min(left, 2**18))):
            left -= len(chunk)
            yield chunk
    content = text.encode()
    info = tarfile.TarInfo(DOCKERFILE)
    info.size, info.mode = len(content), 0o644
    yield info.tobuf(tarfile.GNU_FORMAT) + content + b"\0" * (-len(content) % 512) + b"\0" * 1024
