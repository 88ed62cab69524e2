"""`Store`: every subject on one database."""

from __future__ import annotations

from .blocks import Blocks
from .catalogue import Builds, Courses, Environments
from .db import Database, Facts
from .ends import Ends
from .events import Events
from .history import Sessions
from .notices import Extensions, Notices
from .requests import Requests
from .shares import Shares
from .tickets import Reservations, Tickets
from .usage import Usage


class Store:
    """What Docker cannot tell. Synchronous and thread-safe; call it from a thread in asynchronous code.

    Transactions are short. Every failure is a `StoreError`; callers decide what the lack of an answer
    means, and none may grant a device because of it.
    """

    def __init__(self, url: str) -> None:
        """``url`` is a SQLAlchemy URL (`Settings.store`). Nothing is opened yet."""
        self.db = db = Database(url)
        self.sessions, self.ends, self.usage = Sessions(db), Ends(db), Usage(db)
        self.notices, self.extensions = Notices(db), Extensions(db)
        self.blocks, self.tickets, self.reservations = Blocks(db), Tickets(db), Reservations(db)
        self.requests = Requests(db)
        self.builds, self.environments, self.courses = Builds(db), Environments(db), Courses(db)
        self.shares = Shares(db)
        self.events, self.facts = Events(db), Facts(db)

    @classmethod
    def open(cls, url: str) -> Store:
        """A store that is ready: made where it is missing, migrated where it is old."""
        store = cls(url)
        store.db.migrate()
        return store

    def check(self) -> None:
        """Raise `StoreError` unless the store answers and fits this version."""
        self.db.check()

    def close(self) -> None:
        """Close the connections."""
        self.db.close()
