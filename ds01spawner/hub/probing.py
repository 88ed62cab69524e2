"""Whether a session answers, asked in a thread: that the hub's event loop is late is no fault of it."""

from __future__ import annotations

import asyncio
import http.client
import socket
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

CONNECT_S = 1.0
ANSWER_S = 5.0
CHECK_S = 0.5
AT_ONCE = 16
_threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="ds01-probe")


def threads() -> ThreadPoolExecutor:
    """The threads for it, of all spawners of a process."""
    return _threads


def answers(host: str, port: int, path: str) -> bool:
    """Whether something speaks HTTP there and is no gateway that waits for its server. Blocking."""
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_S)
    try:
        connection.sock = socket.create_connection((host, port), CONNECT_S)  # costs a tenth of a request
        connection.sock.settimeout(ANSWER_S)
        connection.request("GET", path, headers={"Accept": "application/json", "Connection": "close"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
    return status < 500 or status in (501, 503)  # what it says is the hub's to judge


async def until_it_answers(
    address: tuple[str, int],
    path: str,
    pause: Callable[[], Awaitable[None]],
    check: Callable[[], Awaitable[None]],
) -> None:
    """Return when a server answers at a path. ``check`` is called twice a second meanwhile, and may raise."""
    ip, port = address
    loop, looked = asyncio.get_running_loop(), time.monotonic()
    while not await loop.run_in_executor(threads(), answers, ip, int(port), path):
        if time.monotonic() - looked > CHECK_S:
            await check()
            looked = time.monotonic()
        await pause()
