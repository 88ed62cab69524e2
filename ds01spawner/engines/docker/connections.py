"""Few connections to an engine for each process, shared by all its threads, and none while it is idle.

docker-py keeps a pool of connections for each address that it asks, and the id of a container is part of
the address: after some hundred sessions a hub had a thousand connections, and so had the engine. Here all
clients of one engine share one pool, whatever they ask.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import Any, ClassVar

import docker
import requests.adapters
from docker.transport import UnixHTTPAdapter
from docker.transport.unixconn import UnixHTTPConnectionPool
from urllib3.util.connection import is_connection_dropped

MOST_KEPT = 8
"""Connections kept for the next call. More may be in use at a time; those are closed after their call."""
IDLE_S = 20.0
"""Seconds after which a connection without a call is closed."""


def connect(*, timeout: float = 60, version: str = "auto", **options: Any) -> docker.APIClient:
    """A client whose connections are the process's own few. Asks the engine its version where it must."""
    client = docker.APIClient(version=version, timeout=timeout, **options)
    if client.base_url.startswith("http+docker://"):
        client.trust_env = False  # no web proxy on a socket; looking for one costs 0.4 ms a call
        own = client.get_adapter(client.base_url)
        client.mount("http+docker://", _SharedAdapter(f"http+unix://{own.socket_path}", timeout))
        own.close()
    elif client.base_url.startswith("http://"):
        client.mount("http://", _by_network(client.base_url))
    return client


class _Pool(UnixHTTPConnectionPool):  # type: ignore[misc]
    """The connections to one socket."""

    def __init__(self, socket_path: str) -> None:
        super().__init__("http+docker://localhost", socket_path, maxsize=MOST_KEPT)
        self._guard = threading.Lock()
        self._closer: threading.Thread | None = None

    def _put_conn(self, conn: Any) -> None:
        if conn is None:
            return
        conn.idle_since = time.monotonic()
        try:
            self.pool.put(conn, block=False)
        except (queue.Full, AttributeError):
            conn.close()
            return
        with self._guard:
            if self._closer is None:
                self._closer = threading.Thread(target=self._close_idle, name="ds01-engine-idle", daemon=True)
                self._closer.start()

    def _get_conn(self, timeout: float | None = None) -> Any:
        try:
            conn = self.pool.get(block=False)
        except queue.Empty:
            conn = None
        if conn is not None and is_connection_dropped(conn):
            conn.close()  # the engine was restarted; it connects again by itself
        return conn or self._new_conn()

    def kept(self) -> int:
        """How many connections wait for a call."""
        return sum(conn is not None for conn in list(self.pool.queue))

    def _close_idle(self) -> None:
        while True:
            time.sleep(IDLE_S / 4)
            with self._guard:
                left = self._close_old(time.monotonic() - IDLE_S)
                if not left:
                    self._closer = None
                    return

    def _close_old(self, before: float) -> int:
        kept = []
        with contextlib.suppress(queue.Empty):
            while True:
                kept.append(self.pool.get(block=False))
        fresh = [conn for conn in kept if conn is not None and conn.idle_since > before]
        for conn in kept:
            if conn is not None and conn not in fresh:
                conn.close()
        for conn in fresh:
            try:
                self.pool.put(conn, block=False)
            except queue.Full:
                conn.close()
        return len(fresh)


class _SharedAdapter(UnixHTTPAdapter):  # type: ignore[misc]
    """One pool for a socket, of all clients and for all addresses. Closing a client leaves it."""

    _pools: ClassVar[dict[str, _Pool]] = {}
    _guard: ClassVar[threading.Lock] = threading.Lock()

    def get_connection(self, url: str, proxies: Any = None) -> _Pool:
        """The pool of the socket, whatever the address."""
        with self._guard:
            if self.socket_path not in self._pools:
                self._pools[self.socket_path] = _Pool(self.socket_path)
            return self._pools[self.socket_path]


_networked: dict[str, requests.adapters.HTTPAdapter] = {}
_networked_guard = threading.Lock()


def _by_network(base_url: str) -> requests.adapters.HTTPAdapter:
    """One pool for an engine behind TCP."""
    with _networked_guard:
        if base_url not in _networked:
            _networked[base_url] = _Lasting(pool_connections=1, pool_maxsize=MOST_KEPT)
        return _networked[base_url]


class _Lasting(requests.adapters.HTTPAdapter):
    """Closing one client leaves the connections of the others."""

    def close(self) -> None:
        """Nothing to do."""


def kept(socket_path: str) -> int:
    """How many connections of this process wait for a call to an engine. For tests and metrics."""
    pool = _SharedAdapter._pools.get(socket_path)
    return pool.kept() if pool else 0
