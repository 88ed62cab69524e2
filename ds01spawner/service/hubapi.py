"""The hub's REST API as the service uses it: people, their servers, start and stop."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Any
from urllib.parse import quote, urlencode

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPResponse
from tornado.simple_httpclient import HTTPTimeoutError

from ..core.lag import unhurried
from ..errors import DS01Error
from ..policy.resolve import Person

PEOPLE_TTL_S = 30.0
PEOPLE_KEPT = 5000
PAGE = 200
ACCEPTED = 202


class HubError(DS01Error):
    """The hub did not do what was asked. ``status`` is its answer's, or 0 when it did not answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class HubApi:
    """See the module's text. ``url`` ends with ``/hub/api``; the token is the service's own."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._people: dict[str, tuple[float, Person, dict[str, Any]]] = {}

    async def request(self, method: str, path: str, body: Any = None, timeout: float = 20) -> Any:
        """One call; returns the decoded JSON (None for an empty answer), or raises `HubError`."""
        answer = await self._fetch(method, path, body, timeout)
        return json.loads(answer.body) if answer.body else None

    async def _fetch(self, method: str, path: str, body: Any, timeout: float) -> HTTPResponse:
        data = json.dumps(body) if body is not None else None
        headers = {"Authorization": f"token {self._token}", "Content-Type": "application/json"}

        def ask(seconds: float) -> Awaitable[HTTPResponse]:
            return AsyncHTTPClient().fetch(
                f"{self._url}/{path}",
                method=method,
                body=data,
                headers=headers,
                allow_nonstandard_methods=True,
                request_timeout=seconds,
            )

        try:  # a start is not asked for twice
            if method == "POST":
                return await ask(timeout)
            return await unhurried(ask, timeout, HTTPTimeoutError)
        except HTTPClientError as error:
            raise HubError(error.code, _message(error)) from error
        except OSError as error:
            raise HubError(0, f"the hub did not answer: {error}") from error

    async def model(self, name: str, max_age: float = PEOPLE_TTL_S) -> dict[str, Any]:
        """The hub's model of a user, at most ``max_age`` seconds old."""
        return (await self._lookup(name, max_age))[2]

    async def person(self, name: str, max_age: float = PEOPLE_TTL_S) -> Person:
        """A user as the policy sees them: groups and whether the hub calls them an admin."""
        return (await self._lookup(name, max_age))[1]

    async def users(self, state: str = "active") -> AsyncIterator[dict[str, Any]]:
        """User models of everybody with servers in ``state``, page by page."""
        offset = 0
        while True:
            query = urlencode({"state": state, "offset": offset, "limit": PAGE})
            page = await self.request("GET", f"users?{query}")
            for model in page:
                yield model
            if len(page) < PAGE:
                return
            offset += PAGE

    async def stop(self, user: str, server: str) -> bool:
        """Retire a server. One that does not run any more is no error.

        Whether the hub is still at it; if not, it has ended the server or does not know it.
        """
        under_way = False
        try:
            answer = await self._fetch("DELETE", self._server_path(user, server), None, timeout=90)
            under_way = answer.code == ACCEPTED
        except HubError as error:
            if error.status not in (400, 404):
                raise
        self._people.pop(user, None)
        return under_way

    async def start(self, user: str, server: str, options: dict[str, Any]) -> None:
        """Start a server with options; they are checked by the spawner like any other's."""
        body = {"user_options": options} if await self._wraps_options() else options
        await self.request("POST", self._server_path(user, server), body, timeout=330)
        self._people.pop(user, None)

    async def _wraps_options(self) -> bool:
        """Hub 6 takes options in ``user_options``; hub 5 takes the body itself."""
        version = (await self.request("GET", "")).get("version", "6")
        return int(str(version).split(".")[0]) >= 6

    async def _lookup(self, name: str, max_age: float) -> tuple[float, Person, dict[str, Any]]:
        known = self._people.get(name)
        if known and time.monotonic() - known[0] <= max_age:
            return known
        model = await self.request("GET", f"users/{quote(name, safe='')}")
        person = Person(model["name"], frozenset(model.get("groups") or ()), bool(model.get("admin")))
        if len(self._people) >= PEOPLE_KEPT:
            self._people.clear()
        self._people[name] = (time.monotonic(), person, model)
        return self._people[name]

    @staticmethod
    def _server_path(user: str, server: str) -> str:
        path = f"servers/{quote(server, safe='')}" if server else "server"
        return f"users/{quote(user, safe='')}/{path}"


def _message(error: HTTPClientError) -> str:
    """What the hub said, or the status where it said nothing."""
    body = error.response.body if error.response else b""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return f"the hub answered {error.code} {error.message}"
