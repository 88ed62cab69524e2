"""Calls to the Docker engine: threads, one client a thread, and order per container.

Docker calls block, so they run in threads. Calls with the same *key* (a container's name) run in the
order they were submitted, whatever happens to the coroutine that asked: a removal submitted after a
create that was cancelled half-way still finds what the create made. Calls with different keys run
side by side, starts and stops in pools of their own, so that ten slow stops never delay a start.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import docker
import docker.errors
import requests
from docker.utils import kwargs_from_env

from ...core.errors import EngineError
from ..ordered import KeyedExecutor
from .connections import connect

T = TypeVar("T")
QUICK_S = 4
STOP_METHODS = frozenset({"stop", "kill", "remove_container", "wait"})
READ_METHODS = frozenset({"inspect_container", "inspect_image", "logs", "info", "version", "images"})


class DockerEngine:
    """One engine as this process uses it. Thread-safe; make one and share it."""

    def __init__(self, *, timeout: int = 60, **client_kwargs: Any) -> None:
        self._kwargs = {"version": "auto", "timeout": timeout, **kwargs_from_env(), **client_kwargs}
        self._local = threading.local()
        self._version = self._kwargs.pop("version")
        self.executor = KeyedExecutor(claim=1, mutate=4, stop=16, read=4, pull=2)

    @property
    def client(self) -> docker.APIClient:
        """The calling thread's own low-level client (docker-py's is not documented as thread-safe).

        The first one asks the engine for its API version, which blocks: see `ready`.
        """
        if not hasattr(self._local, "client"):
            self._local.client = self._connect()
        return self._local.client

    @property
    def quick(self) -> docker.APIClient:
        """The calling thread's client for questions that must not wait long."""
        if not hasattr(self._local, "quick"):
            self._local.quick = self._connect(timeout=QUICK_S)
        return self._local.quick

    def answers(self) -> docker.APIClient:
        """The calling thread's client; `EngineError` when the engine does not answer soon. Blocking."""
        try:
            self.quick.ping()
            return self.client
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            raise EngineError(f"the container engine does not answer: {error}") from error

    def _connect(self, **options: Any) -> docker.APIClient:
        client = connect(version=self._version, **{**self._kwargs, **options})
        self._version = client._version
        return client

    async def ready(self) -> None:
        """Learn the engine's API version in a thread, so that `client` never blocks the event loop.

        `EngineError` when the engine does not answer.
        """
        if self._version == "auto":
            try:
                await self.run(lambda client: None, pool="read")
            except (docker.errors.DockerException, requests.RequestException, OSError) as error:
                raise EngineError(f"the Docker engine does not answer: {error}") from error

    def call(self, method: str, *args: Any, key: str | None = None, **kwargs: Any) -> asyncio.Future[Any]:
        """Call a client method in the pool that fits it; ``key`` keeps order among its calls."""
        pool = "stop" if method in STOP_METHODS else "read" if method in READ_METHODS else "mutate"
        if pool == "read":
            key = None
        return self.run(lambda client: getattr(client, method)(*args, **kwargs), pool=pool, key=key)

    def run(
        self, work: Callable[[docker.APIClient], T], *, pool: str = "mutate", key: str | None = None
    ) -> asyncio.Future[T]:
        """Run ``work(client)`` in a thread; the answer is awaitable on the running loop."""
        return asyncio.wrap_future(self.executor.submit(pool, key, lambda: work(self.client)))
