"""Few connections to the engine, however many sessions have come and gone."""

from __future__ import annotations

import asyncio
import gc
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.engine_socket import engine_socket

from ds01spawner.engines.docker import connections
from ds01spawner.engines.docker.client import DockerEngine
from ds01spawner.engines.docker.connections import MOST_KEPT, connect

SOCKET = str(engine_socket())


def descriptors(pid="self"):
    return len(os.listdir(f"/proc/{pid}/fd"))


def rss():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def engines_connections():
    """Connections that end at the engine's socket, of every process."""
    lines = Path("/proc/net/unix").read_text().splitlines()
    return sum(line.endswith(SOCKET) and line.split()[5] == "03" for line in lines)


async def cycle(engine, image, hub_id, number):
    made = await engine.call(
        "create_container",
        image,
        ["httpd", "-f", "-p", "8888"],
        labels={"ds01.hub": hub_id},
        key=f"{hub_id}-{number}",
    )
    key = f"{hub_id}-{number}"
    await engine.call("start", made["Id"], key=key)
    for _ in range(3):
        await asyncio.gather(*(engine.call("inspect_container", made["Id"]) for _ in range(4)))
    await engine.call("logs", made["Id"], tail=5)
    await asyncio.to_thread(lambda: engine.quick.inspect_container(made["Id"]))
    await engine.call("stop", made["Id"], timeout=0, key=key)
    await engine.call("remove_container", made["Id"], force=True, v=True, key=key)


async def cycles(count, image, hub_id, at_once=4):
    engine = DockerEngine()
    await engine.ready()
    gc.collect()
    before, memory = descriptors(), 0
    most = 0
    for start in range(0, count, at_once):
        await asyncio.gather(*(cycle(engine, image, hub_id, n) for n in range(start, start + at_once)))
        most = max(most, descriptors() - before)
        if start <= count // 5 < start + at_once:
            gc.collect()
            memory = rss()
    gc.collect()
    return before, most, memory, rss()


async def test_a_hundred_sessions_leave_a_few_connections(engine, busybox_image, hub_id):
    _, most, _, _ = await cycles(100, busybox_image, hub_id)
    assert most <= 40
    assert connections.kept(SOCKET) <= MOST_KEPT


@pytest.mark.nightly
async def test_five_hundred_sessions_cost_no_descriptors_and_no_memory(engine, busybox_image, hub_id):
    before = engines_connections()
    _, most, early, late = await cycles(500, busybox_image, hub_id)
    more = engines_connections() - before
    print(f"descriptors +{most}, engine +{more}, memory {early >> 20} → {late >> 20} MiB")
    assert most <= 64
    assert late <= early * 1.1
    assert more <= 64


def test_all_threads_and_clients_share_them(engine, busybox_image, hub_id):
    names = [
        engine.containers.create(busybox_image, labels={"ds01.hub": hub_id}, name=f"{hub_id}-c{n}").id
        for n in range(6)
    ]
    before = descriptors()
    clients = [connect(timeout=20) for _ in range(20)]

    def look(number):
        return clients[number % 20].inspect_container(names[number % 6])["Id"]

    try:
        with ThreadPoolExecutor(12) as pool:
            assert list(pool.map(look, range(240))) == [names[n % 6] for n in range(240)]
        assert descriptors() - before <= MOST_KEPT + 2
        clients[0].close()
        assert look(1) == names[1]
    finally:
        for name in names:
            engine.api.remove_container(name, force=True)


async def test_none_is_kept_while_nobody_asks(engine, monkeypatch):
    monkeypatch.setattr(connections, "IDLE_S", 0.2)
    client = connect()
    for _ in range(3):
        client.ping()
    for _ in range(600):
        if connections.kept(SOCKET) == 0:
            break
        await asyncio.sleep(0.05)
    assert connections.kept(SOCKET) == 0
    assert client.ping()


def test_a_connection_that_the_engine_closed_is_made_anew(engine):
    client = connect()
    client.ping()
    pool = connections._SharedAdapter._pools[SOCKET]
    for conn in list(pool.pool.queue):
        if conn is not None and conn.sock is not None:
            conn.sock.shutdown(2)
    assert client.ping()
