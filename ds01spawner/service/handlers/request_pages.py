"""Asking for more than one's limits: the page and the REST calls, for people and for admins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta, timezone
from typing import Any, ClassVar

from tornado import web

from ...admission import limit_requests
from ...core.errors import Refused, StoreError
from ...policy.key_info import keys
from ...policy.requested import ASKABLE
from ...store.rows import RequestRow
from ..handler_base import ApiHandler, PageHandler
from ..openapi import Operation, Operations

NAV = (("requests", "Ask for more"),)
SHOWN = 50
_ID = r"([0-9a-f]{12})"


class Requests(PageHandler):
    """Ask, see one's own requests and their answers; admins see and answer everybody's."""

    async def get(self) -> None:
        """``key`` picks what to ask for; a refusal links here with it."""
        await self.show()

    async def post(self) -> None:
        """``act`` is ``ask``, ``withdraw``, or for admins ``approved`` and ``denied``."""
        act = self.get_body_argument("act", "")
        try:
            if act == "ask":
                await self.ask()
            elif act == "withdraw":
                await self.withdraw()
            else:
                await self.decide(act)
        except Refused as refused:
            self.set_status(refused.refusal.status)
            await self.show(refused.refusal.sentence)
            return
        self.redirect(f"{self.ctx.urls.service}requests")

    async def ask(self) -> None:
        """Keep a request of the person."""
        key = self.get_body_argument("key", "")
        wanted = {key: limit_requests.parse_value(self.get_body_argument("value", ""))}
        reason, now = self.get_body_argument("reason", ""), self.ctx.clock()
        until, limits = _last_day(self.get_body_argument("until", "")), await self.limits()
        await self.ctx.store(lambda s: limit_requests.ask(s, limits, wanted, reason, until, now))

    async def withdraw(self) -> None:
        """Take an own request back."""
        number, now = self.get_body_argument("id", ""), self.ctx.clock()
        await self.ctx.store(lambda s: limit_requests.withdraw(s, number, self.person.name, now))

    async def decide(self, state: str) -> None:
        """Answer a request; an end left as it was is the one asked for."""
        self.need_admin()
        number, answer = self.get_body_argument("id", ""), self.get_body_argument("answer", "")
        until, now, by = _last_day(self.get_body_argument("until", "")), self.ctx.clock(), self.person.name
        await self.ctx.store(
            lambda s: limit_requests.decide(s, number, state, by, now, answer=answer, until=until)
        )

    async def show(self, refused: str = "") -> None:
        """The page."""
        limits, name, problem = await self.limits(), self.person.name, ""
        mine: list[RequestRow] = []
        waiting: list[RequestRow] = []
        try:
            mine = (await self.ctx.store(lambda s: s.requests.find(name)))[:SHOWN]
            if self.person.admin:
                waiting = await self.ctx.store(lambda s: s.requests.find(state="asked"))
        except StoreError as error:
            problem = f"Requests cannot be read just now: {error}"
        asked = self.get_argument("key", "")
        now = self.ctx.clock()
        self.page(
            "requests.html",
            choices=[
                (name, info.key.title, info.show(limits.value(name)))
                for name, info in keys().items()
                if info.key.askable
            ],
            chosen=asked if asked in ASKABLE else "",
            typed={k: self.get_body_argument(k, "") for k in ("value", "reason", "until")},
            mine=[_row(r, now) for r in mine],
            waiting=[_row(r, now) for r in waiting],
            refused=refused or problem,
            first_day=(now + timedelta(days=1)).date(),
        )


class RequestsApi(ApiHandler):
    """Own requests, or everybody's for admins."""

    openapi: ClassVar[Operations] = {
        "get": Operation(
            "Own requests for more, newest first; `all=1` for admins", "Requests", query=("all", "state")
        ),
        "post": Operation(
            "Ask for more than your limits until a date; an admin answers",
            "Its id",
            body={
                "wanted": {"type": "object", "description": "policy keys and values, such as session.memory"},
                "reason": {"type": "string"},
                "until": {"type": "string", "format": "date-time"},
            },
        ),
    }

    async def get(self) -> None:
        """List."""
        everybody = self.get_query_argument("all", "") in ("1", "true")
        if everybody:
            self.need_admin()
        state = self.get_query_argument("state", "")[:20] or None
        user = None if everybody else self.person.name
        rows = await self.ctx.store(lambda s: s.requests.find(user, state))
        self.json({"requests": [limit_requests.as_json(r) for r in rows]})

    async def post(self) -> None:
        """Ask."""
        body = _known(self.body(), "wanted", "reason", "until")
        wanted, reason = _wanted(body, {}), _text(body, "reason")
        until, now, limits = _moment(body), self.ctx.clock(), await self.limits()
        number = await self.ctx.store(lambda s: limit_requests.ask(s, limits, wanted, reason, until, now))
        self.json({"ok": True, "id": number}, 201)


