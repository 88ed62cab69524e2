"""A pull from a registry tells bytes: to its caller, and to who types ``ds01 course prepull``."""

import json
import os
import subprocess
import sys
import threading

import pytest
from support.ours import INSTALLATION
from support.registry import running_registry

from ds01spawner.core.errors import EngineError
from ds01spawner.engines.docker.image_store import Images

pytestmark = pytest.mark.timeout(300)
SIZES = [3_000_000, 2_000_000, 1000]


@pytest.fixture
def images():
    images = Images(installation=lambda: INSTALLATION)
    yield images
    images.close()


@pytest.fixture
def registry(images):
    with running_registry(SIZES, f"ds01-test-pull-{os.getpid()}") as registry:
        yield registry
        images.remove(registry.image)


def test_a_pull_tells_bytes(images, registry):
    seen = []

    def in_the_middle(pulled):  # a small layer may be there as a whole before the engine says more
        return 0 < pulled.current < pulled.total

    def tell(pulled):
        seen.append(pulled)
        if in_the_middle(pulled):  # half of each large layer was sent and no more until now
            registry.gate.set()

    late = threading.Timer(60, registry.gate.set)
    late.start()
    facts = images.pull(registry.image, tell)
    late.cancel()
    assert facts.tags == (registry.image,)
    half = next(p for p in seen if in_the_middle(p))
    assert half.total <= registry.compressed
    assert half.done < half.layers == 3
    assert (seen[-1].done, seen[-1].layers) == (3, 3)
    assert seen[-1].current == seen[-1].total
    assert [p.current for p in seen] == sorted(p.current for p in seen)


def test_a_pull_of_what_is_not_there_says_so(images, registry):
    name = registry.image.rpartition("/")[0]
    registry.manifest = b"{}"
    with pytest.raises(EngineError, match="pulling"):
        images.pull(f"{name}/other:1")


def test_prepull_shows_bytes_and_answers_json(registry, tmp_path):
    registry.gate.set()
    environ = {**os.environ, "DS01_STATE_DIR": str(tmp_path), "DS01_DEVICES": "none"}
    listed = [registry.image.partition("/")[0]]  # an address of this machine is pulled from only where listed
    (tmp_path / "settings.json").write_text(json.dumps({"image_registries": listed}))
    file = tmp_path / "course.yaml"
    file.write_text(f"course: c\ntitle: C\nroster: g\nimage: {registry.image}\n")

    def ds01(*args):
        command = [sys.executable, "-c", "from ds01spawner.cli import main; main()", *args]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    ds01("course", "apply", str(file), "--by", "root")
    shown = ds01("course", "prepull", "c")
    assert "3 of 3 layers done" in shown
    assert "is on this machine" in shown
    assert json.loads(ds01("course", "prepull", "c", "--json"))["ok"] is True
