"""Builds with their logs, environments with their recipes, courses with what they published.

The documents' content belongs to the image side of the product; here they are kept, found and changed
only from the state that the caller saw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Table, func, select

from . import models as t
from .db import Part, row, rows
from .events import append_event

ACTIVE = ("queued", "building", "checking")
"""States of a build that is not over."""


@dataclass(frozen=True)
class ActiveBuild:
    """A build that waits or is under way."""

    owner: str
    environment: str
    kind: str


@dataclass(frozen=True)
class Own:
    """The ids of one person's environments: those that are there, and those that builds are making."""

    environments: frozenset[str]


class Documents(Part):
    """Documents with an owner and a state."""

    def _put(self, table: Table, key: str, values: dict[str, Any], now: datetime) -> None:
        with self.db.write() as c:
            changed = c.execute(table.update().where(table.c.id == key).values(**values, updated_at=now))
            if changed.rowcount == 0:
                c.execute(table.insert().values(id=key, **values, created_at=now, updated_at=now))

    def _get(self, table: Table, key: str) -> dict[str, Any] | None:
        with self.db.read() as c:
            return row(c.execute(select(table).where(table.c.id == key)))

    def _list(
        self, table: Table, limit: int, states: Iterable[str] | None, **equal: str | None
    ) -> list[dict[str, Any]]:
        query = select(table).order_by(table.c.created_at.desc(), table.c.id).limit(limit)
        if states is not None:
            query = query.where(table.c.state.in_(list(states)))
        for name, value in equal.items():
            if value is not None:
                query = query.where(table.c[name] == value)
        with self.db.read() as c:
            return rows(c.execute(query))

    def _update(
        self, table: Table, key: str, now: datetime, change: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> dict[str, Any] | None:
        with self.db.write() as c:
            known = row(c.execute(select(table).where(table.c.id == key)))
            if known is None:
                return None
            values = {**change(dict(known)), "updated_at": now}
            c.execute(table.update().where(table.c.id == key).values(**values))
            return {**known, **values}

    def _delete(self, table: Table, key: str) -> bool:
        with self.db.write() as c:
            return bool(c.execute(table.delete().where(table.c.id == key)).rowcount)


class Builds(Documents):
    """Builds with their logs."""

    def put(
        self, build: str, owner: str, environment: str, state: str, data: dict[str, Any], now: datetime
    ) -> None:
        """Create or replace a build."""
        self._put(
            t.builds, build, {"owner": owner, "environment": environment, "state": state, "data": data}, now
        )

    def claim(
        self,
        build: str,
        owner: str,
        environment: str,
        data: dict[str, Any],
        now: datetime,
        admit: Callable[[Own, Sequence[ActiveBuild], int], None],
    ) -> None:
        """Queue a build where ``admit`` does not raise.

        It gets what the owner has, every build of the site that is waiting or under way, and the owner's
        builds of the last 24 hours, read in the transaction that writes: builds asked for side by side
        cannot pass a limit.
        """
        b = t.builds
        with self.db.write() as c:
            of_day = [b.c.owner == owner, b.c.created_at > now - timedelta(days=1)]
            day = c.execute(select(func.count()).select_from(b).where(*of_day)).scalar_one()
            active = _active(c)
            admit(_own(c, owner, active), active, day)
            values = {"owner": owner, "environment": environment, "state": "queued", "data": data}
            c.execute(b.insert().values(id=build, **values, created_at=now, updated_at=now))

    def get(self, build: str) -> dict[str, Any] | None:
        """A build, or None."""
        return self._get(t.builds, build)

    def find(
        self,
        owner: str | None = None,
        environment: str | None = None,
        states: Iterable[str] | None = None,
        limit: int = 200,
    ) -> list[dict[str, Any]]:
        """Builds, newest first."""
        return self._list(t.builds, limit, states, owner=owner, environment=environment)

    def move(
        self, build: str, state: str, now: datetime, *, expected: Iterable[str] | None = None, **data: Any
    ) -> bool:
        """Change a build's state and merge ``data`` into its document, in one transaction.

        With ``expected`` only from one of those states: False means somebody else was faster.
        """
        b = t.builds
        with self.db.write() as c:
            known = row(c.execute(select(b).where(b.c.id == build)))
            if known is None or (expected is not None and known["state"] not in set(expected)):
                return False
            values = {"state": state, "data": {**known["data"], **data}, "updated_at": now}
            c.execute(b.update().where(b.c.id == build).values(**values))
            if state != known["state"] and state in _BUILD_ACTIONS:
                append_event(
                    c, now, "build", state, user=known["owner"], build=build,
                    environment=known["environment"], image=str(data.get("image", "")),
                    reason=str(data.get("reason", "")),
                )  # fmt: skip
            return True

    def fail(self, states: Iterable[str], reason: str, now: datetime) -> list[str]:
        """Fail every build in ``states`` (after a restart nobody works on them); returns their ids."""
        stale = [b["id"] for b in self.find(states=states, limit=10_000)]
        return [b for b in stale if self.move(b, "failed", now, expected=states, reason=reason)]

    def delete(self, build: str) -> None:
        """Remove a build and its log."""
        with self.db.write() as c:
            c.execute(t.build_log.delete().where(t.build_log.c.build == build))
            c.execute(t.builds.delete().where(t.builds.c.id == build))

    def prune(self, before: datetime, states: Iterable[str]) -> int:
        """Remove the builds in ``states`` that nothing has changed since ``before``; returns how many."""
        b = t.builds
        query = select(b.c.id).where(b.c.updated_at < before, b.c.state.in_(list(states)))
        with self.db.read() as c:
            old = [r["id"] for r in rows(c.execute(query))]
        for build in old:
            self.delete(build)
        return len(old)

    def append_log(self, build: str, lines: Iterable[str]) -> int:
        """Add lines to a build's log; returns the number of the last."""
        log = t.build_log
        with self.db.write() as c:
            last = c.execute(select(func.max(log.c.seq)).where(log.c.build == build)).scalar() or 0
            values = [{"build": build, "seq": last + i, "text": line} for i, line in enumerate(lines, 1)]
            if values:
                c.execute(log.insert(), values)
            return int(last) + len(values)

    def log(self, build: str, after: int = 0, limit: int = 5000) -> list[dict[str, Any]]:
        """Log lines ``{seq, text}`` after line ``after``."""
        log = t.build_log
        query = select(log.c.seq, log.c.text).where(log.c.build == build, log.c.seq > after)
        with self.db.read() as c:
            return rows(c.execute(query.order_by(log.c.seq).limit(limit)))

    def trim_log(self, build: str, head: int, tail: int) -> int:
        """Keep the first ``head`` and last ``tail`` lines of a log; returns how many lines went."""
        log = t.build_log
        with self.db.write() as c:
            last = c.execute(select(func.max(log.c.seq)).where(log.c.build == build)).scalar() or 0
            middle = (log.c.seq > head) & (log.c.seq <= last - tail)
            return int(c.execute(log.delete().where(log.c.build == build, middle)).rowcount)


class Environments(Documents):
    """Environments of every kind with their recipes."""

    def claim(
        self, environment: str, owner: str, data: dict[str, Any], now: datetime, admit: Callable[[Own], None]
    ) -> bool:
        """Write down an own environment before it is made, where ``admit`` does not raise; False where it is
        there already, and stays as it was."""
        e = t.environments
        with self.db.write() as c:
            if row(c.execute(select(e.c.id).where(e.c.id == environment))):
                return False
            admit(_own(c, owner, _active(c)))
            values = {"owner": owner, "kind": "mine", "state": "ready", "data": data}
            c.execute(e.insert().values(id=environment, **values, created_at=now, updated_at=now))
            return True

    def put(
        self, environment: str, owner: str, kind: str, state: str, data: dict[str, Any], now: datetime
    ) -> None:
        """Create or replace an environment (``lab``, ``course``, ``mine``, ``shared``) and its recipe."""
        self._put(
            t.environments, environment, {"owner": owner, "kind": kind, "state": state, "data": data}, now
        )

    def get(self, environment: str) -> dict[str, Any] | None:
        """An environment, or None."""
        return self._get(t.environments, environment)

    def find(self, owner: str | None = None, kind: str | None = None) -> list[dict[str, Any]]:
        """Environments, newest first."""
        return self._list(t.environments, 10_000, None, owner=owner, kind=kind)

    def update(
        self, environment: str, now: datetime, change: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> dict[str, Any] | None:
        """Apply ``change`` to the whole document row in one transaction; None when it does not exist.

        ``change`` gets the row and returns the columns to set (``state``, ``data``, ``kind``, ``owner``).
        It must be quick and do no I/O: the store waits for it.
        """
        return self._update(t.environments, environment, now, change)

    def delete(self, environment: str) -> bool:
        """Remove an environment; False when there was none."""
        return self._delete(t.environments, environment)


class Courses(Documents):
    """Courses with what they published."""

    def put(self, course: str, owner: str, state: str, data: dict[str, Any], now: datetime) -> None:
        """Create or replace a course."""
        self._put(t.courses, course, {"owner": owner, "state": state, "data": data}, now)

    def apply(
        self,
        course: str,
        now: datetime,
        change: Callable[[dict[str, Any] | None, Mapping[str, int]], dict[str, Any] | None],
    ) -> None:
        """Make or change a course in one transaction.

        ``change`` gets the row as it is (None where there is none) and how many courses each owner has; it
        raises, or returns the columns to write, or None to leave everything as it is.
        """
        k = t.courses
        with self.db.write() as c:
            known = row(c.execute(select(k).where(k.c.id == course)))
            owned = rows(c.execute(select(k.c.owner, func.count().label("count")).group_by(k.c.owner)))
            values = change(known, {r["owner"]: r["count"] for r in owned})
            if values is None:
                return
            if known is None:
                c.execute(k.insert().values(id=course, **values, created_at=now, updated_at=now))
            else:
                c.execute(k.update().where(k.c.id == course).values(**values, updated_at=now))

    def get(self, course: str) -> dict[str, Any] | None:
        """A course, or None."""
        return self._get(t.courses, course)

    def find(self, states: Iterable[str] | None = None) -> list[dict[str, Any]]:
        """Courses, newest first."""
        return self._list(t.courses, 10_000, states)

    def update(
        self, course: str, now: datetime, change: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> dict[str, Any] | None:
        """As `Environments.update`, for a course."""
        return self._update(t.courses, course, now, change)

    def delete(self, course: str) -> bool:
        """Remove a course; its publications stay as history."""
        return self._delete(t.courses, course)

    def add_publication(self, course: str, image: str, by: str, now: datetime, **data: Any) -> int:
        """Record that ``course`` gives ``image`` (an immutable id) from now on."""
        with self.db.write() as c:
            values = {"course": course, "image": image, "by": by, "at": now, "data": data}
            number = c.execute(t.publications.insert().values(**values)).inserted_primary_key
            append_event(c, now, "course", "published", course=course, image=image, by=by)
            assert number is not None
            return int(number[0])

    def publications(self, course: str) -> list[dict[str, Any]]:
        """What a course published, newest first."""
        p = t.publications
        with self.db.read() as c:
            return rows(c.execute(select(p).where(p.c.course == course).order_by(p.c.id.desc())))


def _active(c: Connection) -> list[ActiveBuild]:
    b = t.builds
    found = rows(c.execute(select(b).where(b.c.state.in_(ACTIVE))))
    return [ActiveBuild(r["owner"], r["environment"], r["data"].get("kind", "mine")) for r in found]


def _own(c: Connection, owner: str, active: Iterable[ActiveBuild]) -> Own:
    e = t.environments
    there = rows(c.execute(select(e.c.id).where(e.c.owner == owner, e.c.kind == "mine")))
    making = {b.environment for b in active if b.owner == owner and b.kind == "mine"}
    return Own(frozenset({r["id"] for r in there} | making))


_BUILD_ACTIONS = ("queued", "building", "checking", "ready", "failed", "cancelled")
