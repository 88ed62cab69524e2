"""The settings, the policy and the store."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

from ..engines.docker.findings import Finding
from ..pages import text
from ..policy.lint import lint
from ..policy.load import load_policy
from ..settings import Settings
from ..store import Store
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


def check_store(settings: Settings) -> Iterator[Finding]:
    Store.open(settings.store).check()
    yield Finding("ok", f"the store answers ({settings.store.split('@')[-1]})")