class RequestApi(ApiHandler):
    """One request of one's own."""

    openapi: ClassVar[Operations] = {"delete": Operation("Withdraw an own open request", "Done")}

    async def delete(self, number: str) -> None:
        """Withdraw."""
        now, name = self.ctx.clock(), self.person.name
        await self.ctx.store(lambda s: limit_requests.withdraw(s, number, name, now))
        self.json({"ok": True})


class DecisionApi(ApiHandler):
    """An admin's answer."""

    openapi: ClassVar[Operations] = {
        "post": Operation(
            "Approve or deny an open request; admins only. `wanted` and `until` grant something else",
            "The request as answered",
            body={
                "state": {"enum": ["approved", "denied"]},
                "answer": {"type": "string"},
                "wanted": {"type": "object"},
                "until": {"type": "string", "format": "date-time"},
            },
        )
    }

    async def post(self, number: str) -> None:
        """Decide."""
        self.need_admin()
        body = _known(self.body(), "state", "answer", "wanted", "until")
        state, answer, by, now = (
            _text(body, "state"),
            _text(body, "answer"),
            self.person.name,
            self.ctx.clock(),
        )
        wanted, until = _wanted(body, None), _moment(body)
        done = await self.ctx.store(
            lambda s: limit_requests.decide(
                s, number, state, by, now, answer=answer, wanted=wanted, until=until
            )
        )
        self.json({"ok": True, **limit_requests.as_json(done)})


@dataclass(frozen=True)
class RequestLine(RequestRow):
    """A request as the page shows it."""

    text: str = ""


def _row(row: RequestRow, now: datetime) -> RequestLine:
    over = row.state == "approved" and row.until is not None and row.until <= now
    line = RequestLine(**vars(row), text=limit_requests.describe(row.wanted))
    return replace(line, state="over" if over else row.state)


def _last_day(text: str) -> datetime | None:
    """The end of the day a date field names (UTC), None where it is empty or none."""
    try:
        day = date.fromisoformat(text.strip())
        return datetime.combine(day + timedelta(days=1), time(), timezone.utc)
    except (ValueError, OverflowError):
        return None


def _known(body: Mapping[str, object], *names: str) -> Mapping[str, object]:
    if unknown := sorted(set(body) - set(names)):
        raise web.HTTPError(400, f"{unknown[0][:60]!r} is not known here; {', '.join(names)} are")
    return body


def _text(body: Mapping[str, object], name: str) -> str:
    value = body.get(name, "")
    if not isinstance(value, str):
        raise web.HTTPError(400, f"{name} is a text")
    return value


def _wanted(body: Mapping[str, object], missing: Any) -> Any:
    value = body.get("wanted", missing)
    if value is not missing and not isinstance(value, dict):
        raise web.HTTPError(400, "wanted is an object of policy keys and values")
    return value


def _moment(body: Mapping[str, object]) -> datetime | None:
    text = _text(body, "until")
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise web.HTTPError(400, "until is a time with zone, such as 2026-03-31T18:00+00:00")
    return at.astimezone(timezone.utc)


def routes() -> list[tuple[str, Any]]:
    """Paths below the service's prefix."""
    return [
        (r"requests", Requests),
        (r"api/requests", RequestsApi),
        (rf"api/requests/{_ID}", RequestApi),
        (rf"api/requests/{_ID}/decision", DecisionApi),
    ]
