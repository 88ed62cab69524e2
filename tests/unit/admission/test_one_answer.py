"""Whoever asks whether something may start gets one answer: form, start, claim, queue and `ds01 why`."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.rows import block, course, ticket

from ds01spawner import messages
from ds01spawner.admission.accounts import claim_keys, course_of
from ds01spawner.admission.check import Admission, check, entitle
from ds01spawner.admission.maintenance import closed
from ds01spawner.admission.situation import Situation, read
from ds01spawner.cli.limit_commands import answer_of
from ds01spawner.core.errors import Refusal, Refused
from ds01spawner.core.labels import SessionLabels
from ds01spawner.engines import claiming
from ds01spawner.engines.base import Capacity, EngineState
from ds01spawner.engines.docker.claim import claim
from ds01spawner.gpu import GpuReading
from ds01spawner.hub.form import Standing
from ds01spawner.placement.devices import Block, Card, Device, Holding, Inventory
from ds01spawner.policy.load import parse_policy
from ds01spawner.policy.options import LaunchOptions
from ds01spawner.policy.plan import SessionUse, Usage
from ds01spawner.policy.resolve import Person, resolve
from ds01spawner.queue import queue_pass
from ds01spawner.queue.pool import PlacementPool
from ds01spawner.workspace import staging

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=timezone.utc)
ALICE = Person("alice", frozenset({"nlp"}))
COURSE = course(title="NLP", roster=["nlp"], staff=[], pinned="sha256:1")
POLICIES = (
    "version: 1",
    "version: 1\ndefaults:\n  gpu: {max_equivalents: 0.43, full_gpu: false, profiles: [1g.10gb]}\n"
    "  session: {max: 1}",
    "version: 1\ndefaults: {gpu: {hours: {budget: 1}, when_store_down: closed}, images: {use: [lab]}}",
    "version: 1\ndefaults: {session: {memory: 8g}, aggregate: {memory: 9g}, queue: {preemptible: true}}",
)
SLICES = tuple(
    Device(f"MIG-{n}", "A100", profile, size * 10240, size, "GPU-0", n)
    for n, (profile, size) in enumerate((("1g.10gb", 1), ("1g.10gb", 1), ("2g.20gb", 2)))
)
MACHINE = Inventory(
    "simulated",
    (*SLICES, Device("GPU-1", "A100", "full", 81920)),
    (Card("GPU-0", "A100", 81920, True), Card("GPU-1", "A100", 81920, index=1)),
)
UUIDS = [d.uuid for d in MACHINE.devices]


@dataclass
class World:
    """A site in memory that says the same to whoever reads it; policy and decisions are the real ones."""

    policy: str
    sessions: tuple[SessionUse, ...]
    hours: float | None
    held: tuple[str, ...]
    drained: tuple[str, ...]
    reserved: tuple[str, ...]
    maintenance: Any
    inventory: Inventory
    open: tuple[str, ...] = ()

    def __post_init__(self):
        self.maintenance_rows = self.maintenance
        self.maintenance = SimpleNamespace(refusal=lambda now, lead: closed(self.maintenance_rows, now, lead))
        self.settings = SimpleNamespace(
            strategy="best-fit", project_templates=None, git_schemes=("https",), git_hosts=("git.example",)
        )
        self.engine = self
        self.workspaces = None

    @property
    def snapshot(self):
        held = tuple(Holding(u, "x", "session") for u in self.held)
        return EngineState(held, (), reading=GpuReading(self.inventory))

    def look(self):
        return self.snapshot

    def capacity(self):
        return Capacity()

    def exposure(self):
        return self.open

    def limits(self, person, now):
        return resolve(parse_policy(self.policy, Path("p.yaml")), person, now)

    def usage_of(self, person, snapshot, now, limits):
        return Usage(sessions=self.sessions, gpu_hours=self.hours)

    def blocks(self, now=NOW):
        lifted = frozenset({"course:nlp"})
        return {
            **{u: Block("reserved", "reserved for NLP", exempt=lifted) for u in self.reserved},
            **{u: Block("drained", "fan") for u in self.drained},
        }

    def obstacles(self, inventory, now):
        return self.blocks()

    def store(self):
        return SimpleNamespace(courses=SimpleNamespace(find=lambda: [COURSE]))


USES = st.builds(
    SessionUse,
    user=st.just("alice"),
    project=st.sampled_from(["a", "b"]),
    gpu_equivalents=st.sampled_from([0.0, 1 / 7, 2 / 7, 1.0]),
    memory=st.sampled_from([None, 2**30, 8 * 2**30]),
    preemptible=st.booleans(),
)
SOME = st.lists(st.sampled_from(UUIDS), max_size=3, unique=True).map(tuple)
ANNOUNCED = [
    block(kind="maintenance", starts_at=NOW + timedelta(minutes=10), reason="kernel update"),
    block(kind="maintenance", starts_at=NOW + timedelta(hours=9), reason="far away"),
]
WORLDS = st.builds(
    World,
    policy=st.sampled_from(POLICIES),
    sessions=st.lists(USES, max_size=3).map(tuple),
    hours=st.sampled_from([0.0, 5.0, None]),
    held=SOME,
    drained=SOME,
    reserved=SOME,
    maintenance=st.sampled_from([[], [], [], ANNOUNCED[:1], ANNOUNCED[1:]]),
    open=st.sampled_from([(), (), ("IPv4",)]),
    inventory=st.sampled_from(
        [MACHINE, MACHINE, MACHINE, replace(MACHINE, state="error", reason="driver hangs")]
    ),
)
OPTIONS = st.builds(
    LaunchOptions,
    gpu=st.sampled_from(["none", "auto", "full", "1g.10gb", "2g.20gb", "7g.80gb"]),
    gpu_count=st.sampled_from([1, 1, 2]),
    environment=st.sampled_from(["", "lab", "course/nlp", "course/other"]),
    preemptible=st.booleans(),
    project_source=st.sampled_from(
        ["", "", "https://git.example/a", "https://other.example/a", "template:none"]
    ),
)


def of_the_start(world, options):
    """What the start's early check and then its claim answer; None where a container would be made."""
    entitled = entitle(read(world, ALICE, NOW, placing=False), options)
    return entitled if isinstance(entitled, Refusal) else of_the_claim(world, options)


