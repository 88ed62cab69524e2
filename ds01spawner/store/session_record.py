"""What history keeps of a session from its start."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..core.labels import SessionLabels


@dataclass(frozen=True)
class SessionRecord:
    """What history keeps of a session from its start."""

    session: str
    user: str
    started_at: datetime
    server: str = ""
    project: str = ""
    hub: str = ""
    environment: str = ""
    image: str = ""
    course: str = ""
    groups: tuple[str, ...] = ()
    gpu_uuids: tuple[str, ...] = ()
    profile: str = ""
    """GPU profile held, such as ``1g.10gb``; empty for a CPU session."""
    equivalents: float = 0.0
    cpus: float = 0.0
    memory: int = 0
    """Memory limit in bytes, 0 when unlimited or unknown."""
    preemptible: bool = False
    expires_at: datetime | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_labels(
        cls,
        labels: SessionLabels,
        started_at: datetime,
        groups: Iterable[str] = (),
    ) -> SessionRecord:
        """A record from a container's labels; ``started_at`` is used where the label has no time.

        ``groups`` are all of its owner's, where they are known: the label may hold fewer.
        """
        limits = _limits(labels.limits)
        return cls(
            session=labels.session,
            user=labels.user,
            server=labels.server,
            project=labels.project,
            hub=labels.hub,
            environment=labels.environment,
            image=labels.image,
            course=labels.course,
            groups=tuple(groups) or labels.groups,
            gpu_uuids=labels.gpu_uuids,
            profile=labels.profile,
            equivalents=labels.gpu_equivalents,
            cpus=_number(limits.get("cpus")),
            memory=int(_number(limits.get("memory"))),
            preemptible=labels.preemptible,
            started_at=_time(labels.created_at) or started_at,
            expires_at=_time(labels.expires_at),
        )


def _limits(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def _time(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return at if at.tzinfo else None
