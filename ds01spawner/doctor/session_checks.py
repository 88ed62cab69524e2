"""The sessions that run, and what starts left behind."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

from ..core import text
from ..core.settings import Settings
from ..engines.base import Finding
from ..engines.docker.retire import leftovers
from ..site import Site


def check_sessions(settings: Settings) -> Iterator[Finding]:
    site = Site(settings)
    found = site.engine.look()
    mine = found.sessions
    yield Finding("ok", f"{text.plural(len(mine), 'session')} of this hub, {len(found.others)} of others")
    older = timedelta(seconds=settings.start_timeout + 120)
    for record in leftovers(mine, datetime.now(timezone.utc), older):
        why = f"it is {record.state} and still holds {', '.join(record.labels.gpu_uuids) or 'its name'}"
        mend = f"is the service running? ds01 retire {record.labels.address} --reason leftover"
        yield Finding("error", f"{record.name} was left behind by a start", why, mend)
