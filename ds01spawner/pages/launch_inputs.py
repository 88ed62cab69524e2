"""What the launch page is built from: plain values that the spawner and the service gather."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ..core.errors import Refusal
from ..placement.devices import DeviceStatus
from ..policy.options import LaunchOptions
from .inputs import Banner, EnvironmentInfo, ProjectInfo, QueueHint, Quota, Rules
from .project_choice import Offers

Refuse = Callable[[LaunchOptions], "Refusal | None"]


@dataclass(frozen=True)
class LaunchInputs:
    """What the page is built from. Every field is plain data; only ``refuse`` is a function."""

    person: str
    now: datetime
    refuse: Refuse
    """``plan`` and ``place`` as one: None if these options would start now."""
    statuses: Sequence[DeviceStatus] = ()
    inventory_problem: str = ""
    simulated: bool = False
    quotas: Sequence[Quota] = ()
    projects: Sequence[ProjectInfo] = ()
    offers: Offers = field(default_factory=Offers)
    """What a new project can begin with."""
    environments: Sequence[EnvironmentInfo] = ()
    default_environment: str = ""
    rules: Rules = field(default_factory=Rules)
    last: LaunchOptions | None = None
    """The last valid choice: pre-selected where it can still be had."""
    chosen: LaunchOptions | None = None
    """A choice just made or linked to: kept, even where it is refused."""
    refused: Refusal | None = None
    """Why a start with the choice just made was refused."""
    ask: Callable[[Refusal], str] = lambda refusal: ""
    """Where to ask for more after a refusal; empty where it does not help."""
    banners: Sequence[Banner] = ()
    can_create_project: bool = True
    can_wait: bool = False
    queue: Mapping[str, QueueHint] = field(default_factory=dict)
    """Queue hint by compute value."""
    max_gpu_count: int = 1
    show_holders: bool = False
    activity: Mapping[str, str] = field(default_factory=dict)
    updated: str = ""
    service_url: str = ""
    """Public path of the service with trailing slash, or empty where there is none."""
    fragment_key: str = ""
    """Signed key of the live fragments (`pages.keys.sign`)."""
