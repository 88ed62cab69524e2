"""While one person sends what is hostile, the service answers the others, and does not grow.

A second hub's service, to which nothing hostile is sent, is asked the same at the same moments: where the
machine itself is slow both are, so only what the one does slower counts.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.answering import MIB, memory, service_of, side_by_side
from support.running_hub import POLICY, RunningHub, running_hub
from support.service_api import MAY_MAKE_TOKENS, ServiceApi, images_removed

from ds01spawner.workspace.projects import Workspaces

pytestmark = [pytest.mark.hub, pytest.mark.timeout(600)]
UNIQUE = uuid.uuid4().hex[:6]
HOSTILE, OTHER = f"eve{UNIQUE}", f"nina{UNIQUE}"
AT_MOST_S = 1.0
SLOWER = 3
"""How many times slower than the idle service an answer may be, where that itself takes long."""
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
    asked: tuple[tuple[RunningHub, ServiceApi], ...]
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
        asked = tuple((hub, ServiceApi(hub, OTHER)) for hub in hubs)
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


INPUTS = (
    *(ignore_file, deep_recipes, numbers_and_aliases, pipes, nested_bodies, loud_python, large_lock),
    *(endless_line, many_builds, many_tags, many_places),
)


# Nightly: on two processors an image that is committed and a session that prints hundreds of megabytes made
# others wait for some seconds. Until that is mended this fails there, and says by how much.
@pytest.mark.nightly
@pytest.mark.parametrize("send", INPUTS, ids=lambda send: send.__name__)
def test_others_are_answered_within_a_second_and_the_service_does_not_grow(
    attacked: Attacked, send: Callable[[Attacked], None]
) -> None:
    with side_by_side(*attacked.asked) as (heard, idle):
        send(attacked)
    print(
        f"{send.__name__}: {len(heard.seconds)} answers, slowest {heard.slowest:.2f} s (idle service"
        f" {idle.slowest:.2f} s), {(heard.highest - attacked.began) / MIB:+.0f} MiB"
    )
    assert heard.bad == []
    assert heard.seconds
    assert heard.slowest <= max(AT_MOST_S, SLOWER * idle.slowest)
    assert heard.highest - attacked.began <= GROWS
