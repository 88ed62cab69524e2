"""Where things are: the one set of site settings that spawner, service, culler and CLI share.

`configure` writes the effective settings to ``<state_dir>/settings.json``; the other processes read
them from there. Every field can be overridden by an environment variable ``DS01_<FIELD>``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from .errors import DS01Error

DEFAULT_STATE_DIR = Path("/var/lib/ds01")
DEFAULT_IMAGE = "ds01/lab:latest"


class Settings(BaseModel):
    """Site settings. Paths are on the host the process runs on."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    state_dir: Path = DEFAULT_STATE_DIR
    policy: Path | None = None
    """The policy file, or None for the built-in defaults."""
    store_url: str = ""
    """SQLAlchemy URL of the store; empty means SQLite in ``state_dir``."""
    workspace_root: Path = Path("/srv/ds01/workspaces")
    workspace_host_root: Path | None = None
    """The same folder as the engine sees it, where the hub itself runs in a container."""
    devices: str = "auto"
    """``auto`` (NVML if it answers, else none), ``nvml``, ``simulated`` or ``none``."""
    inventory: Path | None = None
    """The YAML inventory for ``devices = simulated``."""
    attach: str = "auto"
    """``auto``, ``cdi``, ``nvidia``, ``simulated`` or ``none``."""
    strategy: str = "best-fit"
    hub_id: str = "hub"
    """Name of this hub in the label ``ds01.hub``; unique among the hubs of one engine."""
    exempt: tuple[str, ...] = ("dcgm-exporter", "nvidia-dcgm")
    """Containers that may see GPUs without holding them, by name or ``label=value``."""
    engine: str = "docker"
    """What runs the sessions, by its name in the entry-point group ``ds01.engines``."""
    docker_host: str = ""
    """Address of the engine; empty means the Docker client's own default."""
    image: str = ""
    """Image of sessions on a site without a catalogue; the spawner's own ``image``."""
    environments: Path | None = None
    """YAML catalogue of lab environments, or None for the spawner's image alone."""
    courses_dir: Path | None = None
    """Where starter files of courses are kept; None means ``courses`` in ``state_dir``."""
    data_roots: tuple[Path, ...] = ()
    """Folders of the server below which courses may mount data, read-only."""
    image_registries: tuple[str, ...] = ("public",)
    """Registries that the engine may be sent to for an image that people name, with their port where it has
    one; ``public`` stands for every one outside the site's own network."""
    keep_events: int = 400
    """Days for which the event log is kept."""
    keep_builds: int = 180
    """Days for which builds that are over, and their logs, are kept."""
    start_timeout: int = 900
    """Seconds a start may take; a container that never came up is removed when it is older."""
    orphan_limit: int = 24 * 3600
    """Seconds a running session that the hub does not know (any more) is kept for its owner to come back."""
    hub_url: str = ""
    """Public address of the hub, for links in mails and messages."""
    identity: str = "range"
    """Identity mapping of sessions: ``range[:FIRST-LAST]``, ``system`` or ``UID:GID``."""
    notice_hooks: tuple[str, ...] = ()
    """``module:function`` called with each notice of the queue: mail, chat, pager."""
    notice_webhooks: tuple[str, ...] = ()
    """Addresses to which each notice of the queue is POSTed as JSON."""
    event_handlers: tuple[str, ...] = ()
    """``module:function`` that returns a ``logging.Handler`` for the site's events; see `jupyter_events`."""
    network: str = "ds01"
    """The sessions' Docker network, for what runs beside them."""
    allow_open_network: bool = False
    """Whether sessions start although the probe found that they can reach each other."""
    isolation_probe: bool = True
    """Whether the hub tries, at its start and twice a day, that sessions cannot reach each other."""
    project_templates: Path | None = None
    """Folder whose sub-folders are templates of new projects."""
    git_schemes: tuple[str, ...] = ("https",)
    """Schemes from which new projects may be fetched: ``https``, ``http``; none for no repositories."""
    git_hosts: tuple[str, ...] = ()
    """Hosts from which new projects may be fetched (``*.example.org`` for all below); none for any."""
    git_time: int = 180
    """Seconds that fetching a new project may take."""
    git_size: int = 2 * 2**30
    """Bytes that a fetched project may take on disk."""
    show_holders: bool = False
    """Whether people see the names of others who hold a device."""
    subdomain_host: str = ""
    """The hub's ``subdomain_host``; empty where sessions' pages have the hub's own address."""
    hub_database: Path | None = None
    """The file of the hub's own database, where it is SQLite."""
    own_logo: bool = False
    """Whether the hub's pages show a logo of the site's; it is never recoloured."""

    @property
    def lock_path(self) -> Path:
        """The file every process locks across read, choose and create."""
        return self.state_dir / "claim.lock"

    @property
    def intents(self) -> Path:
        """The folder of decisions to retire a session that are not carried out yet."""
        return self.state_dir / "intents"

    @property
    def courses(self) -> Path:
        """The folder of the starter files of courses."""
        return self.courses_dir or self.state_dir / "courses"

    @property
    def store(self) -> str:
        """The effective SQLAlchemy URL."""
        return self.store_url or f"sqlite:///{self.state_dir / 'ds01.sqlite'}"

    def write(self) -> Path:
        """Write ``settings.json`` atomically for the other processes; returns its path."""
        self.state_dir.mkdir(parents=True, exist_ok=True)
        path = self.state_dir / "settings.json"
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(self.model_dump_json(indent=2) + "\n")
        temporary.chmod(0o640)
        temporary.replace(path)
        return path


def load_settings(**overrides: Any) -> Settings:
    """Settings from ``settings.json``, then ``DS01_*`` variables, then ``overrides`` that are not None.

    The file is looked for in ``DS01_STATE_DIR``, else in ``/var/lib/ds01``. A missing file means
    defaults; an unreadable one is an error, never silently the defaults.
    """
    state_dir = Path(os.environ.get("DS01_STATE_DIR") or DEFAULT_STATE_DIR)
    data: dict[str, Any] = {"state_dir": state_dir}
    path = state_dir / "settings.json"
    try:
        data |= json.loads(path.read_text())
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise DS01Error(f"{path} cannot be read: {error}") from error
    for name in Settings.model_fields:
        value = os.environ.get(f"DS01_{name.upper()}")
        if value and not isinstance(Settings.model_fields[name].default, tuple):
            data[name] = value
    data |= {k: v for k, v in overrides.items() if v is not None}
    return Settings.model_validate(data)
