"""What bounds the disk that sessions fill: logs, layers, workspaces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..core.settings import Settings
from ..engines.base import Finding
from ..engines.docker.answers import InfoJson
from ..engines.docker.create import LOG_FILES, LOG_SIZE, log_bound
from ..engines.docker.engine import docker_of
from ..engines.docker.layers import bounds_layers
from ..policy.load import Policy
from ..site import Site


def check_bounds(settings: Settings) -> Iterator[Finding]:
    """Logs, container layers and workspaces."""
    site = Site(settings)
    info = docker_of(site.engine).info()
    policy = site.policy.current()
    yield from log_findings(info)
    yield from layer_findings(info, site.engine.capacity().storage)
    yield from quota_findings(policy)


def log_findings(info: InfoJson) -> Iterator[Finding]:
    """Whether what sessions print is bounded. Pure."""
    driver = str(info.get("LoggingDriver") or "?")
    if log_bound(info):
        yield Finding("ok", f"what a session prints is kept up to {LOG_FILES} files of {LOG_SIZE}")
    elif driver in ("local", "none"):
        yield Finding("ok", f"what sessions print is bounded by the engine's log driver {driver}")
    else:
        yield Finding(
            "site",
            f"what sessions print goes to the engine's log driver {driver}",
            "whether it is bounded there is not known here",
            "bound it there, or use the engine's json-file or local driver",
        )


def layer_findings(info: InfoJson, engine_root: str) -> Iterator[Finding]:
    """Whether what sessions write outside their projects is bounded or at least seen."""
    if bounds_layers(info):
        yield Finding("ok", "what a session writes outside its project is bounded by the engine's storage")
        return
    seen = bool(engine_root) and Path(engine_root).is_dir()
    watched = "measured and told" if seen else "neither bounded nor measured"
    yield Finding(
        "site",
        f"what a session writes outside its project is {watched}, past session.layer",
        "one session can fill the engine's disk until then",
        "put the engine's data on XFS mounted with pquota, and the policy's session.layer is enforced",
    )


def quota_findings(policy: Policy) -> Iterator[Finding]:
    """Whether workspaces have a quota that something enforces. Pure."""
    layers = [policy.defaults, *(g.layer for g in policy.groups), *(o.layer for o in policy.users.values())]
    said = {k for layer in layers for k, v in layer.items() if v.value is not None}
    if "storage.quota" in said and "storage.quota_command" in said:
        yield Finding("ok", "workspaces have a quota, set by the site's command")
    elif "storage.quota" in said:
        yield Finding(
            "site",
            "workspaces have a quota that is looked at when a session starts, and not while it runs",
            "a running session can fill the disk of all workspaces",
            "name a storage.quota_command, on a file system with quotas",
        )
    else:
        yield Finding(
            "site",
            "workspaces have no quota",
            "one person can fill the disk of all workspaces",
            "set storage.quota and storage.quota_command in the policy",
        )
