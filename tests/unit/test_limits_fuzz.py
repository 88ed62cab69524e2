"""Whatever a person sends, no container is created above their limits: from options to Docker's arguments."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlencode

from hypothesis import given, settings
from hypothesis import strategies as st
from support.ours import INSTALLATION

from ds01spawner.core.errors import Refused
from ds01spawner.core.labels import SessionLabels
from ds01spawner.engines import claiming
from ds01spawner.engines.docker import launch
from ds01spawner.engines.docker.attach import Attach
from ds01spawner.engines.docker.create import VOID, finalise
from ds01spawner.placement.devices import Placement
from ds01spawner.policy.load import parse_policy
from ds01spawner.policy.options import from_form, parse_options
from ds01spawner.policy.plan import LaunchPlan, SessionUse, Usage, plan
from ds01spawner.policy.resolve import Person, resolve
from ds01spawner.workspace.identity import Identity

NOW = datetime(2026, 3, 2, 12, tzinfo=timezone.utc)
INFO = {"NCPU": 8}
GIB = 2**30
POLICY = parse_policy(
    """
version: 1
default_group: guests
defaults:
  gpu: {max_equivalents: 0.5, max_devices_per_session: 2, full_gpu: false, profiles: [1g.10gb, 2g.20gb]}
  session: {max: 3, cpus: 4, memory: 8g, swap: 1g, shm: 2g, pids: 512, lifetime: 12h, ulimits: {nofile: 1024}}
  aggregate: {cpus: 6, memory: 20g, pids: 1000, gpu_equivalents: 0.6}
  storage: {quota: 10g, minimum_free: {workspace: 1g}, rescue: {cpus: 1, memory: 1g, lifetime: 1h}}
groups:
  guests: {session: {memory: 2g, cpus: 1}}
  students: {members: [alice]}
  researchers: {session: {memory: 16g, cpus: 64, max: 5}, gpu: {max_equivalents: 2, full_gpu: true}}
  admins: {hub_admins: true, session: {memory: null}}
users:
  bob: {session: {lifetime: 1h}, expires: 2026-03-02}
""",
    Path("policy.yaml"),
)
NAMES = [
    "project", "environment", "gpu", "gpu_count", "wait", "lifetime", "preemptible", "profile",
    "memory", "cpus", "mem_limit", "image", "limits", "user", "groups", "admin", "project_new", "again",
]  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(
        [
            "p",
            "none",
            "auto",
            "full",
            "1g.10gb",
            "2g.20gb",
            "7g.80gb",
            "1",
            "99",
            "-1",
            "inf",
            "null",
            "1e9",
            "../x",
            "gpu=full&gpu_count=16",
            "researchers",
            10**12,
            -1,
            1.5,
            True,
            None,
            [],
            {},
        ]
    ),
    st.integers(-10, 10**10),
    st.floats(),
    st.text(max_size=12),
)
RAW = st.one_of(
    st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6),
    st.fixed_dictionaries(
        {},
        optional={
            "gpu": st.sampled_from(["none", "auto", "1g.10gb", "full"]),
            "gpu_count": st.integers(1, 16),
            "lifetime": st.integers(60, 366 * 86400),
            "preemptible": st.booleans(),
            "profile": VALUES,
        },
    ),
)
SESSIONS = st.lists(
    st.builds(
        SessionUse,
        user=st.sampled_from(["alice", "bob", "eve"]),
        gpu_equivalents=st.sampled_from([0.0, 0.1429, 0.2857, 1.0]),
        memory=st.one_of(st.none(), st.integers(0, 64 * GIB)),
        preemptible=st.booleans(),
    ),
    max_size=4,
)
GROUPS = st.frozensets(
    st.sampled_from(
        ["students", "guests", "Researchers", "researchers ", "admins\n", "users.bob", "", "défaults"]
    )
)
HOST_KEYS = (
    "Memory MemorySwap CpuQuota CpuPeriod PidsLimit ShmSize CgroupParent Devices Privileged CapAdd "
    "DeviceRequests Ulimits PidMode UsernsMode VolumesFrom"
)
EXTRA = st.dictionaries(
    st.sampled_from(HOST_KEYS.split()),
    st.one_of(st.integers(-1, 10**15), st.text(max_size=5), st.just([{"Driver": "nvidia", "Count": -1}])),
)


def container(person, raw, usage, extra):
    """Docker's arguments for these options, or None where they are refused."""
    try:
        options = parse_options(raw)
    except Refused:
        return None, None
    limits = resolve(POLICY, person, NOW)
    ready = plan(person, limits, options, usage, NOW)
    if not isinstance(ready, LaunchPlan):
        return None, limits
    request = SimpleNamespace(
        clock=lambda: NOW,
        workspace=SimpleNamespace(identity=Identity(2000, 2000, "u"), path=Path("/w/u/p")),
        person=person,
        server="",
        options=options,
        site=SimpleNamespace(
            settings=SimpleNamespace(hub_id="hub"),
        ),
        session="s",
        image=SimpleNamespace(
            image_id="sha256:1",
            environment=SimpleNamespace(id="lab", course=""),
            facts=SimpleNamespace(env={}, entrypoint=[]),
        ),
        mounts=(),
    )
    ready = claiming.fit(ready, INFO["NCPU"])
    parent = f"/ds01/hub/{'x' if ready.aggregate else ''}"
    chosen = claiming.claim_of(request, ready, Placement())
    spec = launch.spec_of(chosen, INSTALLATION, Attach("none", ""), INFO, parent)
    env = {"NVIDIA_VISIBLE_DEVICES": "all", "DOCKER_RESOURCE_GPU": "0"}
    return finalise({"host_config": extra, "environment": env, "labels": {"ds01.limits": "{}"}}, spec), limits


