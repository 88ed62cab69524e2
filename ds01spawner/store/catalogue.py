"""Builds with their logs, environments with their recipes, courses with what they published.

The documents' content belongs to the image side of the product; here they are kept, found and changed
only from the state that the caller saw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar, Generic, TypeVar

from sqlalchemy import Connection, Table, func, select

from . import models as t
from .db import Part
from .events import append_event
from .rows import BuildRow, CourseRow, DocumentRow, EnvironmentRow, LogLine, PublicationRow, many, one

D = TypeVar("D", bound=DocumentRow)

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


class Documents(Part, Generic[D]):
    """Documents with an owner and a state."""

    table: ClassVar[Table]
    kind: type[D]

    def get(self, key: str) -> D | None:
        """One of them, or None."""
        with self.db.read() as c:
            return self._one(c, key)

    def update(self, key: str, now: datetime, change: Callable[[D], Mapping[str, object]]) -> D | None:
        """Apply ``change`` in one transaction; the row afterwards, None when it does not exist.

        ``change`` gets the row and returns the columns to set (``state``, ``data``, ``kind``, ``owner``).
        It must be quick and do no I/O: the store waits for it.
        """
        with self.db.write() as c:
            known = self._one(c, key)
            if known is None:
                return None
            self._set(c, key, **change(known), updated_at=now)
            return self._one(c, key)

    def delete(self, key: str) -> bool:
        """Remove it; False when there was none."""
        with self.db.write() as c:
            return bool(c.execute(self.table.delete().where(self.table.c.id == key)).rowcount)

    def _put(self, key: str, now: datetime, **values: Any) -> None:
        with self.db.write() as c:
            if not self._set(c, key, **values, updated_at=now):
                c.execute(self.table.insert().values(id=key, **values, created_at=now, updated_at=now))

    def _one(self, c: Connection, key: str) -> D | None:
        return one(self.kind, c.execute(select(self.table).where(self.table.c.id == key)))

    def _set(self, c: Connection, key: str, **values: Any) -> bool:
        return bool(c.execute(self.table.update().where(self.table.c.id == key).values(**values)).rowcount)

    def _find(self, limit: int, states: Iterable[str] | None, **equal: str | None) -> list[D]:
        columns = self.table.c
        query = select(self.table).order_by(columns.created_at.desc(), columns.id).limit(limit)
        if states is not None:
            query = query.where(columns.state.in_(list(states)))
        for name, value in equal.items():
            if value is not None:
                query = query.where(columns[name] == value)
        with self.db.read() as c:
            return many(self.kind, c.execute(query))


class Builds(Documents[BuildRow]):
    """Builds with their logs."""

    table, kind = t.builds, BuildRow

    def put(
        self, build: str, owner: str, environment: str, state: str, data: Mapping[str, object], now: datetime
    ) -> None:
        """Create or replace a build."""
        self._put(build, now, owner=owner, environment=environment, state=state, data=data)

    def claim(
        self,
        build: str,
        owner: str,
        environment: str,
        data: Mapping[str, object],
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

    def find(
        self,
        owner: str | None = None,
        environment: str | None = None,
        states: Iterable[str] | None = None,
        limit: int = 200,
    ) -> list[BuildRow]:
        """Builds, newest first."""
        return self._find(limit, states, owner=owner, environment=environment)

    def move(
        self, build: str, state: str, now: datetime, *, expected: Iterable[str] | None = None, **data: Any
    ) -> bool:
        """Change a build's state and merge ``data`` into its document, in one transaction.

        With ``expected`` only from one of those states: False means somebody else was faster.
        """
        with self.db.write() as c:
            known = self._one(c, build)
            if known is None or (expected is not None and known.state not in set(expected)):
                return False
            self._set(c, build, state=state, data={**known.data, **data}, updated_at=now)
            if state != known.state and state in _BUILD_ACTIONS:
                append_event(
                    c, now, "build", state, user=known.owner, build=build,
                    environment=known.environment, image=str(data.get("image", "")),
                    reason=str(data.get("reason", "")),
                )  # fmt: skip
            return True

    def fail(self, states: Iterable[str], reason: str, now: datetime) -> list[str]:
        """Fail every build in ``states`` (after a restart nobody works on them); returns their ids."""
        stale = [b.id for b in self.find(states=states, limit=10_000)]
        return [b for b in stale if self.move(b, "failed", now, expected=states, reason=reason)]

    def delete(self, key: str) -> bool:
        """Remove a build and its log; False when there was none."""
        with self.db.write() as c:
            c.execute(t.build_log.delete().where(t.build_log.c.build == key))
            return bool(c.execute(t.builds.delete().where(t.builds.c.id == key)).rowcount)

    def prune(self, before: datetime, states: Iterable[str]) -> int:
        """Remove the builds in ``states`` that nothing has changed since ``before``; returns how many."""
        b = t.builds
        query = select(b.c.id).where(b.c.updated_at < before, b.c.state.in_(list(states)))
        with self.db.read() as c:
            old = list(c.execute(query).scalars())
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

    def log(self, build: str, after: int = 0, limit: int = 5000) -> list[LogLine]:
        """Log lines after line ``after``."""
        log = t.build_log
        query = select(log.c.seq, log.c.text).where(log.c.build == build, log.c.seq > after)
        with self.db.read() as c:
            return many(LogLine, c.execute(query.order_by(log.c.seq).limit(limit)))

    def trim_log(self, build: str, head: int, tail: int) -> int:
        """Keep the first ``head`` and last ``tail`` lines of a log; returns how many lines went."""
        log = t.build_log
        with self.db.write() as c:
            last = c.execute(select(func.max(log.c.seq)).where(log.c.build == build)).scalar() or 0
            middle = (log.c.seq > head) & (log.c.seq <= last - tail)
            return int(c.execute(log.delete().where(log.c.build == build, middle)).rowcount)


class Environments(Documents[EnvironmentRow]):
    """Environments of every kind with their recipes."""

    table, kind = t.environments, EnvironmentRow

    def claim(
        self,
        environment: str,
        owner: str,
        data: Mapping[str, object],
        now: datetime,
        admit: Callable[[Own], None],
    ) -> bool:
        """Write down an own environment before it is made, where ``admit`` does not raise; False where it is
        there already, and stays as it was."""
        e = t.environments
        with self.db.write() as c:
            if self._one(c, environment):
                return False
            admit(_own(c, owner, _active(c)))
            values = {"owner": owner, "kind": "mine", "state": "ready", "data": data}
            c.execute(e.insert().values(id=environment, **values, created_at=now, updated_at=now))
            return True

    def put(
        self, environment: str, owner: str, kind: str, state: str, data: Mapping[str, object], now: datetime
    ) -> None:
        """Create or replace an environment (``lab``, ``course``, ``mine``, ``shared``) and its recipe."""
        self._put(environment, now, owner=owner, kind=kind, state=state, data=data)

    def find(self, owner: str | None = None, kind: str | None = None) -> list[EnvironmentRow]:
        """Environments, newest first."""
        return self._find(10_000, None, owner=owner, kind=kind)


class Courses(Documents[CourseRow]):
    """Courses with what they published."""

    table, kind = t.courses, CourseRow

    def put(self, course: str, owner: str, state: str, data: Mapping[str, object], now: datetime) -> None:
        """Create or replace a course."""
        self._put(course, now, owner=owner, state=state, data=data)

    def apply(
        self,
        course: str,
        now: datetime,
        change: Callable[[CourseRow | None, Mapping[str, int]], Mapping[str, object] | None],
    ) -> None:
        """Make or change a course in one transaction.

        ``change`` gets the row as it is (None where there is none) and how many courses each owner has; it
        raises, or returns the columns to write, or None to leave everything as it is.
        """
        k = t.courses
        with self.db.write() as c:
            known = self._one(c, course)
            owned = c.execute(select(k.c.owner, func.count().label("courses")).group_by(k.c.owner))
            values = change(known, {r.owner: r.courses for r in owned})
            if values is None:
                return
            if known is None:
                c.execute(k.insert().values(id=course, **values, created_at=now, updated_at=now))
            else:
                self._set(c, course, **values, updated_at=now)

    def find(self, states: Iterable[str] | None = None) -> list[CourseRow]:
        """Courses, newest first."""
        return self._find(10_000, states)

    def add_publication(self, course: str, image: str, by: str, now: datetime, **data: Any) -> int:
        """Record that ``course`` gives ``image`` (an immutable id) from now on."""
        with self.db.write() as c:
            values = {"course": course, "image": image, "by": by, "at": now, "data": data}
            number = c.execute(t.publications.insert().values(**values)).inserted_primary_key
            append_event(c, now, "course", "published", course=course, image=image, by=by)
            assert number is not None
            return int(number[0])

    def publications(self, course: str) -> list[PublicationRow]:
        """What a course published, newest first."""
        p = t.publications
        with self.db.read() as c:
            return many(
                PublicationRow, c.execute(select(p).where(p.c.course == course).order_by(p.c.id.desc()))
            )


def _active(c: Connection) -> list[ActiveBuild]:
    b = t.builds
    found = many(BuildRow, c.execute(select(b).where(b.c.state.in_(ACTIVE))))
    return [ActiveBuild(r.owner, r.environment, r.data.get("kind", "mine")) for r in found]


def _own(c: Connection, owner: str, active: Iterable[ActiveBuild]) -> Own:
    e = t.environments
    there = c.execute(select(e.c.id).where(e.c.owner == owner, e.c.kind == "mine")).scalars()
    making = {b.environment for b in active if b.owner == owner and b.kind == "mine"}
    return Own(frozenset({*there, *making}))


_BUILD_ACTIONS = ("queued", "building", "checking", "ready", "failed", "cancelled")
