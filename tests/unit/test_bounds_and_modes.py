"""What bounds a session's log and layer, who may read the hub's state, and what `ds01 check` says of it."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from traitlets.config import Config

from ds01spawner import configure
from ds01spawner.core.installation import Installation
from ds01spawner.core.labels import SessionLabels
from ds01spawner.core.settings import Settings
from ds01spawner.doctor.bound_checks import layer_findings, log_findings, quota_findings
from ds01spawner.doctor.exposure_checks import (
    engine_findings,
    origin_findings,
    source_findings,
    workspace_findings,
)
from ds01spawner.doctor.mode_checks import check_modes
from ds01spawner.engines.base import EngineSession
from ds01spawner.engines.docker.create import ContainerSpec, finalise, log_bound
from ds01spawner.engines.docker.layers import LayerUse, bounds_layers
from ds01spawner.engines.docker.mounts import mount_options
from ds01spawner.policy.load import load_policy
from ds01spawner.service.layerwatch import judge, tell
from ds01spawner.site import Site
from ds01spawner.workspace.folder_modes import narrow, sqlite_path, too_wide, watched
from ds01spawner.workspace.used_space import Measured

NOW = datetime(2026, 3, 2, 12, tzinfo=timezone.utc)
MOUNTS = """\
/dev/sda1 / ext4 rw,relatime 0 0
/dev/sdb1 /var/lib/docker xfs rw,relatime,prjquota 0 0
/dev/sdc1 /srv xfs rw,nosuid,nodev 0 0
/dev/sdd1 /srv/my\\040data ext4 rw 0 0
tmpfs /srv tmpfs rw,nosuid 0 0
"""
LABELS = SessionLabels("a", "", "p", "h", "s")
SPEC = ContainerSpec(LABELS, Installation("i" * 16, b"k" * 32), "sha256:0", 1, 1, "a", "/home/a", "/w")
JSON_FILE = {"LoggingDriver": "json-file"}


def host(spec: ContainerSpec, given=None):
    return finalise({"host_config": given or {}}, spec)["host_config"]


def test_a_log_is_bounded_where_the_engine_would_keep_all_of_it():
    bounded = replace(SPEC, log_config=log_bound(JSON_FILE))
    assert host(bounded)["LogConfig"] == {
        "Type": "json-file",
        "Config": {"max-size": "10m", "max-file": "2"},
    }
    site = {"LogConfig": {"Type": "journald", "Config": {"tag": "x"}}}
    assert host(bounded, site)["LogConfig"] == site["LogConfig"]


@pytest.mark.parametrize("driver", ["local", "journald", "none", "syslog"])
def test_another_driver_of_the_engine_stays(driver):
    assert "LogConfig" not in host(replace(SPEC, log_config=log_bound({"LoggingDriver": driver})))


@pytest.mark.parametrize(
    ("driver", "backing", "root", "bounds"),
    [
        ("overlay2", "xfs", "/var/lib/docker", True),
        ("overlay2", "xfs", "/srv/docker", False),
        ("overlay2", "extfs", "/var/lib/docker", False),
        ("btrfs", "", "/", True),
        ("zfs", "", "/", True),
        ("vfs", "xfs", "/var/lib/docker", False),
        ("", "", "", False),
    ],
)
def test_where_a_layer_can_be_bounded(driver, backing, root, bounds):
    info = {"Driver": driver, "DriverStatus": [["Backing Filesystem", backing]], "DockerRootDir": root}
    assert bounds_layers(info, MOUNTS) is bounds


def test_a_bound_layer_is_asked_of_the_engine():
    assert host(replace(SPEC, layer=2**30))["StorageOpt"] == {"size": str(2**30)}
    assert "StorageOpt" not in host(SPEC)


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/srv/x", {"rw", "nosuid"}),
        ("/srv/my data/x", {"rw"}),
        ("/srvx", {"rw", "relatime"}),
        ("/var/lib/docker", {"rw", "relatime", "prjquota"}),
    ],
)
def test_options_of_the_mount_a_path_is_on(path, options):
    assert mount_options(path, MOUNTS) == options


# --- layers -----------------------------------------------------------------------------------------


def use(size: int, *, limit: str = '{"layer":100}', complete: bool = True) -> LayerUse:
    labels = SessionLabels("alice", "", "thesis", "hub", "s1", limits=limit)
    return LayerUse(EngineSession(labels, "c1", "n", "running", "Up"), Measured(size, complete))


@pytest.mark.parametrize(
    ("size", "limit", "over", "retire"),
    [
        (100, '{"layer":100}', False, False),
        (101, '{"layer":100}', True, False),
        (101, '{"layer":100,"layer_retire":true}', True, True),
        (10**12, '{"layer":null}', False, False),
        (10**12, "{}", False, False),
        (10**12, "broken", False, False),
    ],
)
def test_who_wrote_too_much(size, limit, over, retire):
    found = judge(use(size, limit=limit))
    assert (found is not None) is over
    assert (found is not None and found.retire) is retire


def test_a_session_is_told_once_until_it_is_well_below(tmp_path):
    site = Site(Settings(state_dir=tmp_path, devices="none"))

    def notices():
        return [n.text for n in site.store().notices.of("alice", NOW)]

    tell(site, [use(50)], NOW)
    assert notices() == []
    for _ in range(2):
        tell(site, [use(120)], NOW)
    assert len(notices()) == 1
    assert "outside its project" in notices()[0]
    tell(site, [use(95)], NOW)
    assert len(notices()) == 1  # just below may be over again in a minute
    tell(site, [use(10, complete=False)], NOW)
    assert len(notices()) == 1  # as much as could be counted says nothing
    tell(site, [use(10)], NOW)
    assert notices() == []
    tell(site, [use(120)], NOW)
    assert len(notices()) == 1


# --- modes ------------------------------------------------------------------------------------------


def mode(path: Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.fixture
def c(tmp_path):
    config = Config()
    config.DS01Spawner.state_dir = str(tmp_path / "state")
    config.DS01Spawner.workspace_root = str(tmp_path)
    config.JupyterHub.hub_ip = "127.0.0.1"
    config.JupyterHub.db_url = f"sqlite:///{tmp_path}/state/hub.sqlite"
    return config


def test_state_and_databases_are_private_from_the_start(c, tmp_path):
    old = os.umask(0)
    try:
        (tmp_path / "state").mkdir()
        configure(c)
    finally:
        os.umask(old)
    state = tmp_path / "state"
    assert mode(state) == 0o750
    assert mode(state / "hub.sqlite") == 0o640
    assert mode(state / "installation.json") == 0o600
    assert [
        f.level for f in check_modes(Settings.model_validate_json((state / "settings.json").read_text()))
    ] == ["ok"]


def test_what_an_older_version_left_open_is_narrowed_and_said_before(c, tmp_path):
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    state.chmod(0o777)
    for name in ("hub.sqlite", "hub.sqlite-wal", "ds01.sqlite", "fragments.key"):
        (state / name).write_text("")
        (state / name).chmod(0o666)
    settings = Settings(state_dir=state, hub_database=state / "hub.sqlite")
    said = {f.what.split(" has ")[0].rpartition("/")[2]: f.level for f in check_modes(settings)}
    assert said == {
        "state": "warning",
        "fragments.key": "error",
        "ds01.sqlite": "warning",
        "hub.sqlite": "warning",
        "hub.sqlite-wal": "warning",
    }
    configure(c)
    assert mode(state) == 0o750
    assert {mode(state / n) for n in ("hub.sqlite", "ds01.sqlite")} == {0o640}
    assert mode(state / "fragments.key") == 0o600


def test_narrower_modes_stay_and_links_are_left_alone(tmp_path):
    (tmp_path / "other").write_text("")
    (tmp_path / "other").chmod(0o644)
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "settings.json").symlink_to(tmp_path / "other")
    assert narrow(watched(state, [])) == []
    assert mode(state) == 0o700
    assert mode(tmp_path / "other") == 0o644
    assert too_wide([(tmp_path / "none", 0o600)]) == []


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///jupyterhub.sqlite", "/run/jupyterhub.sqlite"),
        ("sqlite:////var/lib/x.sqlite", "/var/lib/x.sqlite"),
        ("sqlite+pysqlite:///x.sqlite", "/run/x.sqlite"),
        ("sqlite://", None),
        ("sqlite:///:memory:", None),
        ("postgresql://u:p@h/db", None),
    ],
)
def test_which_file_a_database_is(url, path):
    assert sqlite_path(url, Path("/run")) == (Path(path) if path else None)


# --- rows that rest on the site ---------------------------------------------------------------------


def levels(found) -> list[str]:
    return [f.level for f in found]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (origin_findings(""), ["site"]),
        (origin_findings("https://hub.example.org"), ["ok"]),
        (workspace_findings("/srv", frozenset({"rw"})), ["site"]),
        (workspace_findings("/srv", frozenset({"rw", "nosuid"})), ["site"]),
        (workspace_findings("/srv", frozenset({"rw", "nosuid", "nodev"})), ["ok"]),
        (workspace_findings("/srv", None), ["site"]),
        (source_findings("held"), ["ok"]),
        (source_findings("compared"), ["site"]),
        (source_findings("none"), ["site"]),
        (engine_findings({}), ["site", "site"]),
        (engine_findings({"SecurityOptions": ["name=seccomp", "name=userns"]}), ["ok", "site"]),
        (engine_findings({"SecurityOptions": ["name=rootless"], "LiveRestoreEnabled": True}), ["ok", "ok"]),
        (log_findings({"LoggingDriver": "json-file"}), ["ok"]),
        (log_findings({"LoggingDriver": "local"}), ["ok"]),
        (log_findings({"LoggingDriver": "journald"}), ["site"]),
        (layer_findings({"Driver": "zfs"}, ""), ["ok"]),
        (layer_findings({"Driver": "overlay2"}, "/"), ["site"]),
        (layer_findings({"Driver": "overlay2"}, ""), ["site"]),
    ],
)
def test_a_choice_of_the_site_is_said_and_breaks_nothing(found, expected):
    rows = list(found)
    assert levels(rows) == expected
    assert all(f.why and f.mend for f in rows if f.level == "site" and "cannot be read" not in f.what)


@pytest.mark.parametrize(
    ("storage", "expected"),
    [
        ("", "no quota"),
        ("storage: {quota: 10g}", "when a session starts"),
        ("storage: {quota: 10g, quota_command: [setquota, '{user}']}", "set by the site's command"),
    ],
)
def test_quotas_of_workspaces(tmp_path, storage, expected):
    file = tmp_path / "policy.yaml"
    file.write_text(f"version: 1\ndefaults:\n  session: {{max: 2}}\n  {storage}\n")
    (found,) = quota_findings(load_policy(file))
    assert expected in found.what
