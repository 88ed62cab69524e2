"""The one place that talks to a Docker engine about images.

Blocking calls on a client of their own, so that a slow pull never stands before a session's start;
`Images.run` moves one call to this module's threads. A failure is `EngineError` (nothing is known)
or `ImageMissing` (the engine answered: it is not there).
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import IO, Any, TypeVar

import docker
import requests
from docker import errors as docker_errors
from urllib3.exceptions import HTTPError

from ... import messages
from ...core.errors import DS01Error, EngineError, Refused
from ...core.installation import Installation
from ...environments.catalogue import Environment, with_facts
from ...environments.facts import ImageFacts, from_inspect, from_summary
from ...environments.naming import HALF_BUILT_NAMESPACE, PIN_NAMESPACE
from ...environments.ownership import claimed, made_here, sort_names
from ...environments.pulling import Layers, Pulled
from ...environments.reference import carries, parse
from .connections import connect

T = TypeVar("T")
QUICK_S = 60
"""Seconds one question to the engine may take: it answers none about images while it removes the files of a
layer, which takes tens of seconds for a large one on a busy machine."""
REMOVES_S = 300
"""Seconds one removal may take: the last tag of a large image takes all its files along."""
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


class ImageMissing(DS01Error):
    """The image asked about is not on this machine."""


class NameTaken(DS01Error, ValueError):
    """A name belongs to another installation on this engine."""


@dataclass(frozen=True)
class EngineFacts:
    """What the engine says of itself: ``docker version`` and the machine's architecture."""

    version: str
    architecture: str
    """As images name it: ``amd64``, ``arm64``."""


@dataclass(frozen=True)
class Resolved:
    """An environment at a start: the immutable id to run, and what the image says of itself."""

    environment: Environment
    image_id: str
    facts: ImageFacts


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Turn the client's errors into ours; ``what`` says what was being done."""
    try:
        yield
    except docker_errors.NotFound as error:
        raise ImageMissing(f"{what}: not on this machine") from error
    except docker_errors.APIError as error:
        raise EngineError(f"{what}: the engine says {error.explanation or error}") from error
    except (docker_errors.DockerException, requests.RequestException, HTTPError, OSError) as error:
        raise EngineError(f"{what}: the engine did not answer ({type(error).__name__})") from error


