"""The settings, the policy and the store."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

from ..core import text
from ..core.errors import StoreCorrupt, StoreError, StoreFull, StoreLocked, StoreReadOnly
from ..core.settings import Settings
from ..engines.base import Finding
from ..policy.lint import lint
from ..policy.load import load_policy
from ..store import Store
from ..store.db import REPLACED
from ..store.ending_log import SPOOL
from ..store.spool import Spool
from ..workspace.templates import templates


def check_settings(settings: Settings) -> Iterator[Finding]:
    path = settings.state_dir / "settings.json"
    if path.exists():
        yield Finding("ok", f"settings of the hub {settings.hub_id!r} are read from {path}")
    else:
        yield Finding(
            "warning",
            f"there is no {path}: built-in settings are used",
            "the command may look at other files than the hub does",
            "start the hub once, or set DS01_STATE_DIR to its state folder",
        )

    if settings.project_templates is not None:
        found = templates(settings.project_templates)
        what = f"{text.plural(len(found), 'template')} of new projects in {settings.project_templates}"
        mend = "put a folder for each there, readable by the hub" if not found else ""
        yield Finding("ok" if found else "warning", what, mend=mend)


def check_policy(settings: Settings) -> Iterator[Finding]:
    policy = load_policy(settings.policy)
    shown = str(settings.policy) if settings.policy else "the built-in defaults"
    yield Finding("ok", f"{shown}: {text.plural(len(policy.groups), 'group')}, no fault")
    for sentence in lint(policy, datetime.now(timezone.utc)):
        yield Finding("warning", sentence)


REPLACED_TOLD = timedelta(days=7)
CURES: dict[type[StoreError], str] = {
    StoreLocked: "which process writes for so long? (fuser on the file)",
    StoreReadOnly: "let the hub's account write the file and its folder",
    StoreFull: "make room on its disk",
    StoreCorrupt: "stop hub and services, move the file away, and put a backup in its place",
}


def check_store(settings: Settings) -> Iterator[Finding]:
    spool = Spool(settings.state_dir / SPOOL)
    if spool.waiting():
        what = f"history waits in {spool.path} until the store takes it"
        yield Finding("warning", what, "pages and accounting lack what is in it", "is the service running?")
    try:
        store = Store.open(settings.store)
        store.check()
        replaced = store.facts.moment(REPLACED)
    except StoreError as error:
        mend = next((cure for kind, cure in CURES.items() if isinstance(error, kind)), "see what it says")
        why = "no GPU budget can be checked, and nobody in the queue is granted a device"
        yield Finding("error", str(error), why, mend)
        return
    yield Finding("ok", f"the store answers ({settings.store.split('@')[-1]})")
    if replaced is not None and datetime.now(timezone.utc) - replaced < REPLACED_TOLD:
        yield Finding(
            "warning",
            f"its file was removed or replaced under running processes at {text.stamp(replaced)}",
            "what was in it before may be missing from history and accounting",
            "stop hub and services before the file is touched; put a backup back where it is needed",
        )
