"""While one person sends what is hostile, the service answers the others, and does not grow.

A second hub's service, to which nothing hostile is sent, is asked at the same moments for pages that need no
container engine: they tell what the machine itself takes. Asked for the same pages it would wait for the same
engine, and hide what is looked for.
"""

from __future__ import annotations

import gzip
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from support.answering import MIB, memory, service_of, side_by_side
from support.running_hub import POLICY, RunningHub, running_hub
from support.service_api import MAY_MAKE_TOKENS, ServiceApi, images_removed

from ds01spawner.workspace.projects import Workspaces

pytestmark = [pytest.mark.hub, pytest.mark.timeout(600)]
UNIQUE = uuid.uuid4().hex[:6]
HOSTILE, OTHER = f"eve{UNIQUE}", f"nina{UNIQUE}"
AT_MOST_S = 1.0
QUIET_S = 0.1
"""Where an idle service answers within that, the machine is quiet, and the second is literal."""
SLOWER = 4
"""Elsewhere an answer may take that many times longer on top than the slowest of the idle service."""
ENOUGH = 12
"""Answers that have to fall into the attack; a short one is repeated."""
GROWS = 200 * MIB
LIMITS = POLICY.replace(
    "defaults:\n",
    "defaults:\n  images: {max: 10, builds: {queued: 5, parallel: 2, context: 50m, time: 5m}}\n"
    "  queue: {max_tickets: 2}\n",
)
SITE = "/opt/ds01/lib/python3*/site-packages"
LOUD = "import sys; [sys.stdout.write('x' * 2**20) for _ in range(200)]"
ENDED = ("ready", "failed", "cancelled")


@dataclass
class Attacked:
    """The hub that is attacked, with the one that is not; who attacks and who looks on."""

    hub: RunningHub
    hostile: ServiceApi
    asked: tuple[tuple[RunningHub, ServiceApi], tuple[RunningHub, ServiceApi]]
    began: int
    """Bytes of memory the service had at its start."""

    def project(self, name: str, files: dict[str, str | bytes]) -> Path:
        """A project of the attacker's with these files."""
        folder = Workspaces(self.hub.workspaces).prepare(HOSTILE, name).path
        for path, content in files.items():
            target = folder / path
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(content if isinstance(content, bytes) else content.encode())
            for each in (target, target.parent):
                os.chown(each, folder.stat().st_uid, folder.stat().st_gid)
        return folder

    def built(
        self, project: str, dockerfile: str, files: dict[str, str | bytes] | None = None
    ) -> dict[str, Any]:
        """Build a Dockerfile and wait for its end, whatever it is."""
        self.project(project, {"Dockerfile": dockerfile, **(files or {})})
        answer = self.hostile.http.post("/builds", json={"project": project})
        assert answer.status_code == 202, answer.text
        built = self.hostile.wait(answer.json()["build"], 240)
        print(project, built["state"], built["reason"][:200])
        return built

    def many(self, path: str, bodies: list[Any]) -> list[int]:
        """POST all of these at once."""
        with ThreadPoolExecutor(len(bodies)) as pool:
            return [a.status_code for a in pool.map(lambda b: self.hostile.http.post(path, json=b), bodies)]

    def quiet(self) -> None:
        """End every build that is left."""
        for build in self.hostile.get("/builds")["builds"]:
            if build["state"] not in ENDED:
                self.hostile.http.delete(f"/builds/{build['build']}")


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: Any, engine: Any, lab_image: str) -> Iterator[Attacked]:
    with ExitStack() as stack:
        stack.enter_context(images_removed(engine, HOSTILE, OTHER))
        hubs = [
            stack.enter_context(
                running_hub(
                    tmp_path_factory.mktemp("hub"),
                    f"test-{os.getpid()}-{UNIQUE}{i}",
                    lab_image,
                    arguments=", idle=False",
                    extra=MAY_MAKE_TOKENS,
                    policy=LIMITS,
                    users={HOSTILE, OTHER},
                )
            )
            for i in range(2)
        ]
        asked = ((hubs[0], ServiceApi(hubs[0], OTHER)), (hubs[1], ServiceApi(hubs[1], OTHER)))
        hostile = ServiceApi(hubs[0], HOSTILE)
        for _, person in asked:
            person.get("/environments")
        yield Attacked(hubs[0], hostile, asked, memory(service_of(hubs[0])))