class BuildStream:
    """A build under way: iterate it for the engine's messages; `stop` ends it from another thread."""

    def __init__(self, client: docker.APIClient, response: requests.Response) -> None:
        self._client = client
        self._response = response

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with asking("building"):
            yield from self._client._stream_helper(self._response, decode=True)

    def stop(self) -> None:
        """Drop the connection, on which the engine kills the step that runs."""
        with suppress(AttributeError, OSError):
            self._response.raw._fp.fp.raw._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the connection back."""
        self._response.close()
        self._client.close()


class Images:
    """Images on one engine. Give it ``docker_host``, or a ``client`` made elsewhere.

    ``installation`` gives the one whose people's and courses' images these are. A name that belongs to
    another is as if it were not there, and is neither taken nor removed.
    """

    def __init__(
        self,
        docker_host: str = "",
        client: docker.APIClient | None = None,
        installation: Callable[[], Installation | None] = lambda: None,
    ) -> None:
        self._host = docker_host
        self._installation = installation
        self._client = client
        self._version = "auto"
        self._executor = ThreadPoolExecutor(max_workers=4, thread_name_prefix="ds01-images")
        self.on_change: Callable[[], None] = lambda: None
        """Called, in the thread that did it, when this process has given an image a name that people see, or
        taken one, or fetched an image."""

    def client(self, timeout: int = QUICK_S) -> docker.APIClient:
        """A client of the engine: the shared one for quick calls, a new one for a longer ``timeout``."""
        if timeout != QUICK_S:
            return self._new_client(timeout)
        if self._client is None:
            self._client = self._new_client(QUICK_S)
        return self._client

    def _new_client(self, timeout: int) -> docker.APIClient:
        with asking("connecting"):
            options = docker.utils.kwargs_from_env()
            if self._host:
                options = {"base_url": self._host}
            made = connect(timeout=timeout, version=self._version, **options)
        self._version = made._version  # asked of the engine once, not at every build
        return made

    async def run(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run a blocking call of this class in its threads."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: call(*args, **kwargs))

    def close(self) -> None:
        """Stop the threads and close the connections."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        if self._client is not None:
            self._client.close()

    def engine(self) -> EngineFacts:
        """Version and architecture of the engine."""
        with asking("version"):
            data = self.client().version()
        arch = data.get("Arch", "")
        return EngineFacts(data.get("Version", ""), ARCHITECTURES.get(arch, arch))

    def plain_runtime(self) -> str:
        """``runc`` where the engine's default runtime is another, which may hand out GPUs; else empty."""
        with asking("info"):
            data = self.client().info()
        other = data.get("DefaultRuntime") not in (None, "", "runc")
        return "runc" if other and "runc" in (data.get("Runtimes") or {}) else ""

    def inspect(self, reference: str) -> ImageFacts:
        """One image by its whole name or full id; `ImageMissing` when it is not there.

        The engine itself answers for the first characters of an id too (``49``, ``sha256:49``), so what it
        gives counts only where it carries the very name that was asked for.
        """
        try:
            wanted = parse(reference)
        except ValueError as error:
            raise ImageMissing(f"image {reference[:80]!r}: {error}") from None
        with asking(f"image {reference}"):
            facts = self._sorted(from_inspect(self.client().inspect_image(reference)))
        if not carries(wanted, facts.id, facts.tags, facts.digests):
            raise ImageMissing(f"image {reference}: not on this machine")
        return facts

    def installation(self) -> Installation:
        """Whose images are made here; `EngineError` where the state folder has no installation yet."""
        found = self._installation()
        if found is None:
            raise EngineError("this hub has no installation yet: it is made when the hub starts")
        return found

    def name_without_devices(self, name: str) -> str:
        """The name of a container of ours that gets no device: it holds none while the engine cannot tell."""
        mine = self._installation()
        return name if mine is None else mine.name_without_devices(name)

    def needs_probe(self, facts: ImageFacts) -> bool:
        """Whether the image must be run once to be judged: what was built here was probed when it was made.

        A label says nothing of that, because every image may have it.
        """
        return not made_here(self._installation(), facts)

    def _sorted(self, facts: ImageFacts) -> ImageFacts:
        return sort_names(self._installation(), facts) if any(map(claimed, facts.tags)) else facts

    def refuse_taken(self, reference: str) -> None:
        """`NameTaken` where a name belongs to another installation."""
        try:
            with asking(f"image {reference}"):
                found = from_inspect(self.client().inspect_image(reference))
        except ImageMissing:
            return
        if reference in self._sorted(found).others:
            raise NameTaken(
                f"the name {reference} belongs to another hub on this machine; choose another project or tag"
            )

    def list(self, labels: Iterable[str] = ()) -> tuple[ImageFacts, ...]:
        """Every tagged image, or those with all of ``labels`` (``key`` or ``key=value``)."""
        filters: dict[str, Any] = {"dangling": False}
        if wanted := list_of(labels):
            filters["label"] = wanted
        with asking("listing images"):
            rows = self.client().images(filters=filters)
        return tuple(self._sorted(from_summary(row)) for row in rows)

    def in_use(self) -> dict[str, tuple[str, ...]]:
        """Image ids that a container, running or not, was made from, with the containers' names."""
        with asking("listing containers"):
            rows = self.client().containers(all=True)
        used: dict[str, list[str]] = {}
        for row in rows:
            names = row.get("Names") or [row.get("Id", "")[:12]]
            used.setdefault(row.get("ImageID", ""), []).append(names[0].lstrip("/"))
        return {image: tuple(sorted(names)) for image, names in used.items()}

    def tag(self, image: str, reference: str) -> None:
        """Point ``reference`` at ``image``, and see that it took."""
        repository, _, tag = reference.rpartition(":")
        self.refuse_taken(reference)
        source = self.inspect(image).id
        with asking(f"tagging {reference}"):
            self.client().tag(source, repository, tag, force=True)
        self.changed(reference)
        if self.inspect(reference).id != source:
            raise EngineError(f"tagging {reference}: it does not point at the image")

    def remove(self, reference: str) -> None:
        """Remove a tag, and the image with its last tag. Gone already is success; in use is not."""
        self.refuse_taken(reference)
        client = self.client(REMOVES_S)
        try:
            with suppress(ImageMissing):
                self.inspect(reference)
                with asking(f"removing {reference}"):
                    client.remove_image(reference, force=False, noprune=False)
        finally:
            client.close()
            self.changed(reference)  # also where nothing is known: it may be gone

    def changed(self, reference: str) -> None:
        """A name was given or taken."""
        if not reference.startswith((f"{PIN_NAMESPACE}/", f"{HALF_BUILT_NAMESPACE}/")):
            self.on_change()

    def pull(self, reference: str, progress: Callable[[Pulled], None] = lambda _: None) -> ImageFacts:
        """Pull an image, telling ``progress`` at each message how far it is."""
        name, tag = split_reference(reference)
        client, layers = self._new_client(600), Layers()
        try:
            with asking(f"pulling {reference}"):
                for line in client.pull(name, tag=tag, stream=True, decode=True):
                    if "error" in line:
                        raise EngineError(f"pulling {reference}: {line['error']}")
                    progress(layers.feed(line))
        finally:
            client.close()
        self.changed(reference)
        return self.inspect(reference)

    def build(self, context: IO[bytes] | Iterator[bytes], timeout_s: int, **options: Any) -> BuildStream:
        """Send a tar context to the classic builder; the answer streams the engine's own messages.

        The classic builder is the one every engine from 20.10 to 29 has without a plug-in. ``options``
        are those of the engine's ``/build``; containers and dictionaries among them become JSON.
        """
        client = self._new_client(timeout_s)
        params: dict[str, Any] = {"rm": True, "forcerm": True, "pull": False}
        params |= {k: json.dumps(v) if isinstance(v, (dict, list)) else v for k, v in options.items()}
        headers = {"Content-Type": "application/x-tar"}
        try:
            with asking("building"):
                url = client._url("/build")
                response = client._post(url, data=context, params=params, headers=headers, stream=True)
                client._raise_for_status(response)
        except BaseException:
            client.close()
            raise
        return BuildStream(client, response)

    def resolve(self, environment: Environment) -> Resolved:
        """The immutable image an environment stands for now; `Refused` when it is not on the machine."""
        wanted = environment.pinned or environment.image
        try:
            facts = self.inspect(wanted)
        except ImageMissing:
            raise Refused(
                messages.image_missing(environment.name, wanted, environment.kind == "mine")
            ) from None
        return Resolved(with_facts(environment, facts), facts.id, facts)

    def described(self, environments: Iterable[Environment]) -> tuple[Environment, ...]:
        """The environments with size, date and CUDA filled in where the image is on the machine."""
        done = []
        for environment in environments:
            try:
                facts = self.inspect(environment.pinned or environment.image)
            except ImageMissing:
                done.append(replace(environment, note="its image is not on this machine yet"))
            else:
                done.append(with_facts(environment, facts))
        return tuple(done)


def list_of(items: Iterable[str]) -> list[str]:
    """A list; named so that `Images.list` does not hide the built-in."""
    return [*items]


def split_reference(reference: str) -> tuple[str, str]:
    """``name`` and ``tag`` (or digest) of a reference; the tag is ``latest`` where there is none."""
    name, at, digest = reference.partition("@")
    if at:
        return name, digest
    head, colon, tag = reference.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (reference, "latest")


def label_filter(labels: Mapping[str, str]) -> list[str]:
    """Labels as the engine's filter takes them."""
    return [f"{key}={value}" for key, value in labels.items()]
