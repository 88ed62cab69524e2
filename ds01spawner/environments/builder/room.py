"""How many environments and builds there may be: decisions asked inside the transaction that counts. Pure.

`Store.claim_build` and `Store.claim_environment` call them with what they have read, so that requests side
by side cannot pass a limit together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ... import messages
from ...core.errors import Refused
from ...store.catalogue import ActiveBuild, Own

if TYPE_CHECKING:
    from .builds import BuildRequest

MAX_ACTIVE = 100
"""Builds of all people that may wait or be under way."""
BUILDS_A_DAY = 300
"""Builds that one person may queue within 24 hours: each keeps a row and a log."""
MAX_SHARES = 100
"""Groups that one environment may be shared with."""


@dataclass(frozen=True)
class Room:
    """How many environments a person may have, and whose rules that and the builds' are."""

    most: int | None = None
    source: str = ""
    queued_source: str = ""
    also: frozenset[str] = frozenset()
    """Own environments that the store does not know, such as those that the command line made."""

    def admit(self, environment: str, own: Own) -> None:
        """`Refused` where ``environment`` would be one too many. Pure."""
        count = len(own.environments | self.also)
        if self.most is not None and environment not in own.environments | self.also and count >= self.most:
            raise Refused(messages.too_many_environments(count, self.most, self.source))


def admit_build(
    request: BuildRequest, room: Room | None, own: Own, active: Sequence[ActiveBuild], day: int
) -> None:
    """Whether there is room for one more build; asked inside the transaction that queues it. Pure."""
    if room is None:
        return
    if request.kind == "mine":
        room.admit(request.environment, own)
    if sum(b.owner == request.owner for b in active) >= request.limits.queued:
        raise Refused(messages.too_many_builds(request.limits.queued, room.queued_source))
    if len(active) >= MAX_ACTIVE:
        raise Refused(messages.builder_full(MAX_ACTIVE))
    if day >= BUILDS_A_DAY:
        raise Refused(messages.too_many_a_day("builds", BUILDS_A_DAY))


def admit_share(count: int) -> None:
    """`Refused` where an environment that is shared with ``count`` groups has no room for one more."""
    if count >= MAX_SHARES:
        raise Refused(messages.too_many_shares(MAX_SHARES))