@settings(max_examples=400, deadline=None)
@given(
    name=st.sampled_from(["alice", "bob", "eve", "researchers", "users.bob"]),
    groups=GROUPS,
    raw=RAW,
    sessions=SESSIONS,
    used=st.one_of(st.none(), st.integers(0, 20 * GIB)),
    extra=EXTRA,
)
def test_no_option_group_or_setting_passes_a_limit(name, groups, raw, sessions, used, extra):
    person = Person(name, groups)
    usage = Usage(sessions=tuple(sessions), workspace_free=50 * GIB, workspace_used=used)
    made, limits = container(person, raw, usage, extra)
    if made is None:
        return
    # No name of these groups is that of the researchers or the admins, so nobody has what those have.
    assert limits.session.memory in (2 * GIB, 8 * GIB)
    host, labels = made["host_config"], SessionLabels.from_labels(made["labels"])
    assert 0 < host["Memory"] <= limits.session.memory
    assert 0 <= host["MemorySwap"] - host["Memory"] <= limits.session.swap
    assert 0 < host["CpuQuota"] / host["CpuPeriod"] <= min(limits.session.cpus, limits.aggregate.cpus, 8)
    assert 0 < host["PidsLimit"] <= limits.session.pids
    assert 0 < host["ShmSize"] <= min(limits.session.shm, host["Memory"])
    assert host["Ulimits"] == [{"Name": "nofile", "Soft": 1024, "Hard": 1024}]
    assert host["CgroupParent"] == "/ds01/hub/x"
    assert (host["Privileged"], host["CapDrop"]) == (False, ["ALL"])
    assert not {"CapAdd", "Devices", "DeviceRequests", "PidMode", "UsernsMode", "VolumesFrom"} & set(host)
    assert made["environment"]["NVIDIA_VISIBLE_DEVICES"] == VOID
    assert made["user"] == "2000:2000"
    end = datetime.fromisoformat(labels.expires_at)
    assert timedelta(0) < end - NOW <= timedelta(seconds=limits.session.lifetime)
    assert labels.user == name
    mine = [s for s in sessions if s.user == name]
    assert len(mine) < limits.session.max
    known = [limits.session.memory if s.memory is None else s.memory for s in mine]
    assert not mine or sum(known) + host["Memory"] <= limits.aggregate.memory


@settings(max_examples=300, deadline=None)
@given(
    raw=st.fixed_dictionaries(
        {"gpu": st.sampled_from(["auto", "full", "1g.10gb", "2g.20gb", "3g.40gb"])},
        optional={"gpu_count": st.integers(1, 16), "preemptible": st.booleans()},
    ),
    sessions=SESSIONS,
)
def test_no_request_for_devices_passes_the_quota(raw, sessions):
    person = Person("alice", frozenset({"students"}))
    limits = resolve(POLICY, person, NOW)
    ready = plan(person, limits, parse_options(raw), Usage(sessions=tuple(sessions)), NOW)
    if not isinstance(ready, LaunchPlan):
        return
    request = ready.gpu
    assert request.profile in ("auto", "1g.10gb", "2g.20gb")
    assert request.count <= 2
    assert request.allowed == {"1g.10gb", "2g.20gb"}
    assert not request.full_gpu
    held = sum(s.gpu_equivalents for s in sessions if s.user == "alice" and not s.preemptible)
    assert request.max_equivalents <= max(0.0, 0.5 - held) + 0.01


@given(st.dictionaries(st.sampled_from(NAMES), st.lists(st.text(max_size=30), max_size=2), max_size=5))
def test_a_form_gives_what_rest_gives_or_is_refused(form):
    """Also by the value of the button that starts again, which is a set of options in itself."""
    try:
        options = parse_options(from_form(form))
    except Refused:
        return
    again = {"again": [urlencode({k: v for k, v in options.stored().items() if k != "profile"})]}
    assert parse_options(from_form(again)).model_dump(exclude={"profile"}) == options.model_dump(
        exclude={"profile"}
    )
    assert "again" not in parse_qs(again["again"][0])
