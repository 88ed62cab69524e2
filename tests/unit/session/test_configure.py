"""`configure(c)` adds to what the administrator set, and overwrites nothing."""

from __future__ import annotations

import json

import pytest
from traitlets.config import Config

from ds01spawner import configure
from ds01spawner.core.errors import EngineError
from ds01spawner.hub.configure import SERVICE_SCOPES


@pytest.fixture
def c(tmp_path):
    config = Config()
    config.DS01Spawner.state_dir = str(tmp_path / "state")
    config.DS01Spawner.workspace_root = str(tmp_path)
    config.JupyterHub.hub_ip = "127.0.0.1"  # no engine is needed where the admin says where to listen
    return config


def test_a_plain_configuration_gets_everything(c, tmp_path):
    settings = configure(c)
    assert c.JupyterHub.spawner_class == "ds01spawner.spawner.DS01Spawner"
    assert c.JupyterHub.cleanup_servers is False
    assert [s["name"] for s in c.JupyterHub.services] == ["ds01", "ds01-idle"]
    roles = {r["name"]: r["scopes"] for r in c.JupyterHub.load_roles}
    assert roles["ds01-service"] == SERVICE_SCOPES
    assert roles["user"] == ["self", "access:services!service=ds01"]
    assert "ds01" in c.JupyterHub.template_vars
    written = json.loads((tmp_path / "state" / "settings.json").read_text())
    assert written["workspace_root"] == str(tmp_path) == str(settings.workspace_root)


def test_what_the_admin_set_stays(c):
    hub = c.JupyterHub
    hub.spawner_class = "ds01"
    hub.cleanup_servers = True
    hub.services = [{"name": "other"}]
    hub.load_roles = [{"name": "user", "scopes": ["self", "list:users"]}, {"name": "mine", "scopes": []}]
    hub.template_paths = ["/mine"]
    hub.template_vars = {"site": "x"}
    hub.custom_scopes = {"custom:mine": {"description": "d"}}
    hub.concurrent_spawn_limit = 7
    configure(c)
    assert hub.spawner_class == "ds01"
    assert hub.cleanup_servers is True
    assert hub.concurrent_spawn_limit == 7
    assert [s["name"] for s in hub.services] == ["other", "ds01", "ds01-idle"]
    assert hub.template_paths[0] == "/mine"
    assert hub.template_vars["site"] == "x"
    assert set(hub.custom_scopes) >= {"custom:mine", "custom:ds01:course:teach"}
    roles = {r["name"]: r["scopes"] for r in hub.load_roles}
    assert roles["user"] == ["self", "list:users", "access:services!service=ds01"]
    assert [r["name"] for r in hub.load_roles].count("user") == 1
    assert "mine" in roles


def test_parts_can_be_left_out(c):
    configure(c, service=False, idle=False)
    assert "services" not in c.JupyterHub


@pytest.mark.parametrize(("base", "path"), [("/", "/services/ds01/"), ("/lab/", "/lab/services/ds01/")])
@pytest.mark.parametrize("name", ["base_url", "bind_url"])
def test_pages_are_linked_below_the_hubs_prefix(c, base, path, name):
    c.JupyterHub[name] = base if name == "base_url" else f"http://127.0.0.1:8000{base}"
    configure(c)
    context = c.JupyterHub.template_vars["ds01"](None)
    assert context.service == path


def test_traits_of_any_parent_class_count(c):
    c.Spawner.start_timeout = 99
    c.DockerSpawner.image = "site/lab:1"
    settings = configure(c)
    assert (settings.start_timeout, settings.image) == (99, "site/lab:1")


def test_an_engine_that_does_not_answer_is_said(c, tmp_path, monkeypatch):
    monkeypatch.setattr("ds01spawner.engines.docker.prepare.ENGINE_PAUSE_S", 0)
    del c.JupyterHub["hub_ip"]
    c.DS01Spawner.extra_settings = {"docker_host": f"unix://{tmp_path}/none.sock"}
    with pytest.raises(EngineError, match="engine does not answer"):
        configure(c)


@pytest.mark.parametrize(
    ("public_url", "given", "found"),
    [
        ("https://hub.example.org/", {}, {"xsrf_cookie_kwargs": {"secure": True}}),
        (
            "https://hub.example.org/",
            {"headers": {"X-A": "b"}, "xsrf_cookie_kwargs": {"samesite": "Strict"}},
            {"headers": {"X-A": "b"}, "xsrf_cookie_kwargs": {"secure": True, "samesite": "Strict"}},
        ),
        (
            "https://hub.example.org/",
            {"xsrf_cookie_kwargs": {"secure": False}},
            {"xsrf_cookie_kwargs": {"secure": False}},
        ),
        ("http://hub.example.org/", {"headers": {}}, {"headers": {}}),
        ("", {"headers": {}}, {"headers": {}}),
    ],
)
def test_a_hub_reached_by_tls_keeps_its_xsrf_cookie_to_tls(c, public_url, given, found):
    c.JupyterHub.public_url = public_url
    c.JupyterHub.tornado_settings = given
    configure(c)
    assert c.JupyterHub.tornado_settings == found


def test_settings_of_tornado_that_are_only_added_to_are_kept(c):
    c.JupyterHub.public_url = "https://hub.example.org/"
    c.JupyterHub.tornado_settings.update({"headers": {"X-A": "b"}})
    configure(c)
    assert c.JupyterHub.tornado_settings == {
        "headers": {"X-A": "b"},
        "xsrf_cookie_kwargs": {"secure": True},
    }


@pytest.mark.parametrize("own", [True, False])
def test_a_logo_of_the_sites_is_shown_as_it_is(c, own, monkeypatch):
    if own:
        c.JupyterHub.logo_file = "/srv/logo.svg"
    assert configure(c).own_logo is own
    assert c.JupyterHub.template_vars["ds01"](None).own_logo is own


def test_a_logo_given_on_the_command_line_counts(c):
    from jupyterhub.app import JupyterHub

    JupyterHub.clear_instance()
    try:
        JupyterHub.instance().cli_config.JupyterHub.logo_file = "/srv/logo.svg"
        assert configure(c).own_logo
    finally:
        JupyterHub.clear_instance()
