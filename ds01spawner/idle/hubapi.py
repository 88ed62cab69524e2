"""The few calls of the hub's REST API that the idle service needs.

Scopes: ``list:users``, ``read:users:name``, ``read:users:groups``, ``read:users:activity``,
``read:servers``, ``delete:servers``, and ``access:servers`` for asking the servers themselves.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal
from urllib.parse import quote

from tornado.httpclient import HTTPClientError, HTTPRequest, HTTPResponse
from tornado.httputil import url_concat
from tornado.simple_httpclient import HTTPTimeoutError, SimpleAsyncHTTPClient

from ..core.lag import unhurried
from ..errors import DS01Error

Stopped = Literal["stopped", "pending", "gone"]


class HubError(DS01Error):
    """The hub did not answer, or not as expected."""


@dataclass(frozen=True)
class HubServer:
    """A server as the hub's API tells it. ``path`` is its base URL, such as ``/user/alice/``."""

    user: str
    name: str
    path: str
    groups: frozenset[str] = frozenset()
    admin: bool = False
    last_activity: datetime | None = None
    started: datetime | None = None
    ready: bool = False
    pending: str = ""
    lost: bool = False
    """The hub does not know it (any more), though its session runs."""


class HubClient:
    """One hub. ``url`` is ``JUPYTERHUB_API_URL``."""

    def __init__(self, url: str, token: str, timeout: float = 60.0, parallel: int = 32) -> None:
        self._url, self._timeout = url.rstrip("/"), timeout
        self._headers = {"Authorization": f"token {token}"}
        self._client = SimpleAsyncHTTPClient(force_instance=True, max_clients=parallel)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    async def servers(self) -> dict[tuple[str, str], HubServer]:
        """Every ready server by (user, server name)."""
        found: dict[tuple[str, str], HubServer] = {}
        url: str | None = url_concat(f"{self._url}/users", {"state": "ready"})
        while url:
            page = self._json(await self._fetch(url, accept="application/jupyterhub-pagination+json"))
            try:
                items = page["items"] if isinstance(page, dict) else page
                following = page["_pagination"]["next"] if isinstance(page, dict) else None
                url = following["url"] if following else None
                found |= {(s.user, s.name): s for user in items for s in read_servers(user)}
            except (KeyError, TypeError) as error:
                raise HubError(f"the hub's list of users is odd: {error!r}") from error
        return found

    async def server(self, user: str, name: str) -> HubServer | None:
        """One server as it is now, None when it is gone."""
        try:
            response = await self._fetch(f"{self._url}/users/{quote(user, safe='')}")
        except HubError as error:
            if getattr(error.__cause__, "code", None) == 404:
                return None
            raise
        return next((s for s in read_servers(self._json(response)) if s.name == name), None)

    async def stop(self, user: str, name: str) -> Stopped:
        """Stop a server. ``pending``: the hub accepted and goes on stopping; ``gone``: there was none."""
        end = f"servers/{quote(name, safe='')}" if name else "server"
        try:
            response = await self._fetch(f"{self._url}/users/{quote(user, safe='')}/{end}", "DELETE")
        except HubError as error:
            if getattr(error.__cause__, "code", None) == 404:
                return "gone"
            raise
        return "pending" if response.code == 202 else "stopped"

    async def _fetch(self, url: str, method: str = "GET", accept: str = "application/json") -> HTTPResponse:
        def ask(timeout: float) -> Awaitable[HTTPResponse]:
            request = HTTPRequest(
                url,
                method=method,
                headers={**self._headers, "Accept": accept},
                request_timeout=timeout,
                connect_timeout=timeout,
                follow_redirects=False,
            )
            return self._client.fetch(request)

        try:  # a stop may be asked for again: one that is gone is no error
            return await unhurried(ask, self._timeout, HTTPTimeoutError)
        except (HTTPClientError, OSError) as error:
            raise HubError(f"the hub did not answer {method} {url}: {error}") from error

    @staticmethod
    def _json(response: HTTPResponse) -> Any:
        try:
            return json.loads(response.body)
        except ValueError as error:
            raise HubError(f"the hub's answer is not JSON: {error}") from error


def read_servers(user: Mapping[str, Any]) -> list[HubServer]:
    """The servers in a user model; `HubError` when it is not one."""
    try:
        return [
            HubServer(
                user=user["name"],
                name=name,
                path=server.get("url") or "",
                groups=frozenset(user.get("groups") or ()),
                admin=bool(user.get("admin")),
                last_activity=_moment(server.get("last_activity")),
                started=_moment(server.get("started")),
                ready=bool(server.get("ready")),
                pending=server.get("pending") or "",
            )
            for name, server in (user.get("servers") or {}).items()
        ]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise HubError(f"the hub's answer is odd: {error!r}") from error


def _moment(text: str | None) -> datetime | None:
    if not text:
        return None
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
