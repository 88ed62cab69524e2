"""What runs inside the two containers of the isolation probe, in the image's own Python. Standard library.

Never imported by us: its text is handed to ``python -I -c`` together with a plan in ``DS01_PROBE_PLAN``.
One container listens and says what it answers to; the other calls and says what answered.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

TRIED_S = 1.5


def own_v6() -> list[tuple[str, int]]:
    found = []
    try:
        with open("/proc/net/if_inet6") as file:
            for line in file:
                digits, index, _, _, _, name = line.split()
                if name != "lo":
                    groups = ":".join(digits[i : i + 4] for i in range(0, 32, 4))
                    found.append((groups, int(index, 16)))
    except OSError:
        pass
    return found


def target(host: str, port: int, scope: int) -> tuple[Any, Any]:
    if ":" not in host:
        return socket.AF_INET, (host, port)
    return socket.AF_INET6, (host, port, 0, scope if host.lower().startswith("fe80") else 0)


def answers(kind: str, host: str, port: int, word: bytes, scope: int) -> bool:
    family, address = target(host, port, scope)
    try:
        with socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM) as s:
            s.settimeout(TRIED_S)
            s.connect(address)
            if kind == "port":
                return True
            for _ in range(3 if kind == "udp" else 1):
                s.send(word)
                try:
                    return s.recv(64) == word
                except TimeoutError:
                    continue
    except OSError:
        pass
    return False


def serve(family: int, kind: int, port: int) -> None:
    s = socket.socket(family, kind)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))  # noqa: S104
    if kind == socket.SOCK_DGRAM:
        while True:
            data, back = s.recvfrom(64)
            s.sendto(data, back)
    s.listen(8)
    while True:
        connection, _ = s.accept()
        with connection:
            connection.settimeout(TRIED_S)
            with contextlib.suppress(OSError):
                connection.sendall(connection.recv(64))


def start(work: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=work, args=arguments, daemon=True).start()


def listen(plan: dict[str, Any], word: bytes) -> None:
    for family in (socket.AF_INET, socket.AF_INET6):
        for what in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            start(serve, family, what, plan["port"])
    time.sleep(0.2)
    v4 = socket.gethostbyname(socket.gethostname())
    rows = []
    for host, scope in [(v4, 0), *own_v6()]:
        for kind in ("tcp", "udp"):
            rows.append([kind, host, any(answers(kind, host, plan["port"], word, scope) for _ in range(5))])
    print(json.dumps({"listens": rows}), flush=True)
    time.sleep(plan["seconds"])


def call(plan: dict[str, Any], word: bytes) -> None:
    scope = next((index for _, index in own_v6()), 0)
    reached = [False] * len(plan["targets"])

    def one(number: int) -> None:
        kind, host, port = plan["targets"][number]
        reached[number] = answers(kind, host, port, word, scope)

    for first in range(0, len(reached), 32):
        threads = [
            threading.Thread(target=one, args=(n,)) for n in range(first, min(first + 32, len(reached)))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    print(json.dumps({"reached": reached}), flush=True)


def main() -> None:
    plan = json.loads(os.environ["DS01_PROBE_PLAN"])
    word = plan["word"].encode()
    (listen if plan["role"] == "listen" else call)(plan, word)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
