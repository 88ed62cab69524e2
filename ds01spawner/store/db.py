"""The one place that opens the database: engine, transactions, migrations.

SQLite by default (WAL, so readers never wait for the writer; a write takes the lock at its start, so
that it waits its turn instead of failing half-way); PostgreSQL by URL. Every failure is a `StoreError`.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from ..core.errors import StoreCorrupt, StoreError, StoreFull, StoreLocked, StoreReadOnly, StoreReplaced
from . import models as t

HEAD = "0002"
"""The revision this version of the package needs; a test holds it against the shipped migrations."""
BUSY_SECONDS = 10
LOOK_SECONDS = 1.0
"""How often a reader looks whether the file is still the one that is open; a writer always looks."""
MADE = "store.made"
"""The fact in a store of when it was made, empty."""
REPLACED = "store.replaced"
"""The fact in a store that was made, or put back, under running processes: when they noticed."""
REPLACED_BY = "store.replaced.by"
"""The fact of which file that was, so that whoever notices later leaves it alone."""
CAUSES: tuple[tuple[type[StoreError], tuple[str, ...]], ...] = (
    (StoreReadOnly, ("readonly", "read-only", "unable to open database file", "permission denied")),
    (StoreLocked, ("is locked", "is busy")),
    (StoreFull, ("is full", "no space left")),
    (StoreCorrupt, ("malformed", "not a database", "corrupt")),
)
"""What the database says, in the words of SQLite and of the system, and what that means."""
log = logging.getLogger(__name__)
_WRITE = "ds01_write"
_ADVISORY_LOCK = 0xD501


class Database:
    """A connection pool with short transactions. Thread-safe; open one for each process."""

    def __init__(self, url: str) -> None:
        """Take a SQLAlchemy URL. Nothing is opened before the first use or `migrate`."""
        self.url = url
        self._engine: Engine | None = None
        self._guard = threading.Lock()
        self._file = _file_of(url)
        self._opened: tuple[int, int] | None = None
        self._looked = 0.0
        self._reopening = threading.RLock()
        self._reopens: int | None = None
        """The thread that opens the file anew at this moment."""

    @property
    def engine(self) -> Engine:
        """The pool, made at the first use."""
        with self._guard:
            if self._engine is None:
                self._engine = _engine(self.url)
                self._opened = _identity(self._file)
            return self._engine

    def close(self) -> None:
        """Give every connection back. The object opens again when it is used again."""
        with self._guard:
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that reads one consistent state."""
        with _translated(self.url):
            self._notice(LOOK_SECONDS)
            with self.engine.connect() as connection:
                yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes: all of it or nothing, one writer at a time.

        What is read in it stays true until it ends, so that caps hold; and event numbers come in the
        order in which they become visible, so that following by number misses none.
        """
        with _translated(self.url):
            self._notice(0.0)
            opened = self._opened
            with self.engine.connect() as connection:
                connection = connection.execution_options(**{_WRITE: True})
                with connection.begin():
                    if connection.dialect.name == "postgresql":  # SQLite does it by BEGIN IMMEDIATE
                        connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
                    yield connection
            if self._file is not None and opened is not None and _identity(self._file) != opened:
                raise StoreReplaced(f"{self._file} was removed or replaced while it was written")

    def _notice(self, at_most: float) -> None:
        """Open the file anew where the path means another one than is open: SQLite itself would read and
        write on for ever in what was removed."""
        if self._reopens == threading.get_ident():
            return
        if self._reopens is not None:
            with self._reopening:  # until the tables are there
                return
        if self._file is None or self._opened is None or self._engine is None:
            return
        now = time.monotonic()
        if now - self._looked < at_most:
            return
        self._looked = now
        if _identity(self._file) == self._opened:
            return
        with self._reopening:
            found = _identity(self._file)
            if found == self._opened:
                return  # another thread was faster
            what = "removed; an empty one is made" if found is None else "replaced; the new one is used"
            log.error("The store's file %s was %s", self._file, what)
            self._reopens = threading.get_ident()
            try:
                self.close()
                self.migrate()
                with self.write() as c:
                    file = list(_identity(self._file) or ())
                    if _fact(c, REPLACED_BY) != file:
                        _set_fact(c, REPLACED, what, datetime.now(timezone.utc))
                        _set_fact(c, REPLACED_BY, file, datetime.now(timezone.utc))
            finally:
                self._reopens = None

    def revision(self) -> str | None:
        """The revision of the database, or None where there is none yet."""
        with self.read() as c:
            if not inspect(c).has_table("alembic_version"):
                return None
            return c.execute(text("SELECT version_num FROM alembic_version")).scalar()

    def migrate(self) -> None:
        """Bring the tables to what this version needs; safe when several processes start together."""
        if self.revision() == HEAD:
            return
        with _translated(self.url), _migration_lock(self.url):
            _upgrade(self.engine)

    def check(self) -> None:
        """Raise `StoreError` unless the store answers and has the right revision."""
        revision = self.revision()
        if revision != HEAD:
            raise StoreError(f"the store has revision {revision or 'none'}, this version needs {HEAD}")


@contextmanager
def _translated(url: str) -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        cause = _cause(error)
        raise _kind(cause)(f"the store {_shown(url)} failed: {cause}") from error


def _kind(cause: str) -> type[StoreError]:
    """Which failure the database's own words mean."""
    low = cause.lower()
    return next((kind for kind, words in CAUSES if any(w in low for w in words)), StoreError)


