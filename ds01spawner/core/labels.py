"""The ``ds01.*`` label schema: one vocabulary for ledger, reconciler and lists on every engine. Pure.

Labels are the truth about sessions; they are written once, at create, and never by users. The names
are a public contract. The second group is what the DS01 command line counts by. Whether labels may be
believed at all is `core.installation`'s to say: text can be copied.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

MANAGED = "ds01.managed"
USER = "ds01.user"
PROJECT = "ds01.project"
SERVER = "ds01.server"
HUB = "ds01.hub"
SESSION = "ds01.session"
IMAGE = "ds01.image"
ENVIRONMENT = "ds01.environment"
GPU_UUIDS = "ds01.gpu.uuids"
GPU_EQUIVALENTS = "ds01.gpu.equivalents"
CREATED_AT = "ds01.created_at"
EXPIRES_AT = "ds01.expires_at"
PREEMPTIBLE = "ds01.preemptible"
LIMITS = "ds01.limits"
"""The session's own limits as compact JSON: cpus, memory (bytes), pids, idle and lifetime (seconds)."""
COURSE = "ds01.course"
PROFILE = "ds01.profile"
GROUPS = "ds01.groups"
"""The groups its owner was in, as a JSON list: what accounting needs where history was lost."""
FETCH = "ds01.fetch"
"""The session for whose new project a container fetches a repository; such a container is no session."""
PROBE = "ds01.isolation"
"""A container that tries for some seconds what sessions reach; its value is the part it plays."""

INSTALLATION = "ds01.installation"
"""The installation that made a container, an image or a network."""
MAC = "ds01.mac"
"""The proof, made with the installation's key over the labels below."""
CONTAINER = "ds01.container"
"""The container's own name: labels that an image or another container copied are not about it."""

# What the DS01 command line counts by.
INTERFACE = "ds01.interface"
CONTAINER_TYPE = "ds01.container_type"
NAME = "ds01.name"
USERNAME = "ds01.username"
USER_ID = "ds01.user_id"
GROUP_ID = "ds01.group_id"
GPU_UUID = "ds01.gpu.uuid"
GPU_ALLOCATED = "ds01.gpu.allocated"
WORKSPACE = "ds01.workspace"

GROUPS_CHARS = 4000
"""Most that the groups may take; whoever is in more counts for the first of them, in order of their names."""

MANAGED_FILTER = f"{MANAGED}=true"

SESSION_SIGNED = (
    *(MANAGED, USER, PROJECT, SERVER, HUB, SESSION, IMAGE, ENVIRONMENT, GPU_UUIDS, GPU_EQUIVALENTS),
    *(CREATED_AT, EXPIRES_AT, PREEMPTIBLE, LIMITS, INTERFACE, CONTAINER_TYPE, NAME, USERNAME),
    *(GPU_UUID, GPU_ALLOCATED, COURSE, PROFILE, GROUPS, CONTAINER, INSTALLATION),
)
"""Every label of a session that means something. One that is left out could be another's word."""
FETCH_SIGNED = (FETCH, USER, PROJECT, HUB, CREATED_AT, CONTAINER, INSTALLATION)
"""The same for a container that fetches a repository."""


@dataclass(frozen=True)
class SessionLabels:
    """A session as its container's labels tell it."""

    user: str
    server: str
    project: str
    hub: str
    session: str
    image: str = ""
    environment: str = ""
    gpu_uuids: tuple[str, ...] = ()
    gpu_equivalents: float = 0.0
    created_at: str = ""
    expires_at: str = ""
    limits: str = "{}"
    preemptible: bool = False
    installation: str = ""
    container: str = ""
    """The container's name."""
    course: str = ""
    profile: str = ""
    """GPU profile held, such as ``1g.10gb``; empty for a CPU session."""
    groups: tuple[str, ...] = ()

    def identity(self) -> dict[str, str]:
        """Whose session it is and of what, for JSON."""
        return {
            "session": self.session,
            "user": self.user,
            "server": self.server,
            "project": self.project,
            "environment": self.environment,
            "image": self.image,
        }

    def to_labels(self) -> dict[str, str]:
        """The labels to write, those of the DS01 command line included."""
        uuids = ",".join(self.gpu_uuids)
        return {
            MANAGED: "true",
            USER: self.user,
            PROJECT: self.project,
            SERVER: self.server,
            HUB: self.hub,
            SESSION: self.session,
            IMAGE: self.image,
            ENVIRONMENT: self.environment,
            GPU_UUIDS: uuids,
            GPU_EQUIVALENTS: f"{self.gpu_equivalents:.4f}",
            CREATED_AT: self.created_at,
            EXPIRES_AT: self.expires_at,
            PREEMPTIBLE: "true" if self.preemptible else "false",
            LIMITS: self.limits,
            COURSE: self.course,
            PROFILE: self.profile,
            GROUPS: _groups_text(self.groups),
            INTERFACE: "jupyterhub",
            CONTAINER_TYPE: "jupyterhub",
            NAME: self.project,
            USERNAME: self.user,
            # Written even where empty: what is left out, the container takes from its image.
            GPU_UUID: self.gpu_uuids[0] if uuids else "",
            GPU_ALLOCATED: uuids,
            CONTAINER: self.container,
            INSTALLATION: self.installation,
        }

    @classmethod
    def from_labels(cls, labels: Mapping[str, str]) -> SessionLabels | None:
        """What labels say, true or not; None when they tell of no session."""
        if labels.get(MANAGED) != "true" or not labels.get(SESSION):
            return None
        try:
            equivalents = float(labels.get(GPU_EQUIVALENTS) or 0)
        except ValueError:
            equivalents = 0.0
        return cls(
            user=labels.get(USER, ""),
            server=labels.get(SERVER, ""),
            project=labels.get(PROJECT, ""),
            hub=labels.get(HUB, ""),
            session=labels[SESSION],
            image=labels.get(IMAGE, ""),
            environment=labels.get(ENVIRONMENT, ""),
            gpu_uuids=tuple(u for u in labels.get(GPU_UUIDS, "").split(",") if u),
            gpu_equivalents=equivalents,
            created_at=labels.get(CREATED_AT, ""),
            expires_at=labels.get(EXPIRES_AT, ""),
            limits=labels.get(LIMITS, "{}"),
            preemptible=labels.get(PREEMPTIBLE) == "true",
            installation=labels.get(INSTALLATION, ""),
            container=labels.get(CONTAINER, ""),
            course=labels.get(COURSE, ""),
            profile=labels.get(PROFILE, ""),
            groups=_groups_of(labels.get(GROUPS, "")),
        )

    @property
    def address(self) -> str:
        """``user`` or ``user/server``, as the CLI takes it."""
        return f"{self.user}/{self.server}" if self.server else self.user


def _groups_text(groups: tuple[str, ...]) -> str:
    kept: list[str] = []
    for group in sorted(groups):
        if len(json.dumps([*kept, group], ensure_ascii=False)) > GROUPS_CHARS:
            break
        kept.append(group)
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))


def _groups_of(text: str) -> tuple[str, ...]:
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return ()
    return tuple(str(g) for g in found) if isinstance(found, list) else ()
