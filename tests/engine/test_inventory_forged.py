"""An image that lies about its layer, its packages and its lock is read from outside, in little memory."""

import subprocess
import sys
import textwrap
import uuid

import pytest

from ds01spawner.engines.docker.image_store import Images
from ds01spawner.engines.docker.runstep import Sandbox
from ds01spawner.environments import inventory
from ds01spawner.environments.builder.dockerscan import read
from ds01spawner.environments.builder.sitebuild import hub_version
from ds01spawner.environments.builder.stepwise import StepwiseBuild
from ds01spawner.environments.facts import LAYER_LABEL
from ds01spawner.environments.layer import revision
from ds01spawner.workspace.projectfiles import pack_files

LAB = "ds01/lab:latest"
BUSYBOX = "ds01/test-busybox:latest"
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def images():
    images = Images()
    yield images
    images.close()


@pytest.fixture
def make(images):
    def make(text):
        build = StepwiseBuild(
            images, uuid.uuid4().hex[:8], Sandbox(network="none"), 500, lambda _: None, scope=uuid.uuid4().hex
        )
        context = pack_files({})
        with context.file:
            return images.inspect(build.run(read(text), context))

    return make


def test_the_layer_is_known_by_its_files(images, make):
    lab = images.inspect(LAB)
    if lab.labels.get(LAYER_LABEL) != revision(hub_version()):
        pytest.skip("the lab image here has another layer")
    assert inventory.has_layer(images, lab, hub_version())
    assert inventory.has_layer(images, make(f"FROM {LAB}\nRUN touch /mine\n"), hub_version())
    for change in (
        "echo 'print(1)' > /opt/ds01/layer/finish.py",
        "rm /opt/ds01/layer/open.py",
        "mv /opt/ds01/layer /opt/l && ln -s /opt/l /opt/ds01/layer",
        "ln -sf /tmp/x /opt/ds01/layer/kernel.py",
        "chown 1000 /opt/ds01/layer/finish.py",
        "chmod 666 /opt/ds01/layer/finish.py",
        "truncate -s 20M /opt/ds01/layer/finish.py",
    ):
        changed = make(f"FROM {LAB}\nUSER root\nRUN {change}\n")
        assert changed.labels.get(LAYER_LABEL)
        assert not inventory.has_layer(images, changed, hub_version()), change
    label = f'LABEL {LAYER_LABEL}="{revision(hub_version())}"'
    build = make(f"FROM {BUSYBOX}\nRUN mkdir -p /opt/ds01/layer\n")
    assert not inventory.has_layer(images, build, hub_version())
    assert label


def test_packages_are_read_from_files(images, make):
    lock = inventory.lock_of(images, images.inspect(LAB).id)
    assert lock["python"].startswith("3.")
    assert any(item.startswith("jupyterhub==") for item in lock["layer"] + lock["pip"])
    assert any(item.startswith("libc6=") for item in lock["apt"])
    folder = "/opt/venv/lib/python3.11/site-packages"
    made = make(f"""FROM {BUSYBOX}
RUN mkdir -p {folder}/good-1.dist-info {folder}/evil-1.dist-info /opt/ds01/layer /var/lib/dpkg
RUN printf 'Name: good\\nVersion: 1\\n' > {folder}/good-1.dist-info/METADATA
RUN printf 'Name: -r x\\nVersion: 1\\n' > {folder}/evil-1.dist-info/METADATA
RUN mkfifo {folder}/pipe.egg-info && ln -s /etc/passwd {folder}/link.egg-info
RUN echo /opt/venv/bin/python3 > /opt/ds01/layer/user_python && echo 'version = 3.11.2' > /opt/ds01/pyvenv.cfg
RUN echo '{{"pip": ["forged==1"], "python": "9"}}' > /opt/ds01/lock.json
""")
    assert inventory.lock_of(images, made.id) == {
        "python": "3.11.2", "pip": ["good==1"], "layer": [], "apt": [],
    }  # fmt: skip
    assert inventory.packages(images, made.id) == {"good": "1"}
    assert inventory.lock_of(images, images.inspect(BUSYBOX).id)["pip"] == []


READ = """
    import resource, sys
    from ds01spawner.environments import inventory
    from ds01spawner.engines.docker.image_store import Images
    images = Images()
    images.inspect(sys.argv[1])
    begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    inventory.lock_of(images, sys.argv[1])
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begun) // 1024)
"""


def test_memory_stays_where_it_was(make):
    """A lock of 400 MB, huge descriptions, twenty thousand files: nothing of it is kept."""
    folder = "/opt/venv/lib/python3.11/site-packages"
    made = make(f"""FROM {BUSYBOX}
RUN mkdir -p {folder}/big.dist-info /opt/ds01/layer /var/lib/dpkg
RUN head -c 400000000 /dev/zero > /opt/ds01/lock.json
RUN head -c 200000000 /dev/zero > {folder}/big.dist-info/METADATA
RUN head -c 200000000 /dev/zero > /var/lib/dpkg/status
RUN i=0; while [ $i -lt 20000 ]; do : > {folder}/f$i; i=$((i+1)); done
RUN echo /opt/venv/bin/python3 > /opt/ds01/layer/user_python && echo 'version = 3.11.2' > /opt/ds01/pyvenv.cfg
""")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(READ), made.id], capture_output=True, text=True, timeout=500
    )
    assert done.stdout, done.stderr[-2000:]
    assert int(done.stdout) < 100