def _file_of(url: str) -> Path | None:
    """The file of an SQLite store; None for any other."""
    try:
        parsed = make_url(url)
    except SQLAlchemyError:
        return None
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        return None
    return Path(parsed.database)


def _identity(path: Path | None) -> tuple[int, int] | None:
    """What a path means on the disk; None where there is nothing, or no path."""
    if path is None:
        return None
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _shown(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return "(its address cannot be parsed)"


def _cause(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0]


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed, pool_pre_ping=True, pool_size=5, max_overflow=10)
    engine = create_engine(parsed, connect_args={"timeout": BUSY_SECONDS})
    if parsed.database and parsed.database != ":memory:":
        _prepare_file(Path(parsed.database))
    event.listen(engine, "connect", _sqlite_connect)
    event.listen(engine, "begin", _sqlite_begin)
    return engine


def _prepare_file(path: Path) -> None:
    """Make the file ourselves, so that it is never readable by other users of the machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o640))


def _sqlite_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, see _sqlite_begin
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _sqlite_begin(connection: Connection) -> None:
    # A deferred transaction that turns into a writer fails at once when another writer was faster,
    # whatever the busy timeout. Taking the lock first makes it wait instead.
    write = connection.get_execution_options().get(_WRITE)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@contextmanager
def _migration_lock(url: str) -> Iterator[None]:
    """One migrating process at a time. PostgreSQL locks inside the transaction, see `_upgrade`."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        yield
        return
    path = Path(parsed.database)
    with open(path.with_name(path.name + ".migrate"), "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _upgrade(engine: Engine) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    with (
        resources.as_file(resources.files(__package__) / "migrations") as folder,
        engine.connect() as connection,
    ):
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        connection = connection.execution_options(**{_WRITE: True})
        with connection.begin():
            if engine.dialect.name == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
            config.attributes["connection"] = connection
            made = not inspect(connection).has_table("alembic_version")
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise StoreError(
                    f"the store cannot be used by this version: {error}. It was probably written by a newer "
                    "one; install that again, or restore the copy made before the upgrade"
                ) from error
            if made:
                _set_fact(connection, MADE, True, datetime.now(timezone.utc))


class Part:
    """Base of the subjects a `Store` is made of: all share one `Database`."""

    def __init__(self, db: Database) -> None:
        """``db`` is opened at the first use."""
        self.db = db


class Facts(Part):
    """Small remembered values, such as cursors."""

    def get(self, key: str, default: Any = None) -> Any:
        """A remembered value."""
        with self.db.read() as c:
            return _fact(c, key, default)

    def moment(self, key: str) -> datetime | None:
        """When a small value was last set; None where it never was."""
        with self.db.read() as c:
            found: datetime | None = c.execute(
                t.facts.select().with_only_columns(t.facts.c.updated_at).where(t.facts.c.key == key)
            ).scalar()
        return found

    def set(self, key: str, value: Any, now: datetime) -> None:
        """Remember a small JSON value under ``key``."""
        with self.db.write() as c:
            _set_fact(c, key, value, now)


def _fact(c: Connection, key: str, default: Any = None) -> Any:
    known = c.execute(t.facts.select().where(t.facts.c.key == key)).mappings().first()
    return default if known is None else known["value"]


def _set_fact(c: Connection, key: str, value: Any, now: datetime) -> None:
    c.execute(t.facts.delete().where(t.facts.c.key == key))
    c.execute(t.facts.insert().values(key=key, value=value, updated_at=now))
