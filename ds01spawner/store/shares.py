"""Which environments are shared with which groups. This is the one record of it: images say nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from sqlalchemy import delete, func, select

from . import models as t
from .db import Part
from .events import append_event
from .rows import ShareRow, many


class Shares(Part):
    """Rows ``{environment, group, owner, by, at}``; each change is an event."""

    def add(
        self,
        environment: str,
        group: str,
        owner: str,
        by: str,
        now: datetime,
        admit: Callable[[int], None] = lambda count: None,
    ) -> bool:
        """Share an environment with a group; False when it is already. The caller has checked rights.

        ``admit`` raises where one more is too many; it gets the environment's shares.
        """
        s = t.shares
        with self.db.write() as c:
            if c.execute(select(s).where(s.c.environment == environment, s.c.group == group)).first():
                return False
            counted = select(func.count()).select_from(s).where(s.c.environment == environment)
            admit(c.execute(counted).scalar_one())
            values = {"environment": environment, "group": group, "owner": owner, "by": by, "at": now}
            c.execute(s.insert().values(**values))
            append_event(
                c, now, "environment", "shared", user=owner, by=by, environment=environment, group=group
            )
            return True

    def end(self, environment: str, by: str, now: datetime, group: str | None = None) -> list[str]:
        """End the sharing with a group, or with all of them; returns the groups that lost it."""
        s = t.shares
        with self.db.write() as c:
            wanted = [s.c.environment == environment, *([s.c.group == group] if group is not None else [])]
            ended = many(ShareRow, c.execute(select(s).where(*wanted).order_by(s.c.group)))
            c.execute(delete(s).where(*wanted))
            for share in ended:
                append_event(
                    c, now, "environment", "unshared", user=share.owner, by=by, environment=environment,
                    group=share.group,
                )  # fmt: skip
            return [share.group for share in ended]

    def find(
        self, environment: str | None = None, owner: str | None = None, groups: Iterable[str] | None = None
    ) -> list[ShareRow]:
        """What is shared: of one environment, by one owner, or with some of ``groups``."""
        s = t.shares
        query = select(s).order_by(s.c.environment, s.c.group)
        if environment is not None:
            query = query.where(s.c.environment == environment)
        if owner is not None:
            query = query.where(s.c.owner == owner)
        if groups is not None:
            query = query.where(s.c.group.in_(list(groups)))
        with self.db.read() as c:
            return many(ShareRow, c.execute(query))
