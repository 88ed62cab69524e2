"""The traits that every process of a site must agree on. `configure` writes them down as `Settings`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from traitlets import Bool, Dict, Integer, List, Unicode

from ..core.settings import Settings

if TYPE_CHECKING:
    from jupyterhub.spawner import Spawner as _Spawner
else:
    from traitlets.config import LoggingConfigurable as _Spawner

START_TIMEOUT_S = 900
SETTINGS_TRAITS = {
    "state_dir": "state_dir",
    "policy_file": "policy",
    "store_url": "store_url",
    "workspace_root": "workspace_root",
    "workspace_host_root": "workspace_host_root",
    "devices": "devices",
    "inventory_file": "inventory",
    "attach": "attach",
    "strategy": "strategy",
    "environments_file": "environments",
    "data_roots": "data_roots",
    "image_registries": "image_registries",
    "hub_id": "hub_id",
    "identity": "identity",
    "start_timeout": "start_timeout",
    "orphan_limit": "orphan_limit",
    "network_name": "network",
    "allow_open_network": "allow_open_network",
    "isolation_probe": "isolation_probe",
    "project_templates": "project_templates",
    "git_schemes": "git_schemes",
    "git_hosts": "git_hosts",
    "git_time": "git_time",
    "git_size": "git_size",
    "extra_settings": "",
}
"""Traits that every process of the site must agree on, and their field in `Settings`."""


def settings_from(traits: Mapping[str, Any]) -> Settings:
    """Settings from the values of `SETTINGS_TRAITS`; empty text means the field's default."""
    fields = {SETTINGS_TRAITS[k]: v for k, v in traits.items() if SETTINGS_TRAITS[k] and v != ""}
    return Settings.model_validate({**fields, **traits.get("extra_settings", {})})


class SiteTraits(_Spawner):  # type: ignore[misc]
    """Where things are and what a site allows; see `Settings`, whose fields these are."""

    state_dir = Unicode(
        "/var/lib/ds01", help="Folder for the claim lock, the store and the settings other processes read."
    ).tag(config=True)
    policy_file = Unicode("", help="The policy file; empty means the built-in defaults.").tag(config=True)
    store_url = Unicode("", help="SQLAlchemy URL of the store; empty means SQLite in ``state_dir``.").tag(
        config=True
    )
    workspace_root = Unicode(
        "/srv/ds01/workspaces",
        help="Folder that holds every user's projects, as this process sees it. It must exist.",
    ).tag(config=True)
    workspace_host_root = Unicode(
        "",
        help="The same folder as the engine sees it; set it where the hub itself runs in a container.",
    ).tag(config=True)
    identity = Unicode(
        "range",
        help="""Who sessions run as: ``range`` or ``range:FIRST-LAST`` (a uid for each user, remembered by
        the owner of the user's folder), ``system`` (the host account of that name), or ``UID:GID``.""",
    ).tag(config=True)
    devices = Unicode(
        "auto", help="Where GPUs are read from: ``auto``, ``nvml``, ``simulated`` or ``none``."
    ).tag(config=True)
    inventory_file = Unicode("", help="YAML inventory for ``devices = 'simulated'``.").tag(config=True)
    attach = Unicode(
        "auto", help="How devices reach a container: ``auto``, ``cdi``, ``nvidia``, ``simulated``, ``none``."
    ).tag(config=True)
    strategy = Unicode("best-fit", help="Placement strategy: ``best-fit``, ``first-fit`` or ``spread``.").tag(
        config=True
    )
    environments_file = Unicode("", help="YAML catalogue of environments.").tag(config=True)
    data_roots = List(
        Unicode(),
        help="""Folders of the server below which a course's data may lie, as this process and the engine
        see them. They are mounted read-only, and nothing outside them ever is.""",
    ).tag(config=True)
    image_registries = List(
        Unicode(),
        default_value=["public"],
        help="""Registries that the engine may be sent to for an image that people name in a recipe, a
        Dockerfile or a course and that is not on the machine: names with their port, such as
        ``registry.example.org:5000`` (``:*`` for any). ``public`` stands for every registry outside the
        site's own network; leave it out, and only those in the list are asked. An IP address, ``localhost``,
        a name without a dot and a name that leads to an inner address have to be listed.""",
    ).tag(config=True)
    hub_id = Unicode("hub", help="Name of this hub, unique among the hubs of one engine.").tag(config=True)
    orphan_limit = Integer(
        24 * 3600,
        min=600,
        help="""Seconds that a running session is kept which the hub does not know any more (its database was
        lost, say), so that its owner can come back to it. It ends with its lifetime where that is sooner.""",
    ).tag(config=True)
    network_name = Unicode(
        "ds01",
        help="""Docker network of the sessions. `ds01spawner.configure` makes it where it is missing, with
        traffic between containers switched off, so that sessions cannot reach each other's ports.""",
    ).tag(config=True)
    allow_open_network = Bool(
        False,
        help="""Start sessions although the hub's probe found that they reach each other's ports. For sites
        where one person uses the machine, or where something else keeps people apart.""",
    ).tag(config=True)
    isolation_probe = Bool(
        True,
        help="""Try at the hub's start, and twice a day, that sessions cannot reach each other: two containers
        of one of the site's images run for some seconds. ``ds01 check isolation`` tries it at any time.""",
    ).tag(config=True)
    project_templates = Unicode(
        "", help="Folder whose sub-folders are templates: what people may begin a new project with."
    ).tag(config=True)
    git_schemes = List(
        Unicode(),
        ["https"],
        help="""Schemes of the git repositories that people may begin a new project with: ``https``, and
        ``http`` for a server inside. None: a new project begins without a repository.""",
    ).tag(config=True)
    git_hosts = List(
        Unicode(),
        help="""Hosts of such repositories; ``*.example.org`` means every host below it. None: any host. It
        keeps the form in order and is no firewall: in a session people fetch from where they like.""",
    ).tag(config=True)
    git_time = Integer(180, min=1, help="Seconds that fetching such a repository may take.").tag(config=True)
    git_size = Integer(
        2 * 2**30, min=2**20, help="Bytes that a project fetched this way may take on disk."
    ).tag(config=True)
    extra_settings = Dict(help="Further fields of `ds01spawner.core.settings.Settings`.").tag(config=True)


def settings_of(spawner: Any) -> Settings:
    """The settings that a spawner's traits add up to, with the image of a site that has no catalogue."""
    settings = settings_from({name: getattr(spawner, name) for name in SETTINGS_TRAITS})
    return settings.model_copy(update={"image": spawner.configured_image})