def ignore_file(a: Attacked) -> None:
    built = a.built(
        "backtrack",
        "FROM ds01/test-busybox:latest\nCOPY . /x\nRUN false\n",
        {".dockerignore": "*a*a*a*a*a*a*a*b\n" * 50, "a" * 120: "x"},
    )
    assert "exit code 1" in built["reason"]


def deep_recipes(a: Attacked) -> None:
    for i in range(12):
        a.project(f"deep{i}", {"recipe.yaml": "base: " + "[" * 200_000})
    assert a.hostile.http.get("/projects").status_code == 200


def numbers_and_aliases(a: Attacked) -> None:
    bomb = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    a.project("aliases", {"recipe.yaml": bomb})
    a.project("base60", {"recipe.yaml": "base: " + ":".join(["59"] * 90_000)})
    a.project("digits", {"recipe.yaml": "base: " + "9" * 400_000})
    assert a.hostile.http.get("/projects").status_code == 200
    for name in ("aliases", "base60", "digits"):
        assert 400 <= a.hostile.http.post("/builds", json={"project": name}).status_code < 500


def pipes(a: Attacked) -> None:
    for i in range(4):
        folder = a.project(f"pipe{i}", {".git/config": ""})
        os.mkfifo(folder / ".git" / "HEAD", 0o666)
    assert a.hostile.http.get("/projects").status_code == 200
    a.built("pipe0", "FROM ds01/test-busybox:latest\nRUN false\n")


def nested_bodies(a: Attacked) -> None:
    for path in ("/queue", "/builds", "/projects", "/courses", "/reservations"):
        for text in ("[" * 500_000, '{"options":' * 100_000, '{"a":"' + "\\ud800" * 100_000 + '"}'):
            answer = a.hostile.http.post(path, content=text)
            assert 400 <= answer.status_code < 500, f"{path}: {answer.status_code}"


def loud_python(a: Attacked) -> None:
    step = f"""RUN for d in {SITE}; do echo "{LOUD}" > $d/loud.pth; done"""
    a.built("loud", f"FROM ds01/lab:latest\n{step}\n")


def large_lock(a: Attacked) -> None:
    line = "head -c 400000000 /dev/zero | tr '\\0' x"
    step = f"""RUN (echo -n '{{"pip": ["'; {line}; echo '"]}}') > /opt/ds01/lock.json"""
    a.built("lock", f"FROM ds01/lab:latest\nUSER root\n{step}\n")


def endless_line(a: Attacked) -> None:
    built = a.built(
        "line", "FROM ds01/test-busybox:latest\nRUN head -c 100000000 /dev/zero | tr '\\0' x; false\n"
    )
    assert "exit code 1" in built["reason"]
    assert len(str(built["lines"])) < MIB


def many_builds(a: Attacked) -> None:
    answers = a.many("/builds", [{"project": f"b{i}", "recipe": {"pip": ["six"]}} for i in range(30)])
    assert sum(code == 202 for code in answers) <= 5
    assert max(answers) < 500
    a.quiet()


def many_tags(a: Attacked) -> None:
    reference = f"ds01-{HOSTILE}/lock:latest"
    answers = a.many(f"/environments/{reference}/tag", [{"tag": f"t{i}"} for i in range(25)])
    assert sum(code < 300 for code in answers) < 10
    assert max(answers) < 500


def many_places(a: Attacked) -> None:
    options = {"project": "thesis", "gpu": "1g.10gb"}
    answers = a.many("/queue", [{"server": f"s{i}", "options": options} for i in range(16)])
    assert sum(code < 300 for code in answers) <= 2
    assert max(answers) < 500


def many_projects(a: Attacked) -> None:
    answers = a.many("/projects", [{"name": f"p{i}"} for i in range(40)])
    assert max(answers) < 500


def long_ignore_file(a: Attacked) -> None:
    lines = "".join(f"**/a*{i}*/**/b?[a-z]*\n" for i in range(60_000))
    files: dict[str, str | bytes] = {f"f{i}": "x" for i in range(300)}
    a.built(
        "ignores", "FROM ds01/test-busybox:latest\nCOPY . /x\nRUN false\n", {".dockerignore": lines, **files}
    )


