"""One build, from its recipe to a tagged image. Runs in a thread of `BuildRunner`.

The image gets its name last, after it was checked; until then it is in a namespace that no catalogue
lists, so a half-built image is never offered.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from ...core import logtext
from ...core.errors import DS01Error
from ...core.text import duration, size
from ...engines.docker import steplayers
from ...engines.docker.image_probe import probe
from ...engines.docker.runstep import Sandbox
from ...store.store import Store
from ...workspace.projectfiles import Context, ProjectFileError, pack_files
from .. import image_labels, inventory, records
from ..facts import ImageFacts
from ..naming import HALF_BUILT_NAMESPACE, PIN_NAMESPACE
from ..preflight import check
from ..pulling import Pulled
from ..resolver import Resolver
from ..rights import Reader
from . import dockerfile, dockerscan, pinning, unpacking
from .builds import BuildRequest, Site, drop
from .recipe import Recipe, environment_yml, requirements_text
from .stepwise import IGNORED, StepFailed, StepwiseBuild

FLUSH_S = 0.5
WATCH_S = 0.5
MAX_OUTPUT = 32 * 2**20
"""Characters of a build's output that are read line by line; of what comes later, the end alone."""
LATE = 128 * 1024
NO_LIMIT = 2**62

_HINT = re.compile(r"(?:ERROR: |E: |ds01: refused: )(.+)")
"""How pip, apt and our own steps say what is wrong."""
_OURS = {
    "ds01-recipe/apt.txt": "installing the apt packages",
    "ds01-recipe/conda.txt": "installing the conda packages",
    "command -v micromamba": "looking for conda in the base",
    "ds01-recipe/requirements.txt": "installing the pip packages",
    "layer/install.sh": "adding the session layer",
    "layer/finish.py": "trying a kernel",
}


class BuildFailed(DS01Error):
    """The build cannot go on; the message says why, in words for its owner."""


class Stopped(DS01Error):
    """Somebody or something stopped the build; the state and the reason are the job's."""


