"""What keeps people, sessions and the machine apart that rests on the site's own set-up."""

from __future__ import annotations

from collections.abc import Iterator

from ..core.settings import Settings
from ..engines.base import Finding
from ..engines.docker.answers import InfoJson
from ..engines.docker.engine import docker_of
from ..engines.docker.mount_sources import Assurance, assurance
from ..engines.docker.mounts import mount_options
from ..site import Site


def check_exposure(settings: Settings) -> Iterator[Finding]:
    """The browser's origin, user namespaces, set-uid files, folders that are exchanged, engine restarts."""
    yield from origin_findings(settings.subdomain_host)
    yield from workspace_findings(str(settings.workspace_root), mount_options(str(settings.workspace_root)))
    yield from source_findings(assurance(settings.docker_host))
    site = Site(settings)
    yield from engine_findings(docker_of(site.engine).info())


def origin_findings(subdomain_host: str) -> Iterator[Finding]:
    """Whether sessions' pages are apart from the hub's in a browser. Pure."""
    if subdomain_host:
        yield Finding("ok", f"sessions have addresses of their own below {subdomain_host}")
        return
    yield Finding(
        "site",
        "pages of sessions have the hub's own address (one origin)",
        "a page that a person's session serves may act on the hub as whoever opens it",
        "set c.JupyterHub.subdomain_host, with a wildcard DNS name and certificate (docs/admins/check.md)",
    )


def workspace_findings(root: str, options: frozenset[str] | None) -> Iterator[Finding]:
    """Whether set-uid files and devices in workspaces count on the machine itself. Pure."""
    if options is None:
        yield Finding(
            "site", f"how {root} is mounted cannot be read from here", "it should be nosuid and nodev"
        )
        return
    missing = [o for o in ("nosuid", "nodev") if o not in options]
    if missing:
        yield Finding(
            "site",
            f"{root} is not mounted {' and '.join(missing)}",
            "sessions cannot make such files for another account; whatever else writes there as root could, "
            "and then whoever has an account on this machine could use them",
            f"give it a mount of its own with {','.join(missing)}",
        )
    else:
        yield Finding("ok", f"{root} is mounted nosuid and nodev")


def source_findings(sure: Assurance) -> Iterator[Finding]:
    """Whether the folder that a session gets is the one that was checked. Pure."""
    if sure == "held":
        yield Finding("ok", "the folders of a session are held from their check to its start")
    elif sure == "compared":
        yield Finding(
            "site",
            "the folders of a session are compared after it has started, not held before",
            "for a moment it may have another folder, if someone exchanges it for a link just then",
            "run the hub as root on the machine itself, in the engine's own mount namespace",
        )
    else:
        yield Finding(
            "site",
            "whether a session has the folder that was checked is not verified",
            "whoever can write beside people's folders (host accounts, NFS) can exchange one for a link",
            "let only the hub write in the folder of all workspaces, or run the hub on the machine itself",
        )


def engine_findings(info: InfoJson) -> Iterator[Finding]:
    """User namespaces and live restore. Pure."""
    options = " ".join(info.get("SecurityOptions") or ())
    if "name=userns" in options or "name=rootless" in options:
        yield Finding("ok", "root in a container is no root on the machine (user namespaces)")
    else:
        yield Finding(
            "site",
            "containers share the machine's user numbers (no user namespaces)",
            "sessions never run as root, but a fault of the kernel or the engine would find root there",
            "userns-remap in daemon.json, or a rootless engine; workspaces then belong to mapped numbers",
        )
    if info.get("LiveRestoreEnabled"):
        yield Finding("ok", "sessions outlive a restart of the engine (live-restore)")
    else:
        yield Finding(
            "site",
            "a restart of the engine ends every session",
            "an upgrade of the engine's package restarts it",
            'set "live-restore": true in /etc/docker/daemon.json and reload the engine',
        )
