"""What a session's own Jupyter server says about its kernels.

It is asked at its container's address, not through the proxy: a request through the proxy would count as
activity of the session. The answer comes from a person's container, so its size and time are bounded and
nothing in it is trusted beyond "this counts as in use".
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Sequence
from datetime import datetime, timezone
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest, HTTPResponse
from tornado.simple_httpclient import HTTPTimeoutError, SimpleAsyncHTTPClient

from ..core.lag import unhurried
from .model import Kernels, Reading, failed, known, unsupported

MAX_BODY = 2 * 2**20
MAX_KERNELS = 500
NOTIFY_PATH = "/jupyterlab-notifications-extension/ingest"
"""Where that extension takes a notice for every open tab of the server."""
_IDLE_STATES = frozenset({"idle", "starting", "dead"})
"""``starting`` is what a kernel says for ever when no page ever connected to it."""


class LabClient:
    """Asks single-user servers. ``token`` needs the scope ``access:servers``."""

    def __init__(self, token: str, timeout: float = 5.0, parallel: int = 32) -> None:
        self._token, self._timeout = token, timeout
        self._client: AsyncHTTPClient = SimpleAsyncHTTPClient(
            force_instance=True, max_clients=parallel, max_body_size=MAX_BODY
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    async def kernels(self, addresses: Sequence[str], port: int, path: str) -> Reading[Kernels]:
        """Kernels of the server at the first of ``addresses`` that answers; ``path`` is its base URL."""
        answer: Reading[Kernels] = failed("its container has no address")
        for address in addresses:
            host = f"[{address}]" if ":" in address else address
            answer = await self._ask(f"http://{host}:{port}{path.rstrip('/')}")
            if answer.status != "failed":
                break
        return answer

    async def terminals(self, addresses: Sequence[str], port: int, path: str) -> Reading[datetime | None]:
        """When a terminal was last used, output included: for where keystrokes cannot be seen."""
        answer: Reading[datetime | None] = failed("its container has no address")
        for address in addresses:
            host = f"[{address}]" if ":" in address else address
            try:
                base = f"http://{host}:{port}{path.rstrip('/')}"
                listed = await self._get(f"{base}/api/terminals?no_track_activity=1")
                times = [t for e in listed if (t := _moment(e.get("last_activity"))) is not None]
                return Reading("known", max(times, default=None))
            except HTTPClientError as error:
                if error.code == 404:
                    return unsupported("its server has no terminals")
                answer = failed(_why(error))
            except (OSError, ValueError, TypeError, AttributeError) as error:
                answer = failed(f"its server could not be asked: {error or type(error).__name__}")
        return answer

    async def notify(self, addresses: Sequence[str], port: int, path: str, text: str, level: str) -> bool:
        """Show ``text`` inside JupyterLab, where its image has ``jupyterlab-notifications-extension``.

        False where it has not, or the server does not answer. ``level`` is ``info`` or ``warning``.
        """
        body = json.dumps({"message": text, "type": level, "autoClose": False, "immediate": True})
        for address in addresses:
            host = f"[{address}]" if ":" in address else address
            try:
                await self._client.fetch(
                    HTTPRequest(
                        f"http://{host}:{port}{path.rstrip('/')}{NOTIFY_PATH}",
                        method="POST",
                        headers={
                            "Authorization": f"token {self._token}",
                            "Content-Type": "application/json",
                        },
                        body=body,
                        connect_timeout=self._timeout,
                        request_timeout=self._timeout,
                        follow_redirects=False,
                    )
                )
                return True
            except HTTPClientError as error:
                if error.code != 599:
                    return False
            except OSError:
                continue
        return False

    async def _ask(self, base: str) -> Reading[Kernels]:
        try:
            listed = await self._get(f"{base}/api/kernels?no_track_activity=1")
            busy = any(_is_busy(k) for k in listed)
            names = _names(await self._sessions(base)) if busy else {}
            return known(read_kernels(listed, names))
        except HTTPClientError as error:
            if error.code == 404:
                return unsupported("its server is not a Jupyter server")
            return failed(_why(error))
        except (OSError, ValueError, TypeError, AttributeError) as error:
            return failed(f"its server could not be asked: {error or type(error).__name__}")

    async def _sessions(self, base: str) -> list[Any]:
        try:
            return await self._get(f"{base}/api/sessions?no_track_activity=1")
        except (HTTPClientError, OSError, ValueError):
            return []  # only names are lost

    async def _get(self, url: str) -> list[Any]:
        headers = {"Authorization": f"token {self._token}", "Accept": "application/json"}

        def ask(timeout: float) -> Awaitable[HTTPResponse]:
            return self._client.fetch(
                HTTPRequest(
                    url,
                    headers=headers,
                    follow_redirects=False,
                    connect_timeout=timeout,
                    request_timeout=timeout,
                )
            )

        response = await unhurried(ask, self._timeout, HTTPTimeoutError)
        data = json.loads(response.body.decode("utf-8", "replace"))
        if not isinstance(data, list):
            raise ValueError("the answer is not a list")
        return data[:MAX_KERNELS]


def read_kernels(listed: Sequence[Any], names: dict[str, str]) -> Kernels:
    """Kernels from the answer of ``/api/kernels``; ``ValueError`` when it is not one.

    A state this code does not know counts as busy.
    """
    busy, last = [], None
    for kernel in listed:
        if _is_busy(kernel):
            busy.append(names.get(str(kernel.get("id")), str(kernel.get("name") or "a kernel")))
        used = _moment(kernel.get("last_activity"))
        last = used if last is None or (used is not None and used > last) else last
    return Kernels(tuple(busy), last, len(listed))


def _is_busy(kernel: Any) -> bool:
    if not isinstance(kernel, dict):
        raise ValueError("a kernel is not an object")
    return kernel.get("execution_state") not in _IDLE_STATES


def _names(sessions: list[Any]) -> dict[str, str]:
    found = {}
    for session in sessions:
        if isinstance(session, dict) and isinstance(session.get("kernel"), dict):
            found[str(session["kernel"].get("id"))] = str(session.get("name") or session.get("path") or "")
    return {k: v for k, v in found.items() if v}


def _moment(text: Any) -> datetime | None:
    if not isinstance(text, str):
        return None
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _why(error: HTTPClientError) -> str:
    if error.code == 599:
        return "its server did not answer in time"
    if error.code in (301, 302, 401, 403):
        return "its server does not let the idle service in"
    return f"its server answered with status {error.code}"
