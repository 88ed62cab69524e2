"""Requests for more than one's limits, and their answers: what pages, REST and the command share.

An approved request is a dated override (`policy.requests`). Every step is an event, and an answer is a
notice to whoever asked. Functions that take a store block.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypedDict
from urllib.parse import urlencode

from .. import messages
from ..core import freetext, yaml_reader
from ..core.errors import Refusal, Refused
from ..messages import notes
from ..policy.key_info import mended_by
from ..policy.requested import ASKABLE, MAX_DAYS, check_request, read_values
from ..policy.resolve import Limits, show
from ..store import Store
from ..store.rows import RequestRow

MAX_OPEN = 5
"""Open requests of one person."""
ASKED_A_DAY = 50
"""Requests of one person within 24 hours, withdrawn ones among them: each is kept, and an event."""
MAX_REASON = 1000
MAX_VALUE = 200
NOTICE_DAYS = 14


class RequestJson(TypedDict):
    """A request for REST and ``--json``; ``text`` is what is asked for, in the policy file's units."""

    id: str
    user: str
    state: str
    wanted: Mapping[str, object]
    reason: str
    until: datetime | None
    created_at: datetime
    by: str
    decided_at: datetime | None
    answer: str
    text: str


def ask_url(service_url: str, refusal: Refusal) -> str:
    """Where to ask for more after this refusal; empty where asking does not help. Pure."""
    return ask_about(service_url, refusal.code)


def ask_about(service_url: str, code: str) -> str:
    """The same by the code of a refusal."""
    key = mended_by(code)
    return f"{service_url}requests?{urlencode({'key': key})}" if key else ""


def ask_command(user: str, refusal: Refusal) -> str:
    """The command that asks for more after this refusal; empty where asking does not help. Pure."""
    key = mended_by(refusal.code)
    if not key:
        return ""
    return f"ds01 request {shlex.quote(user)} {key}=VALUE --reason REASON --until WHEN"


def parse_value(text: str) -> Any:
    """A value as the policy file writes it: ``2``, ``72h``, ``[1g.10gb, 2g.20gb]``. `Refused` (400)."""
    try:
        return yaml_reader.parse(text, "the value", yaml_reader.Bounds(size=MAX_VALUE)).data
    except yaml_reader.FileProblems:
        raise Refused(
            messages.bad_request("the value cannot be read", "write it as the policy file does")
        ) from None


def ask(
    store: Store,
    limits: Limits,
    wanted: Mapping[str, object],
    reason: str,
    until: datetime | None,
    now: datetime,
) -> str:
    """Keep a request of the person the limits are of; returns its id. `Refused` says what to mend."""
    user, reason = limits.person.name, _typed(reason)
    checked = check_request(wanted, reason[:MAX_REASON], until, limits, now)
    return store.requests.add(user, checked, reason.strip()[:MAX_REASON], now, until, _admit)


def _typed(text: str) -> str:
    """Text from a form or REST; `Refused` (400) where it has what no reader can see."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if why := freetext.problem(text, lines=True):
        raise Refused(messages.bad_request(f"printable text is expected; {why}", "type it without that"))
    return text


def _admit(waiting: int, day: int) -> None:
    if waiting >= MAX_OPEN:
        raise Refused(
            messages.bad_request(
                f"{MAX_OPEN} requests of yours are open already", "wait for the answers, or withdraw one"
            )
        )
    if day >= ASKED_A_DAY:
        raise Refused(messages.too_many_a_day("requests for more", ASKED_A_DAY))


def withdraw(store: Store, number: str, user: str, now: datetime) -> None:
    """Take one's own open request back."""
    row = _open(store, number)
    if row.user != user or not store.requests.decide(number, "withdrawn", user, now):
        raise Refused(messages.no_request())


def decide(
    store: Store,
    number: str,
    state: str,
    by: str,
    now: datetime,
    *,
    answer: str = "",
    wanted: Mapping[str, object] | None = None,
    until: datetime | None = None,
) -> RequestRow:
    """Approve or deny an open request and tell whoever asked; returns it as answered.

    The approver may grant other values of askable keys, or another end. `Refused` where the request is
    not open, a value cannot be read, the end is past, or a denial gives no reason.
    """
    row = _open(store, number)
    if state not in ("approved", "denied"):
        raise Refused(messages.bad_request("it can be approved or denied", "choose one of the two"))
    answer = _typed(answer).strip()[:MAX_REASON]
    if state == "denied" and not answer:
        raise Refused(messages.bad_request("a denial without a reason", "say why; the person reads it"))
    granted = dict(row.wanted if wanted is None else wanted)
    end = until or row.until
    if state == "approved":
        _check_grant(granted, end, now)
    done = store.requests.decide(
        number, state, by, now, answer=answer, wanted=granted if wanted is not None else None, until=until
    )
    if not done:
        raise Refused(messages.no_request())
    text = notes.request_answered(state, describe(granted), by, answer, end)
    level = "info" if state == "approved" else "warning"
    store.notices.add(
        row.user,
        text,
        now,
        kind="request",
        level=level,
        key=f"request:{number}",
        expires_at=now + timedelta(days=NOTICE_DAYS),
    )
    return replace(row, state=state, by=by, answer=answer, wanted=granted, until=end, decided_at=now)


def describe(wanted: Mapping[str, object]) -> str:
    """What is asked for, in the units of the policy file."""
    try:
        return ", ".join(f"{key}: {show(key, value)}" for key, value in read_values(wanted).items())
    except ValueError:
        return ", ".join(f"{key}: {value}" for key, value in wanted.items())


def as_json(row: RequestRow) -> RequestJson:
    """One request for REST and ``--json``."""
    return {
        "id": row.id,
        "user": row.user,
        "state": row.state,
        "wanted": row.wanted,
        "reason": row.reason,
        "until": row.until,
        "created_at": row.created_at,
        "by": row.by,
        "decided_at": row.decided_at,
        "answer": row.answer,
        "text": describe(row.wanted),
    }


def _check_grant(granted: Mapping[str, object], until: datetime | None, now: datetime) -> None:
    unknown = sorted(set(granted) - ASKABLE)
    if unknown or not granted:
        what = f"{unknown[0][:60]!r} cannot be granted so" if unknown else "it grants nothing"
        raise Refused(messages.bad_request(what, "put it into the policy file instead"))
    try:
        read_values(granted)
    except ValueError as error:
        raise Refused(messages.bad_request(str(error), "write the value as the policy file does")) from None
    if until is None or until <= now or until > now + timedelta(days=MAX_DAYS):
        raise Refused(messages.bad_request("its end is not within the next year", "give it another end"))


def _open(store: Store, number: str) -> RequestRow:
    row = next((r for r in store.requests.find(state="asked") if r.id == number), None)
    if row is None:
        raise Refused(messages.no_request())
    return row