def unpacked_bomb(a: Attacked) -> None:
    """A megabyte that becomes gigabytes where it is unpacked."""
    packed = gzip.compress(b"\0" * 2**28)
    assert len(packed) < MIB
    a.built("bomb", "FROM ds01/test-busybox:latest\nADD b.tar.gz /x\nRUN false\n", {"b.tar.gz": packed * 4})


def large_bodies(a: Attacked) -> None:
    body = b'{"a": "' + b"x" * 2**20 * 3 + b'"}'
    for path in ("/queue", "/builds", "/projects", "/courses"):
        with suppress(httpx.TransportError):  # it may be cut off before all of it is sent
            # 503 is the proxy's, when the service hangs up in the middle of it.
            assert a.hostile.http.post(path, content=body).status_code in (400, 413, 503)


def slow_bodies(a: Attacked) -> None:
    """Many connections that begin a request and never end it."""
    where = urlsplit(a.hub.url)
    token = a.hostile.http.headers["Authorization"]
    head = f"POST {where.path}services/ds01/api/queue HTTP/1.1\r\nHost: {where.netloc}\r\n"
    head += f"Authorization: {token}\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"
    with ExitStack() as stack:
        lines = [
            stack.enter_context(socket.create_connection((where.hostname, where.port), 10))
            for _ in range(200)
        ]
        for _ in range(10):
            for line in lines:
                with suppress(OSError):  # it may be closed on us
                    line.sendall(head.encode() if head else b"[")
            head = ""
            time.sleep(0.1)


def many_requests(a: Attacked) -> None:
    paths = ("/environments", "/projects", "/availability", "/sessions", "/usage") * 40
    with ThreadPoolExecutor(40) as pool:
        codes = list(pool.map(lambda path: a.hostile.http.get(path).status_code, paths))
    assert max(codes) < 500


def odd_addresses(a: Attacked) -> None:
    for path in ("queue?ticket=%0d%0aSet-Cookie:%20a=b", "builds/%2e%2e/x", "fragments/build/" + "9" * 4000):
        answer = a.hostile.http.get(f"{a.hub.url}services/ds01/{path}")
        assert answer.status_code < 500, path
        assert "a" not in answer.cookies
    answers = a.many(
        "/queue", [{"server": "x" * i * 50, "options": {"gpu": "1g.10gb"}} for i in range(1, 30)]
    )
    assert max(answers) < 500


def forged_labels(a: Attacked) -> None:
    """A step that says it is a session with a device, for a while."""
    label = "LABEL ds01.managed=true ds01.session=x ds01.user=nina ds01.gpu.uuids=MIG-1"
    a.built("forged", f"FROM ds01/test-busybox:latest\n{label}\nRUN sleep 5; false\n")


def large_layer(a: Attacked) -> None:
    a.built(
        "layer",
        "FROM ds01/test-busybox:latest\nRUN head -c 600000000 /dev/zero > /tmp/x\nRUN sleep 1; false\n",
    )


INPUTS = (
    *(ignore_file, long_ignore_file, deep_recipes, numbers_and_aliases, pipes, nested_bodies, large_bodies),
    *(slow_bodies, odd_addresses, many_requests, loud_python, large_lock, large_layer, endless_line),
    *(unpacked_bomb, forged_labels, many_builds, many_projects, many_tags, many_places),
)
"""All that once kept others waiting, filled the memory or was refused by a fault, and the like of it."""


@pytest.mark.parametrize("send", INPUTS, ids=lambda send: send.__name__)
def test_others_are_answered_within_a_second_and_the_service_does_not_grow(
    attacked: Attacked, send: Callable[[Attacked], None]
) -> None:
    with side_by_side(*attacked.asked) as (heard, idle):
        send(attacked)
        while len(heard.seconds) < ENOUGH:
            send(attacked)
    allowed = AT_MOST_S if idle.slowest <= QUIET_S else AT_MOST_S + SLOWER * idle.slowest
    print(
        f"{send.__name__}: {len(heard.seconds)} answers, slowest {heard.slowest:.2f} s ({heard.slow}) of"
        f" {allowed:.2f} s (idle service {idle.slowest:.2f} s),"
        f" {(heard.highest - attacked.began) / MIB:+.0f} MiB"
    )
    assert heard.bad == []
    assert heard.slowest <= allowed
    assert heard.highest - attacked.began <= GROWS
