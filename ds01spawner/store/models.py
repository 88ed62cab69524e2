"""The tables. Times are stored as naive UTC and come back with a zone; lists and documents are JSON."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator


class UTC(TypeDecorator[datetime]):
    """An instant. A time without a zone is a programming error, so it is refused."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To naive UTC, the one form every database compares alike."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        return value.astimezone(timezone.utc).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Back to an instant with its zone."""
        return None if value is None else value.replace(tzinfo=timezone.utc)


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(column_0_label)s",
    }
)


def _text(name: str, **kw: Any) -> Column[str]:
    return Column(name, String(255), nullable=False, default="", **kw)


def _long(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, default="")


def _when(name: str, **kw: Any) -> Column[datetime]:
    return Column(name, UTC, nullable=kw.pop("nullable", True), **kw)


def _list(name: str) -> Column[Any]:
    return Column(name, JSON, nullable=False, default=list)


def _document(name: str = "data") -> Column[Any]:
    return Column(name, JSON, nullable=False, default=dict)


def _id() -> Column[str]:
    return Column("id", String(64), primary_key=True)


def _number() -> Column[int]:
    return Column("id", Integer, primary_key=True, autoincrement=True)


sessions = Table(
    "sessions",
    metadata,
    Column("session", String(64), primary_key=True),
    _text("user", index=True),
    _text("server"),
    _text("project"),
    _text("hub"),
    _text("environment"),
    _text("image"),
    _text("course", index=True),
    _list("groups"),
    _list("gpu_uuids"),
    _text("profile"),
    Column("equivalents", Float, nullable=False, default=0.0),
    Column("cpus", Float, nullable=False, default=0.0),
    Column("memory", BigInteger, nullable=False, default=0),
    Column("preemptible", Boolean, nullable=False, default=False),
    _when("started_at", nullable=False, index=True),
    _when("expires_at"),
    _when("seen_at", nullable=False),
    _when("retiring_at"),
    _when("ended_at", index=True),
    _text("kind"),
    _long("reason"),
    _document(),
)

notices = Table(
    "notices",
    metadata,
    _number(),
    _text("user", index=True),
    _text("server"),
    _text("session"),
    _text("kind"),
    _text("level"),
    _long("text"),
    _when("created_at", nullable=False),
    _when("expires_at"),
    Column("key", String(255), unique=True, nullable=True),
    _document(),
)

notice_marks = Table(
    "notice_marks",
    metadata,
    Column("notice", Integer, ForeignKey("notices.id", ondelete="CASCADE"), primary_key=True),
    Column("user", String(255), primary_key=True),
    _when("seen_at"),
    _when("dismissed_at"),
)

extensions = Table(
    "extensions",
    metadata,
    _number(),
    _text("session", index=True),
    _text("user", index=True),
    _text("server"),
    Column("seconds", Integer, nullable=False),
    _text("by"),
    _text("source"),
    _long("reason"),
    _when("at", nullable=False),
)

device_blocks = Table(
    "device_blocks",
    metadata,
    _number(),
    _text("kind"),
    _text("uuid", index=True),
    _text("owner", index=True),
    _long("reason"),
    _text("by"),
    _list("exempt"),
    _when("created_at", nullable=False),
    _when("starts_at", nullable=False),
    _when("until"),
    _when("ended_at", index=True),
)

reservations = Table(
    "reservations",
    metadata,
    _id(),
    _text("subject"),
    _long("title"),
    _list("devices"),
    _text("profile"),
    Column("count", Integer, nullable=False, default=1),
    _when("starts_at", nullable=False),
    _when("ends_at", nullable=False),
    _text("zone"),
    _long("rrule"),
    Column("grace", Integer, nullable=False, default=900),
    _list("released"),
    _text("by"),
    _when("created_at", nullable=False),
    _when("cancelled_at", index=True),
    _document(),
)

tickets = Table(
    "tickets",
    metadata,
    _id(),
    _text("user", index=True),
    _text("server"),
    _list("groups"),
    _text("profile"),
    Column("count", Integer, nullable=False, default=1),
    Column("preemptible", Boolean, nullable=False, default=False),
    Column("priority", Integer, nullable=False, default=0),
    _document("options"),
    _text("state", index=True),
    _long("reason"),
    _when("arrived", nullable=False),
    _when("expires_at"),
    _when("granted_at"),
    _when("claim_until"),
    _when("starting_at"),
    _when("ended_at", index=True),
    _list("devices"),
    Column("attempts", Integer, nullable=False, default=0),
    Column("version", Integer, nullable=False, default=0),
    _document("shown"),
    _document(),
)

requests = Table(
    "requests",
    metadata,
    _id(),
    _text("user", index=True),
    _document("wanted"),
    _long("reason"),
    _when("until"),
    _text("state", index=True),
    _when("created_at", nullable=False),
    _text("by"),
    _when("decided_at"),
    _long("answer"),
)

builds = Table(
    "builds",
    metadata,
    _id(),
    _text("owner", index=True),
    _text("environment", index=True),
    _text("state", index=True),
    _document(),
    _when("created_at", nullable=False),
    _when("updated_at", nullable=False),
)

build_log = Table(
    "build_log",
    metadata,
    Column("build", String(64), ForeignKey("builds.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    _long("text"),
)

environments = Table(
    "environments",
    metadata,
    Column("id", String(255), primary_key=True),
    _text("owner", index=True),
    _text("kind"),
    _text("state"),
    _document(),
    _when("created_at", nullable=False),
    _when("updated_at", nullable=False),
)

shares = Table(
    "shares",
    metadata,
    Column("environment", String(255), primary_key=True),
    Column("group", String(255), primary_key=True),
    _text("owner", index=True),
    _text("by"),
    _when("at", nullable=False),
)

courses = Table(
    "courses",
    metadata,
    Column("id", String(255), primary_key=True),
    _text("owner"),
    _text("state"),
    _document(),
    _when("created_at", nullable=False),
    _when("updated_at", nullable=False),
)

publications = Table(
    "publications",
    metadata,
    _number(),
    _text("course", index=True),
    _text("image"),
    _text("by"),
    _when("at", nullable=False),
    _document(),
)

events = Table(
    "events",
    metadata,
    _number(),
    _when("at", nullable=False, index=True),
    _text("topic", index=True),
    _text("action"),
    _text("user", index=True),
    _document(),
    sqlite_autoincrement=True,
)

facts = Table(
    "facts",
    metadata,
    Column("key", String(255), primary_key=True),
    Column("value", JSON, nullable=True),
    _when("updated_at", nullable=False),
)

Index("ix_sessions_user_server", sessions.c.user, sessions.c.server)
