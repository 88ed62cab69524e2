"""Which network builds get, what is kept of it, and what `ds01 check` makes of that."""

import os

import pytest

from ds01spawner.core.errors import DS01Error, EngineError
from ds01spawner.core.settings import Settings
from ds01spawner.doctor.build_checks import check_builds, judge
from ds01spawner.engines.docker import buildnet
from ds01spawner.environments.builder import buildnetwork
from ds01spawner.environments.builder.buildnetwork import BuildsNetwork, Record, load, ports_of, save
from ds01spawner.hub.configure import _environment


class Engine:
    """Images whose client is never really asked."""

    def client(self):
        return self


@pytest.fixture
def settings(tmp_path):
    return Settings(state_dir=tmp_path, workspace_root=tmp_path, network="ours")


@pytest.fixture
def net(monkeypatch):
    """What the engine's side answers; each call of ``ensure`` is noted."""
    answer = {"trouble": "", "reached": [], "image": "sha256:1", "calls": []}

    def ensure(client, name, hub_id, ports):
        answer["calls"].append((name, ports))
        return buildnet.BuildNetwork(name, "ds01b-1", "172.30.0.1", answer["trouble"])

    def reached(client, network, image, others):
        if answer["reached"] is None:
            raise EngineError("it could not be tried")
        return answer["reached"]

    monkeypatch.setattr(buildnetwork.buildnet, "ensure", ensure)
    monkeypatch.setattr(buildnetwork.buildnet, "reached", reached)
    monkeypatch.setattr(buildnetwork, "site_image", lambda settings, client: answer["image"])
    monkeypatch.setattr(buildnetwork, "find_network", lambda client, name: None)
    return answer


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({}, "ok", "do not reach this machine"),
        ({"reached": ["172.17.0.1"]}, "error", "reach this machine: 172.17.0.1"),
        (
            {"trouble": "no iptables"},
            "site",
            "not enforced: builds are not kept from this machine (no iptables)",
        ),
        ({"reached": None}, "site", "not enforced"),
        ({"image": ""}, "site", "not enforced"),
    ],
)
def test_it_is_tried_kept_and_told(settings, net, changes, level, words):
    net.update(changes)
    network = BuildsNetwork(settings, Engine(), {"DS01_BUILD_HOST_PORTS": "3128, 3141"})
    assert network.ready() == network.ready() == "ours-build"
    assert net["calls"] == [("ours-build", (3128, 3141))] * 2  # the rules are seen to before each build
    (finding,) = check_builds(settings)
    assert finding.level == level
    assert words in finding.what


def test_the_sites_own_choice(settings, net):
    assert BuildsNetwork(settings, Engine(), {"DS01_BUILD_NETWORK": "none"}).ready() == "none"
    assert net["calls"] == []
    assert judge(load(settings.state_dir)).level == "ok"
    assert BuildsNetwork(settings, Engine(), {"DS01_BUILD_NETWORK": "host"}).ready() == "host"
    assert "not enforced" in judge(load(settings.state_dir)).what


def test_nothing_known_yet(settings):
    (finding,) = check_builds(settings)
    assert finding.level == "ok"
    (settings.state_dir / buildnetwork.FILE).write_text('{"network": 1}')
    assert load(settings.state_dir) is None
    save(settings.state_dir / "none", Record("x"))  # nowhere to keep it: no error


@pytest.mark.parametrize("text", ["x", "0", "70000", "80:90", "²"])
def test_wrong_ports(text):
    with pytest.raises(DS01Error, match="is not a port"):
        ports_of({"DS01_BUILD_HOST_PORTS": text})


def test_the_settings_of_builds_reach_the_service(settings, monkeypatch):
    given = {f"DS01_BUILD_{n}": f"of {n}" for n in ("NETWORK", "ARGS", "FILES", "HOST_PORTS")}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DS01_OTHER_SECRET", "x")
    passed = _environment(settings)
    assert {k: v for k, v in passed.items() if k.startswith("DS01_BUILD")} == given
    assert "DS01_OTHER_SECRET" not in passed
    assert os.environ["DS01_BUILD_ARGS"] == passed["DS01_BUILD_ARGS"]