class Job:
    """See the module. `run` never raises: every end is a state in the store."""

    def __init__(
        self,
        build: str,
        request: BuildRequest,
        store: Store,
        resolver: Resolver,
        site: Site,
        clock: Callable[[], datetime],
    ) -> None:
        self.build = build
        self.request = request
        self._store = store
        self._images = resolver.images
        self._resolver = resolver
        self._reader = request.reader or Reader(request.owner)
        self._site = site
        self._clock = clock
        self._lines = logtext.Lines(logtext.Masker((*site.secrets, *site.build.args.values())))
        self._pending: list[str] = []
        self._flushed = 0.0
        self._logged = 0
        self._stop = threading.Event()
        self._done = threading.Event()
        self._end = ("", "")
        self._building: StepwiseBuild | None = None
        self._seen = 0
        self._late = ""
        self._hint = ""
        self._started = time.monotonic()

    def stop(self, state: str, reason: str) -> None:
        """End the build from another thread; the first reason counts."""
        if not self._stop.is_set():
            self._end = (state, reason)
            self._stop.set()
        if building := self._building:
            building.stop()

    def run(self) -> None:
        """Do everything, and leave a final state."""
        if not self._move("building", "queued"):
            return
        watch = threading.Thread(target=self._watch, name=f"{self.build}-watch", daemon=True)
        watch.start()
        state, reason, data = "failed", "", {}
        try:
            data = self._make()
            state = "ready"
        except Stopped:
            state, reason = self._end
        except (DS01Error, ProjectFileError) as error:
            state, reason = self._end if self._stop.is_set() else ("failed", str(error))
        except Exception as error:  # a fault of ours must not leave the build "building" for ever
            state, reason = "failed", f"an error in the service: {type(error).__name__}: {error}"
            state, reason = self._end if self._stop.is_set() else (state, reason)
        finally:
            self._done.set()
            self._tidy()
        if reason:
            self._say(f"\x1b[31m{state}: {reason}\x1b[0m")
        self._flush()
        self._store.builds.trim_log(self.build, logtext.HEAD, logtext.TAIL)
        self._move(state, "building", "checking", reason=logtext.plain(reason)[:2000], **data)

    # ------------------------------------------------------------ the parts

    def _make(self) -> dict[str, object]:
        recipe = self.request.recipe
        for note in self.request.notes:
            self._say(note)
        base = self._dockerfile_image() if recipe.dockerfile else self._pinned_base()
        image = self._session_image(base)
        self._move("checking", "building")
        facts = self._checked(image)
        lock = inventory.lock_of(self._images, facts.id)
        lock["base"] = base.id
        self._still_wanted()
        self._images.tag(facts.id, self.request.reference)
        records.record(self._store, self._images, self.request, facts, lock, self.build, self._clock())
        self._say(f"\x1b[32mready: {self.request.reference} is {facts.id[7:19]}\x1b[0m")
        self._keep_in_project(lock)
        return {"image": facts.id, "size": facts.size}

    def _pinned_base(self) -> ImageFacts:
        if not self.request.base:
            raise BuildFailed("there is no base to start from; choose one")
        facts = self._readable(self.request.base)
        if why := pinning.unfit_base(facts):
            raise BuildFailed(f"{self.request.base}: {why}")
        self._say(f"base: {self.request.base} ({facts.id[7:19]})")
        return facts

    def _dockerfile_image(self) -> ImageFacts:
        """Build the user's Dockerfile out of the user's project, and nothing else."""
        project, path = self.request.project, self.request.recipe.dockerfile
        text = project.read_text(path) if project else None
        if project is None or text is None:
            raise BuildFailed(f"there is no {path} in the project")
        pinned = pinning.pin(text, self._readable, path, f"linux/{self._site.host.architecture}")
        for taken in pinned.images:
            self._say(f"line {taken.line}: {taken.reference} is {taken.facts.id[7:19]}")
        ignore = project.read_text(".dockerignore") or ""
        # An ignored .dockerignore is not copied by a Dockerfile, as if there were none.
        ignored = f"{ignore}{IGNORED}{'' if ignore else '.dockerignore'}".encode()
        context = project.pack(
            self.request.limits.context, {".dockerignore": ignored}, ignore, self._still_wanted
        )
        with context.file:
            for link in sorted(context.outside)[:20]:
                self._say(f"left out: {link} is a link that leads outside the project")
            for name in sorted(context.unreadable)[:20]:
                self._say(f"left out: {name} is not a file you can read")
            if problems := pinning.refused_sources(pinned, context.outside, path):
                raise BuildFailed("; ".join(str(p) for p in problems))
            room = self._layer()
            unpacking.check_added(
                pinned, context, NO_LIMIT if room is None else room, path, self._still_wanted
            )
            self._say(f"context: {context.count} files, {size(context.size)}")
            written = dockerscan.read(pinned.text)
            image = self._build(context, written, path, shown=pinned.steps)
        facts = self._images.inspect(image)
        if lying := image_labels.reserved(facts.labels):
            raise BuildFailed(f"the label {lying[0]} is the site's own; leave it out of the Dockerfile")
        return facts

    def _readable(self, reference: str) -> ImageFacts:
        """The image a name means for the owner, fetched where it is public and not here yet."""

        def progress(_: Pulled) -> None:
            self._still_wanted()

        return self._resolver.fetch(reference, self._reader, progress)

    def _session_image(self, base: ImageFacts) -> str:
        """Add packages and the session layer to ``base``."""
        recipe = self.request.recipe
        # The builder gets the id. The name keeps the image from being pruned meanwhile.
        held = f"{PIN_NAMESPACE}/{base.id[7:19]}:latest"
        if recipe.dockerfile:
            held = f"{HALF_BUILT_NAMESPACE}/{self.build}:project"
        self._images.tag(base.id, held)
        pip, conda, channels = self._files_of(recipe)
        plan = dockerfile.plan(
            recipe,
            base.id,
            self._site.host.hub_version,
            site=self._site.build,
            requirements=pip,
            conda=conda,
            channels=channels,
            constraints=self.request.constraints,
            has_layer=inventory.has_layer(self._images, base, self._site.host.hub_version),
        )
        steps = dockerscan.read(plan.dockerfile)
        context = pack_files(plan.files)
        with context.file:
            version, mine = self._site.host.hub_version, self._images.installation()
            labels = image_labels.image_labels(self.request, version, base, self._clock(), mine)
            return self._build(context, steps, "", labels=labels, shared=plan.shared)

    def _files_of(self, recipe: Recipe) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        pip: tuple[str, ...] = ()
        conda: tuple[str, ...] = ()
        channels: tuple[str, ...] = ()
        if recipe.requirements:
            pip = requirements_text(self._text(recipe.requirements), recipe.requirements)
        if recipe.environment_yml:
            conda, more, channels = environment_yml(
                self._text(recipe.environment_yml), recipe.environment_yml
            )
            pip = (*pip, *more)
        return pip, conda, channels

    def _text(self, path: str) -> str:
        text = self.request.project.read_text(path) if self.request.project else None
        if text is None:
            raise BuildFailed(f"there is no {path} in the project")
        return text

    def _checked(self, image: str) -> ImageFacts:
        facts = self._images.inspect(image)
        limit = self.request.limits.size
        if limit is not None and facts.size is not None and facts.size > limit:
            raise BuildFailed(
                f"the image has {size(facts.size)}; your limit is {size(limit)} (policy, images.builds.size)"
            )
        self._say("checking that a session can start from it")
        result = check(facts, self._site.host, probe(self._images, facts.id))
        for finding in result.findings:
            if finding.level in ("note", "gpu"):
                self._say(f"note: {finding.message}. {finding.mend}")
        if not result.ok:
            raise BuildFailed(result.reason)
        return facts

    def _keep_in_project(self, lock: inventory.LockJson) -> None:
        if self.request.project is None:
            return
        try:
            self.request.project.write_text("recipe.lock.json", json.dumps(lock, indent=1) + "\n")
        except (ProjectFileError, OSError) as error:
            self._say(f"note: the lock could not be written to the project: {error}")

    # ------------------------------------------------------------ the steps

    def _build(
        self,
        context: Context,
        steps: tuple[dockerscan.Instruction, ...],
        file: str,
        *,
        shown: tuple[dockerscan.Instruction, ...] = (),
        labels: Mapping[str, str] | None = None,
        shared: int = 0,
    ) -> str:
        """Carry out a Dockerfile. ``file`` is its path in the project, empty for ours.

        ``shown`` are the steps as their author wrote them; ours, the first ``shared`` are the same for all.
        """
        limits = self.request.limits
        self._still_wanted()
        network = self._site.ready() or self._site.network
        building = StepwiseBuild(
            self._images,
            self.build,
            Sandbox(
                limits.memory,
                limits.cpus,
                limits.pids,
                self._layer(),
                network,
                self._site.runtime,
                partial(steplayers.seal, self._images.installation()),
            ),
            limits.time + 60,
            self._output,
            scope=self.request.owner,
            shared_steps=shared,
        )
        self._building = building
        try:
            self._still_wanted()
            args = {} if file else self._site.build.args
            image = building.run(steps, context, args, labels, [s.text for s in shown])
        except StepFailed as error:
            self._output_ends()
            self._still_wanted()
            why = failure(error.error, shown or steps, error.number, file, limits)
            raise BuildFailed(f"{why} ({self._hint})" if self._hint else why) from None
        except ValueError as error:
            raise BuildFailed(f"{file or 'the recipe'} cannot be carried out: {error}") from None
        finally:
            self._building = None
        self._output_ends()
        self._still_wanted()
        self._images.tag(image, f"{HALF_BUILT_NAMESPACE}/{self.build}:{'project' if file else 'image'}")
        return image

    def _layer(self) -> int | None:
        """What one command may leave: the image's limit, and never more than the disk has to give."""
        free = self._site.free_bytes()
        bounds = [self.request.limits.size, None if free is None else max(0, free - self._site.minimum_free)]
        return min((b for b in bounds if b is not None), default=None)

    def _output(self, text: str) -> None:
        self._seen += len(text)
        if self._seen > MAX_OUTPUT and not text.startswith("Step "):
            self._late = (self._late + text)[-LATE:]
        else:
            self._log(self._lines.feed(text))

    def _output_ends(self) -> None:
        late, self._late = self._late, ""
        if late:
            self._log(self._lines.feed("\n… more output than a log keeps …\n" + late.partition("\n")[2]))
        self._log(self._lines.end())

    # ------------------------------------------------------------ watching and writing

    def _watch(self) -> None:
        while not self._done.wait(WATCH_S):
            if time.monotonic() - self._started > self.request.limits.time:
                most = duration(self.request.limits.time)
                self.stop("failed", f"it took longer than {most} (policy, images.builds.time)")
            free = self._site.free_bytes()
            if free is not None and free < self._site.minimum_free:
                self.stop("failed", "the server's disk is nearly full; tell the administrator")
            if self._stop.is_set() and (building := self._building):
                building.stop()
            if self._pending and time.monotonic() - self._flushed > FLUSH_S:
                self._flush()

    def _still_wanted(self) -> None:
        if self._stop.is_set():
            raise Stopped(self._end[1])

    def _move(self, state: str, *expected: str, **data: Any) -> bool:
        return self._store.builds.move(self.build, state, self._clock(), expected=expected, **data)

    def _say(self, line: str) -> None:
        self._log(self._lines.feed(line + "\n"))

    def _log(self, lines: list[str]) -> None:
        self._pending += lines
        for line in lines:
            if match := _HINT.match(logtext.plain(line)):
                self._hint = match[1][:300]
        if len(self._pending) >= 100 or time.monotonic() - self._flushed > FLUSH_S:
            self._flush()

    def _flush(self) -> None:
        lines, self._pending = self._pending, []
        self._flushed = time.monotonic()
        if lines:
            self._store.builds.append_log(self.build, lines)
            self._logged += len(lines)
            if self._logged > 2 * (logtext.HEAD + logtext.TAIL):
                self._store.builds.trim_log(self.build, logtext.HEAD, logtext.TAIL)
                self._logged = logtext.HEAD + logtext.TAIL

    def _tidy(self) -> None:
        for part in ("project", "image"):
            drop(self._images, f"{HALF_BUILT_NAMESPACE}/{self.build}:{part}")


def failure(error: str, steps: tuple[dockerscan.Instruction, ...], step: int, file: str, limits: Any) -> str:
    """What went wrong, with the line it is on. Pure."""
    failed = steps[step - 1] if 0 < step <= len(steps) else None
    code = error.rsplit("returned a non-zero code:", 1)[-1].strip() if "non-zero code" in error else ""
    if failed is None:
        return error[:500]
    where = f"{file}, line {failed.line}: " if file else ""
    what = failed.text if len(failed.text) <= 160 else failed.text[:160] + " …"
    if not file:
        what = next((name for part, name in _OURS.items() if part in failed.text), what)
    if code == "137" and limits.memory is not None:
        mib = limits.memory // 2**20
        limit = f"the memory limit of {mib} MiB (policy, images.builds.memory)"
        return f"{where}stopped, most likely at {limit}: {what}"
    if code:
        return f"{where}ended with exit code {code}: {what}"
    return f"{where}{error[:300]}: {what}"
