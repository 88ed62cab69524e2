"""The idle service's files in the state directory: its memory, and its last decisions for others to read.

Both are written whole and renamed into place. A memory that is lost or unreadable gives every session its
whole time again; it never takes any.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ..workspace.safefs import write_json
from .idle_document import CaseJson, CountersJson, PublishedJson, WrittenJson
from .model import Memory

log = logging.getLogger(__name__)
VERSION = 1


@dataclass(frozen=True)
class IdleFiles:
    """``idle-memory.json`` (the service's own) and ``idle.json`` (what pages and commands show)."""

    folder: Path

    @property
    def memory_path(self) -> Path:
        """The service's memory."""
        return self.folder / "idle-memory.json"

    @property
    def decisions_path(self) -> Path:
        """The last pass's decisions."""
        return self.folder / "idle.json"

    def load(self) -> dict[str, Memory]:
        """Memory by session id. An unreadable file is put aside as ``.bad`` and counts as lost."""
        try:
            data = json.loads(self.memory_path.read_text())
            if data["version"] != VERSION:
                raise ValueError(f"version {data['version']}")
            return {m["session"]: Memory.from_dict(m) for m in data["sessions"]}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning(
                "%s cannot be read (%s); every session gets its whole idle time", self.memory_path, error
            )
            _put_aside(self.memory_path)
            return {}

    def save(self, memories: Iterable[Memory]) -> None:
        """Write the memory."""
        write_json(self.memory_path, {"version": VERSION, "sessions": [m.as_dict() for m in memories]}, 0o600)

    def publish(
        self,
        now: datetime,
        poll: float,
        decisions: Sequence[CaseJson],
        counters: CountersJson | None = None,
    ) -> None:
        """Write what was decided at ``now``; ``counters`` since the service began, for Prometheus."""
        document: WrittenJson = {
            "version": VERSION,
            "at": now.isoformat(),
            "poll": poll,
            "sessions": list(decisions),
            "counters": counters or {},
        }
        write_json(self.decisions_path, document, 0o640)

    def published(self, now: datetime) -> PublishedJson | None:
        """The last decisions with ``age`` in seconds and ``stale`` (the service is down), or None."""
        try:
            data: WrittenJson = json.loads(self.decisions_path.read_text())
            age = (now - datetime.fromisoformat(data["at"])).total_seconds()
            return {**data, "age": age, "stale": age > 3 * float(data["poll"]) + 60}
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _put_aside(path: Path) -> None:
    try:
        path.replace(path.with_suffix(".bad"))
    except OSError as error:
        log.warning("%s cannot be put aside: %s", path, error)
