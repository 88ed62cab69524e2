"""The one client of the hub's REST API, for what runs beside the hub: service, queue, idle service.

Questions and stops may be asked twice and are, where the connection broke or this process was late; a start
is asked for once. Scopes: ``list:users``, ``read:users:name``, ``read:users:groups``, ``read:users:activity``
and ``read:servers`` to read, ``delete:servers`` and ``servers`` to stop and start.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from typing import Any, Literal
from urllib.parse import quote, urlencode

from tornado.httpclient import HTTPClientError, HTTPRequest, HTTPResponse
from tornado.simple_httpclient import HTTPTimeoutError, SimpleAsyncHTTPClient

from .errors import DS01Error
from .lag import unhurried
from .person import Person

Stopped = Literal["stopped", "pending", "gone"]
"""What became of a stop. ``pending``: the hub goes on stopping; ``gone``: it had no such server to stop."""
QUESTION_S, STOP_S, START_S = 20.0, 90.0, 330.0
PAUSES_S = (0.2, 0.8)
"""Before each repetition after a broken connection: a hub that begins again is back or refuses by then."""
MAX_BODY = 64 * 2**20
"""Bytes of one answer: a page of 200 users with 20 servers each is about 4 MiB."""
MAX_PAGES = 10_000
USERS_KEPT = 5000
ACCEPTED = 202


class HubError(DS01Error):
    """The hub did not do what was asked. ``status`` is its answer's, or 0 when it did not answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


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
    container: str = ""
    """The engine's id of what the hub started, as far as it knows."""
    model: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """As the hub gave it."""
    lost: bool = False
    """The hub does not know it (any more), though its session runs."""

    @property
    def options(self) -> Mapping[str, Any]:
        """What it was started with."""
        options = self.model.get("user_options")
        return options if isinstance(options, Mapping) else {}

    @property
    def up(self) -> bool:
        """Whether it runs, or is about to start or stop."""
        return self.ready or bool(self.pending)


@dataclass(frozen=True)
class HubUser:
    """A user as the hub's API tells them, with their servers by name."""

    name: str
    groups: frozenset[str] = frozenset()
    admin: bool = False
    servers: Mapping[str, HubServer] = field(default_factory=dict, compare=False)

    @property
    def person(self) -> Person:
        """The user as the policy sees them."""
        return Person(self.name, self.groups, self.admin)

    def is_up(self, server: str) -> bool:
        """Whether a server of theirs runs, starts or stops."""
        return server in self.servers and self.servers[server].up


