"""What builds left without a name is removed: old, ours, and nothing else."""

from __future__ import annotations

import uuid
from functools import partial

import pytest
from support.ours import installation_of

from ds01spawner.engines.docker import runstep, steplayers
from ds01spawner.engines.docker.image_store import Images
from ds01spawner.engines.docker.runstep import Sandbox
from ds01spawner.environments.builder.dockerscan import read
from ds01spawner.environments.builder.stepwise import StepFailed, StepwiseBuild
from ds01spawner.workspace.projectfiles import pack_files

pytestmark = pytest.mark.timeout(300)
BUSYBOX = "ds01/test-busybox:latest"


@pytest.fixture
def images(engine, busybox_image):
    images = Images()
    yield images
    images.close()


class Hub:
    """Builds of one installation, which no other test has."""

    def __init__(self, images: Images) -> None:
        self.images, self.client = images, images.client()
        self.name = uuid.uuid4().hex[:8]
        self.installation = installation_of(self.name)

    def build(self, text: str) -> str:
        seal = partial(steplayers.seal, self.installation)
        sandbox = Sandbox(memory=2**28, pids=200, network="none", seal=seal)
        build = StepwiseBuild(self.images, self.name, sandbox, 120, lambda _: None, scope=self.name)
        return build.run(read(text), pack_files({}))

    def steps(self) -> list[str]:
        rows = self.client.images(all=True, filters={"since": BUSYBOX})
        inspected = []
        for row in rows:
            try:
                inspected.append(self.client.inspect_image(row["Id"]))
            except Exception:
                continue
        return [i["Id"] for i in inspected if steplayers.sealed(self.installation, i.get("Comment") or "")]

    def sweep(self, older_s: float = -60) -> int:
        return steplayers.sweep(self.client, self.installation, older_s)


def test_a_failed_builds_steps_stay_as_cache_and_go_when_they_are_old(images):
    hub, other = Hub(images), Hub(images)
    with pytest.raises(StepFailed):
        hub.build(f"FROM {BUSYBOX}\nRUN echo {hub.name} > /a\nENV A=b\nRUN echo b > /b\nENV C=d\nRUN false\n")
    assert len(hub.steps()) == 2
    assert hub.sweep(steplayers.KEEP_S) == 0
    assert other.sweep() == 0
    assert len(hub.steps()) == 2
    assert hub.sweep() == 1
    assert hub.steps() == []


def test_what_has_a_name_or_a_container_stays(images):
    hub = Hub(images)
    named = hub.build(f"FROM {BUSYBOX}\nRUN echo {hub.name} > /a\n")
    tag = f"ds01-test-{hub.name}"
    hub.client.tag(named, tag, "latest")
    try:
        assert hub.sweep() == 0
        # Built by the site on it, and untagged: below it there is a name.
        child = hub.client.create_container(named, ["true"])["Id"]
        foreign = hub.client.commit(child)["Id"]
        hub.client.remove_container(child)
        assert hub.sweep() == 0
        hub.client.remove_image(foreign)
    finally:
        hub.client.remove_image(tag)
    assert hub.steps() == []


def test_a_seal_is_worth_nothing_elsewhere():
    ours, other = installation_of("a"), installation_of("b")
    note = runstep.cache_note("sha256:1", ["true"], "", "")
    said = steplayers.seal(ours, note)
    assert steplayers.sealed(ours, said)
    for forged in (note, "", said.replace("ds01-run", "ds01-ran"), said + "0", said[:-1]):
        assert not steplayers.sealed(ours, forged)
    assert not steplayers.sealed(other, said)
    assert not steplayers.sealed(other, said.replace(ours.id, other.id))