def of_the_claim(world, options):
    request = SimpleNamespace(
        site=world, person=ALICE, options=options, server="", clock=lambda: NOW, avoid=frozenset(),
        keys=claim_keys(ALICE, course_of(options.environment, ALICE, [COURSE])),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        try:
            claim(
                Path(folder) / "lock",
                lambda: world.snapshot,
                lambda state: claiming.place_for(request, state, {})[1],
                lambda placement: "made",
            )
        except Refused as refused:
            return refused.refusal
    return None


def of_the_queue(world, options):
    """A ticket whose turn it is: its owner's rights, then the devices."""
    row = ticket(
        user="alice", arrived=NOW, profile=options.gpu, count=options.gpu_count,
        preemptible=options.preemptible, options=options.stored(),
    )  # fmt: skip
    reading = queue_pass.Reading(NOW, world.inventory, world.snapshot, {"alice": ALICE})
    prepared = queue_pass._prepare(world, reading, row, [COURSE])
    if prepared.refusal is not None:
        return prepared.refusal
    pool = PlacementPool(world.inventory, world.snapshot.holdings, world.blocks(), {})
    found = pool.find(prepared.ticket, frozenset())
    return None if found is not None else pool.why(prepared.ticket)


@given(WORLDS, OPTIONS)
def test_all_who_ask_get_the_same_answer(world, options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(staging, "is_new", lambda *_: True)
        situation = read(world, ALICE, NOW)
        answer = check(situation, options)
        form = Standing(world, situation).verdict(options)
        why = answer_of(situation, options)
        start, claimed = of_the_start(world, options), of_the_claim(world, options)
        queue = of_the_queue(world, options)
    if isinstance(answer, Admission):
        assert (form, start, claimed, queue) == (None, None, None, None)
        assert (why["ok"], [d["uuid"] for d in why["devices"]]) == (True, [d.uuid for d in answer.devices])
        return
    assert form == start == claimed == answer
    assert (why["ok"], why["message"]) == (False, answer.sentence)
    # A ticket that waits for a device is told what keeps the devices; all else is the very refusal.
    assert queue in (answer, answer.limit)


def test_a_maintenance_that_is_near_closes_the_form_too():
    """A start without a GPU was offered ten minutes before a maintenance that the start refused."""
    world = World(POLICIES[0], (), 0.0, (), (), (), ANNOUNCED[:1], MACHINE)
    for options in (LaunchOptions(), LaunchOptions(gpu="1g.10gb")):
        refused = Standing(world, read(world, ALICE, NOW)).verdict(options)
        assert refused is not None
        assert refused.code == messages.maintenance("", "").code
        assert "kernel update" in refused.sentence


def test_a_device_reserved_for_a_course_is_free_for_its_environment_alone():
    world = World(POLICIES[0], (), 0.0, (), UUIDS[:1], tuple(UUIDS[1:]), [], MACHINE)
    situation = read(world, ALICE, NOW)
    course, lab = LaunchOptions(gpu="1g.10gb", environment="course/nlp"), LaunchOptions(gpu="1g.10gb")
    assert [d.uuid for d in check(situation, course).devices] == ["MIG-1"]
    assert check(situation, lab).code == "gpus-unavailable"
    assert situation.keys("course/nlp") - situation.keys("") == {"course:nlp"}


def test_without_a_store_there_are_no_courses_and_nothing_else_changes():
    situation = Situation(ALICE, resolve(parse_policy(POLICIES[0], Path("p.yaml")), ALICE, NOW), NOW)
    assert situation.keys("course/nlp") == {"user:alice", "group:nlp"}
    assert isinstance(check(situation, LaunchOptions()), Admission)
    assert check(situation, LaunchOptions(gpu="auto")).code == "gpus-unavailable"


def test_a_label_of_a_session_is_read_where_it_counts():
    """The sessions that use up a quota are those of the ledger, read at the moment of the question."""
    label = SessionLabels("alice", "", "a", "hub", "s", gpu_equivalents=3 / 7)
    world = World(POLICIES[1], (SessionUse.from_labels(label),), 0.0, (), (), (), [], MACHINE)
    assert check(read(world, ALICE, NOW), LaunchOptions(gpu="1g.10gb")).code in ("sessions-max", "gpu-quota")