class HubClient:
    """One hub. ``url`` is ``JUPYTERHUB_API_URL``, ``token`` the service's own.

    ``parallel`` bounds what is asked at once, starts apart; ``page_size`` is how many users are asked for at
    once, 0 for what the hub finds right.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout: float = QUESTION_S,
        parallel: int = 100,
        page_size: int = 0,
        ssl_options: ssl.SSLContext | None = None,
    ) -> None:
        self._url, self._token, self._timeout = url.rstrip("/"), token, timeout
        self._parallel, self._page_size, self._ssl = parallel, page_size, ssl_options
        self._known: dict[str, tuple[float, HubUser]] = {}

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._starter.close()

    async def user(self, name: str, max_age: float = 30.0) -> HubUser:
        """A user, at most ``max_age`` seconds old; `HubError` 404 where there is none."""
        known = self._known.get(name)
        if known and time.monotonic() - known[0] < max_age:
            return known[1]
        found = read_user(_json(await self._ask("GET", f"users/{quote(name, safe='')}")))
        if len(self._known) >= USERS_KEPT:
            self._known.clear()
        self._known[name] = (time.monotonic(), found)
        return found

    async def person(self, name: str, max_age: float = 30.0) -> Person:
        """A user as the policy sees them: groups and whether the hub calls them an admin."""
        return (await self.user(name, max_age)).person

    async def users(self, state: str = "active") -> AsyncIterator[HubUser]:
        """Everybody with servers in ``state``, page by page.

        The hub says where the next page begins: it may hand out fewer at once than it was asked for.
        """
        query: dict[str, str | int] = {"state": state}
        if self._page_size:
            query["limit"] = self._page_size
        for _ in range(MAX_PAGES):
            page = _json(await self._ask("GET", f"users?{urlencode(query)}"))
            try:
                models, following = page["items"], page["_pagination"]["next"]
                after = int(following["offset"]) if following else 0
            except (KeyError, TypeError, ValueError) as error:
                raise HubError(0, f"the hub's list of users is odd: {error!r}") from error
            for model in models:
                yield read_user(model)
            if not following:
                return
            if after <= int(query.get("offset", 0)):
                break
            query["offset"] = after
        raise HubError(0, "the hub's list of users does not end")

    async def servers(self) -> dict[tuple[str, str], HubServer]:
        """Every server of a user who has a ready one, by (user, server name)."""
        return {(u.name, n): s async for u in self.users("ready") for n, s in u.servers.items()}

    async def server(self, user: str, name: str) -> HubServer | None:
        """One server as it is now, None when it is gone."""
        try:
            return (await self.user(user, max_age=0)).servers.get(name)
        except HubError as error:
            if error.status != 404:
                raise
            return None

    async def stop(self, user: str, server: str, remove: bool = False) -> Stopped:
        """Stop a server; ``remove`` forgets a named one too. One that does not run any more is no error."""
        try:
            body = {"remove": True} if remove and server else None
            answer = await self._ask("DELETE", _path(user, server), body, STOP_S)
        except HubError as error:
            if error.status not in (400, 404):
                raise
            return "gone"
        finally:
            self._known.pop(user, None)
        return "pending" if answer.code == ACCEPTED else "stopped"

    async def start(self, user: str, server: str, options: Mapping[str, object]) -> None:
        """Start a server with options; they are checked by the spawner like any other's. Never repeated."""
        body = {"user_options": options} if await self._wraps_options() else options
        try:
            await self._ask("POST", _path(user, server), body, START_S)
        finally:
            self._known.pop(user, None)

    async def _wraps_options(self) -> bool:
        """Hub 6 takes options in ``user_options``; hub 5 takes the body itself."""
        answer = _json(await self._ask("GET", ""))
        version = answer.get("version", "6") if isinstance(answer, dict) else "6"
        return int(str(version).split(".")[0]) >= 6

    # A start may take minutes; with a client of their own they keep no question waiting.
    @cached_property
    def _client(self) -> SimpleAsyncHTTPClient:
        return SimpleAsyncHTTPClient(force_instance=True, max_clients=self._parallel, max_body_size=MAX_BODY)

    @cached_property
    def _starter(self) -> SimpleAsyncHTTPClient:
        return SimpleAsyncHTTPClient(force_instance=True, max_clients=self._parallel, max_body_size=MAX_BODY)

    async def _ask(
        self, method: str, path: str, body: Any = None, timeout: float | None = None
    ) -> HTTPResponse:
        """One call; `HubError` when it does not succeed."""
        patience = timeout or self._timeout
        client = self._starter if method == "POST" else self._client

        def ask(seconds: float) -> Awaitable[HTTPResponse]:
            return client.fetch(self._request(method, path, body, seconds))

        pauses = iter(PAUSES_S if method != "POST" else ())
        while True:
            try:
                if method == "POST":
                    return await ask(patience)
                return await unhurried(ask, patience, HTTPTimeoutError)
            except HTTPClientError as error:
                if error.code != 599:
                    raise HubError(error.code, _message(error)) from error
                failed: Exception = error
            except OSError as error:
                failed = error
            pause = next(pauses, None)
            if pause is None or isinstance(failed, HTTPTimeoutError):
                raise HubError(0, f"the hub did not answer {method} {path}: {failed}") from failed
            await asyncio.sleep(pause)

    def _request(self, method: str, path: str, body: Any, seconds: float) -> HTTPRequest:
        return HTTPRequest(
            f"{self._url}/{path}",
            method=method,
            body=None if body is None else json.dumps(body),
            headers={
                "Authorization": f"token {self._token}",
                "Content-Type": "application/json",
                "Accept": "application/jupyterhub-pagination+json" if method == "GET" else "application/json",
            },
            allow_nonstandard_methods=True,
            request_timeout=seconds,
            connect_timeout=seconds,
            follow_redirects=False,  # the token goes nowhere else
            ssl_options=self._ssl,
        )


def read_user(model: Any) -> HubUser:
    """A user out of the API's model; `HubError` when it is none."""
    try:
        name = str(model["name"])
        groups, admin = frozenset(model.get("groups") or ()), bool(model.get("admin"))
        servers = {
            str(server_name): _server(name, str(server_name), server, groups, admin)
            for server_name, server in (model.get("servers") or {}).items()
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise HubError(0, f"the hub's answer is odd: {error!r}") from error
    return HubUser(name, groups, admin, servers)


def _server(user: str, name: str, model: Any, groups: frozenset[str], admin: bool) -> HubServer:
    state = model.get("state")
    return HubServer(
        user=user,
        name=name,
        path=model.get("url") or "",
        groups=groups,
        admin=admin,
        last_activity=_moment(model.get("last_activity")),
        started=_moment(model.get("started")),
        ready=bool(model.get("ready")),
        pending=model.get("pending") or "",
        container=str(state.get("object_id") or "") if isinstance(state, Mapping) else "",
        model=model,
    )


def _path(user: str, server: str) -> str:
    end = f"servers/{quote(server, safe='')}" if server else "server"
    return f"users/{quote(user, safe='')}/{end}"


def _json(response: HTTPResponse) -> Any:
    try:
        return json.loads(response.body)
    except ValueError as error:
        raise HubError(0, f"the hub's answer is not JSON: {error}") from error


def _moment(text: str | None) -> datetime | None:
    if not text:
        return None
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _message(error: HTTPClientError) -> str:
    """What the hub said, or the status where it said nothing."""
    body = error.response.body if error.response else b""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return f"the hub answered {error.code} {error.message}"
