"""A session from start to retire on a real hub: what it is given, what stays and what goes."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor

import docker
import pytest
from support.labs import Browser, Lab


def run(engine: docker.DockerClient, name: str, command: str) -> str:
    """Run a shell line in a session as its user."""
    code, output = engine.containers.get(name).exec_run(["bash", "-c", command])
    assert code == 0, output.decode()
    return output.decode().strip()


@pytest.fixture(scope="module")
def alice(hub, engine):
    """Alice's running session: its container's name."""
    hub.start_session("alice", {"project": "thesis", "gpu": "1g.10gb"})
    yield f"{hub.hub_id}--alice"
    hub.retire("alice")


def test_it_runs_as_the_user_in_the_workspace(hub, engine, alice):
    assert run(engine, alice, "whoami") == "alice"
    assert run(engine, alice, "pwd") == "/workspace"
    assert run(engine, alice, "cd; pwd; test -w . && echo writable") == "/home/alice\nwritable"
    uid = int(run(engine, alice, "id -u"))
    folder = hub.workspaces / "alice" / "thesis"
    assert folder.stat().st_uid == uid == (hub.workspaces / "alice").stat().st_uid
    assert uid >= 20000
    assert stat.S_IMODE(folder.stat().st_mode) & 0o007 == 0
    assert run(engine, alice, "touch /workspace/x && stat -c %u /workspace/x") == str(uid)


def test_its_prompt_says_who_and_where(engine, alice):
    prompt = run(engine, alice, "bash -lic 'echo ${PS1@P}' 2>/dev/null")
    assert prompt.startswith("alice@thesis:/workspace$")


def test_packages_can_be_installed(engine, alice, tmp_path):
    # A package made here, so that the test needs no index.
    recipe = (
        'mkdir -p /tmp/p && cd /tmp/p && printf \'from setuptools import setup; setup(name="ds01probe",'
        ' version="1", py_modules=["ds01probe"])\' > setup.py && echo \'A = 42\' > ds01probe.py'
        " && pip install -q --no-build-isolation --no-index ."
        " && cd / && python -c 'import ds01probe; print(ds01probe.A)'"
    )
    assert run(engine, alice, recipe).splitlines()[-1] == "42"


def test_docker_shows_limits_labels_and_hardening(hub, engine, alice):
    found = engine.api.inspect_container(alice)
    host, config = found["HostConfig"], found["Config"]
    assert host["Memory"] == host["MemorySwap"] == 2**30
    assert (host["CpuQuota"], host["CpuPeriod"]) == (100_000, 100_000)
    assert (host["PidsLimit"], host["ShmSize"]) == (512, 128 * 2**20)
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["Privileged"] is False
    assert not host["Binds"]
    assert [(m["Type"], m["Target"]) for m in host["Mounts"]] == [("bind", "/workspace")]
    assert host["DeviceRequests"] is None
    env = dict(line.split("=", 1) for line in config["Env"])
    assert env["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert env["DS01_PROJECT"] == "thesis"
    labels = config["Labels"]
    assert labels["ds01.managed"] == "true"
    assert (labels["ds01.user"], labels["ds01.project"], labels["ds01.server"]) == ("alice", "thesis", "")
    assert labels["ds01.hub"] == hub.hub_id
    assert labels["ds01.image"] == found["Image"]
    assert labels["ds01.gpu.uuids"] == env["DS01_GPU_UUIDS"] != ""
    assert labels["ds01.session"] == env["DS01_SESSION"]
    assert run(engine, alice, "grep CapEff /proc/self/status | cut -f2") == "0" * 16
    assert run(engine, alice, "grep NoNewPrivs /proc/self/status | cut -f2") == "1"


def test_the_admin_page_gets_a_readable_profile(hub, alice):
    assert hub.server("alice")["user_options"]["profile"] == "thesis · JupyterLab · 1g.10gb"


def test_files_in_the_project_stay_and_others_go(hub, engine, sessions_of):
    hub.start_session("bob", {"project": "nlp"})
    name = f"{hub.hub_id}--bob"
    run(engine, name, "echo kept > /workspace/kept.txt; echo lost > ~/lost.txt")
    hub.retire("bob")
    assert [c.name for c in sessions_of(hub) if c.labels["ds01.user"] == "bob"] == []
    hub.start_session("bob", {"project": "nlp"})
    assert run(engine, name, "cat /workspace/kept.txt") == "kept"
    assert run(engine, name, "ls ~/lost.txt 2>/dev/null || echo gone") == "gone"
    hub.retire("bob")


def test_what_a_program_does_at_its_end_is_done_when_its_session_is_retired(hub):
    hub.start_session("bob", {"project": "ends", "gpu": "none"})
    browser = Browser()
    try:
        lab = Lab(hub, browser, "bob")
        kernel = lab.notebook()
        lab.execute(kernel, "import atexit, pathlib; atexit.register(pathlib.Path('bye').write_text, 'kept')")
        lab.execute(kernel, "pathlib.Path('begun').touch()")
        assert (hub.workspaces / "bob" / "ends" / "begun").exists()
    finally:
        browser.close()
        hub.retire("bob")
    assert (hub.workspaces / "bob" / "ends" / "bye").read_text() == "kept"


def test_one_user_runs_several_named_sessions(hub, engine, sessions_of):
    hub.start_session("teacher", {"project": "a"}, "first")
    hub.start_session("teacher", {"project": "b"}, "second")
    found = {
        c.labels["ds01.server"]: c.labels["ds01.project"]
        for c in sessions_of(hub)
        if c.labels["ds01.user"] == "teacher"
    }
    assert found == {"first": "a", "second": "b"}
    hub.http.request("DELETE", hub.server_path("teacher", "first"), json={"remove": True})
    hub.wait_for(
        lambda: len([c for c in sessions_of(hub) if c.labels["ds01.user"] == "teacher"]) == 1,
        120,
        "one to go",
    )
    hub.retire("teacher", "second")


def test_progress_tells_real_steps_to_every_browser(hub):
    answer = hub.launch("admin", {"project": "p"})
    assert answer.status_code in (201, 202)
    with ThreadPoolExecutor(2) as browsers:  # side by side: one that comes when it is ready sees that alone
        first, second = browsers.map(hub.progress, ["admin", "admin"])
    hub.wait_ready("admin")
    steps = [e["step"] for e in first if e.get("step") and e.get("finished")]
    if answer.status_code == 202:
        assert steps == ["checks", "image", "workspace", "device", "container", "started", "jupyter"]
        assert [e.get("step") for e in second][-3:] == [e.get("step") for e in first][-3:]
    numbers = [e["progress"] for e in first]
    assert numbers == sorted(numbers)
    hub.retire("admin")
