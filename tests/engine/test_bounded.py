"""Whatever a container prints or holds, a bounded part of it is read, in bounded time."""

import subprocess
import sys
import textwrap
import time
import uuid

import docker
import pytest

from ds01spawner.engines.docker import bounded

BUSYBOX = "ds01/test-busybox:latest"
MIB = 2**20


@pytest.fixture
def client(engine):
    return engine.api


@pytest.fixture
def container(engine, hub_id):
    """Starts busybox with a command; gone after the test."""
    made = []

    def start(command):
        made.append(
            engine.containers.run(
                BUSYBOX, ["sh", "-c", command], detach=True, network_mode="none", mem_limit="256m",
                labels={"ds01.hub": hub_id}, name=f"ds01-bounded-{uuid.uuid4().hex[:8]}",
            )
        )  # fmt: skip
        return made[-1]

    yield start
    for each in made:
        each.remove(force=True)


def run_exec(client, container, command, limit, seconds):
    made = client.exec_create(container.id, ["sh", "-c", command])
    return bounded.exec_output(client, made["Id"], limit, seconds)


def test_an_exec_is_read_whole_or_left(client, container):
    box = container("sleep 600")
    assert run_exec(client, box, "echo one; echo two >&2", 100, 60) in (b"one\ntwo\n", b"two\none\n")
    assert len(run_exec(client, box, "head -c 200000 /dev/zero", 200_000, 60)) == 200_000
    begun = time.monotonic()
    with pytest.raises(bounded.TooMuch):
        run_exec(client, box, "cat /dev/zero", MIB, 60)
    with pytest.raises(bounded.TooLong):
        run_exec(client, box, "sleep 600", MIB, 1)
    with pytest.raises(bounded.TooLong):
        run_exec(client, box, "while true; do echo x; sleep 0.1; done", MIB, 2)
    assert time.monotonic() - begun < 50


def test_the_end_of_a_log(client, container):
    box = container("head -c 30000000 /dev/zero | tr '\\0' a; echo; echo last")
    box.wait(timeout=60)
    tail = bounded.log_tail(client, box.id, 1000)
    assert len(tail) == 1000
    assert tail.endswith(b"a\nlast\n")
    assert bounded.log_tail(client, box.id, 1000, tail=1) == b"last\n"
    assert bounded.log_tail(client, box.id, 1000, stdout=False) == b""


def test_files_of_a_container(client, container):
    box = container(
        "echo hello > /small; mkdir /folder; echo x > /folder/x; ln -s /small /link; mkfifo /pipe;"
        "dd if=/dev/zero of=/sparse bs=1 count=1 seek=900G 2>/dev/null; head -c 3000000 /dev/zero > /folder/y"
    )
    box.wait(timeout=60)
    assert bounded.small_file(client, box.id, "/small", 100) == b"hello\n"
    assert bounded.small_file(client, box.id, "/none", 100) is None
    assert bounded.small_file(client, box.id, "/folder", 100) is None
    assert bounded.small_file(client, box.id, "/link", 100) is None
    assert bounded.small_file(client, box.id, "/pipe", 100) is None
    with pytest.raises(bounded.TooMuch):
        bounded.small_file(client, box.id, "/small", 5)
    begun = time.monotonic()
    with pytest.raises(bounded.TooMuch):
        bounded.small_file(client, box.id, "/sparse", MIB)
    with pytest.raises(bounded.TooMuch), bounded.archive(client, box.id, "/folder", MIB) as tar:
        for _ in tar:
            pass
    assert time.monotonic() - begun < 50
    with pytest.raises(docker.errors.NotFound), bounded.archive(client, box.id, "/none", MIB):
        pass


READS = """
    import resource, sys, docker
    from ds01spawner.engines.docker import bounded, account
    from ds01spawner.engines.docker import snapshot
    from ds01spawner.engines.docker import image_probe as probe
    from ds01spawner.engines.docker.image_store import Images
    from ds01spawner.core.errors import EngineError
    import docker.errors
    box = sys.argv[1]
    images, client = Images(), docker.APIClient(version="auto", timeout=60)
    begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = 0
    for call in (
        lambda: bounded.log_tail(client, box, 2**20, seconds=60),
        lambda: snapshot.session_packages(images, box, 60),
        lambda: bounded.small_file(client, box, "/sparse", 2**20),
        lambda: account._read(client, box, "/sparse"),
        lambda: bounded.exec_output(client, client.exec_create(box, ["cat", "/sparse"])["Id"], 2**20, 60),
    ):
        try:
            call()
        except (EngineError, docker.errors.APIError):
            refused += 1
    print(refused, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begun) // 1024)
"""


def test_memory_stays_where_it_was(container):
    """300 MB printed, a file of 900 GB, a Python that prints without end: the reader grows by little."""
    box = container(
        "head -c 300000000 /dev/zero; mkdir -p /opt/ds01/layer; echo /bin/spew > /opt/ds01/layer/user_python;"
        "printf '#!/bin/sh\\ncat /dev/zero\\n' > /bin/spew; chmod +x /bin/spew;"
        "dd if=/dev/zero of=/sparse bs=1 count=1 seek=900G 2>/dev/null; touch /done; sleep 600"
    )
    deadline = time.monotonic() + 120
    while box.exec_run(["test", "-e", "/done"]).exit_code:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(READS), box.id], capture_output=True, text=True, timeout=500
    )
    assert done.stdout, done.stderr[-2000:]
    refused, grown = map(int, done.stdout.split())
    assert refused == 3  # the packages, the file, the exec; a log's end and an account's file are just cut
    assert grown < 100
