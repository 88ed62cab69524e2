"""A hub on which one kind of words is wherever a real path leads: folders, images, REST, commands."""

from __future__ import annotations

import io
import json
import os
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

import docker

from ds01spawner.core import freetext
from ds01spawner.core.installation import load
from ds01spawner.core.names import folder_name
from ds01spawner.environments.naming import user_image
from ds01spawner.environments.ownership import sign

from .idle import command
from .running_hub import RunningHub
from .service_api import ServiceApi
from .words import KINDS


class Stage:
    """A hub on which one kind of words is everywhere that a real path leads to."""

    def __init__(self, hub: RunningHub, engine: docker.DockerClient, kind: str) -> None:
        self.hub, self.engine, self.kind, self.words = hub, engine, kind, KINDS[kind]
        self.course = f"course-{kind}"
        self.user, self.server = quote(self.words.user, safe=""), quote(self.words.server, safe="")
        self.student, self.admin = ServiceApi(hub, self.user), ServiceApi(hub, "admin")
        self.build = ""
        self.foreign: Any = None

    def address(self, template: str) -> str:
        """A page's address with this stage's names in it."""
        return template.format(
            user=self.user,
            server=self.server,
            project=self.words.project,
            build=self.build,
            course=self.course,
        )

    def set(self, busybox: str) -> None:
        """Put the words everywhere. Leaves every device that nobody holds drained."""
        words, soon = self.words, datetime.now(timezone.utc) + timedelta(days=3)
        self._image(busybox)
        self._foreign(busybox)
        self._session()
        for device in self.admin.get("/devices")["devices"]:
            if device["state"] == "free":
                command(self.hub, "drain", device["uuid"], "--reason", typed(words.reason))
        at = f"{soon:%Y-%m-%dT%H:%M}+00:00"
        command(self.hub, "maintenance", at, "--reason", typed(words.reason))
        self._requests(soon)
        self.admin.post("/reservations", self._reservation(soon), 201)
        self.student.post("/queue", {"server": "later", "options": self._options("1g.10gb")}, 202)
        course = {"course": self.course, "title": typed(words.title), "description": typed(words.description)}
        course |= {"roster": [typed(words.group)], "recipe": {"base": "lab", "pip": ["six"]}}
        self.admin.post("/courses", {"text": json.dumps(course, ensure_ascii=False)})
        self._build(busybox)

    def _options(self, gpu: str, environment: str = "lab") -> dict[str, str]:
        return {"project": self.words.project, "gpu": gpu, "environment": environment}

    def _image(self, busybox: str) -> None:
        labels = {
            "ds01.image.title": self.words.title,
            "ds01.image.description": self.words.description,
            "ds01.framework": self.words.reason.replace("\x00", ""),
        }
        tag = user_image(self.words.user, self.words.project)
        labels = sign(load(self.hub.state), labels, tag)
        self.engine.images.build(fileobj=_file(f"FROM {busybox}\n"), tag=tag, rm=True, labels=labels)

    def _foreign(self, busybox: str) -> None:
        """A container that another hub seems to have made; anybody at the engine may write such labels."""
        labels = {"managed": "true", "session": uuid.uuid4().hex, "user": self.words.user}
        labels |= {
            "server": self.words.folder,
            "project": self.words.folder,
            "environment": self.words.reason,
        }
        labels["hub"] = f"test-{os.getpid()}-{self.words.folder}"
        labels = {f"ds01.{k}": visible(v) for k, v in labels.items()}
        self.foreign = self.engine.containers.create(busybox, "true", labels=labels)

    def _session(self) -> None:
        path = f"/users/{self.user}/servers/{self.server}"
        options: Any = self._options("1g.10gb")
        body = options if self.hub.version < 6 else {"user_options": options}
        answer = self.hub.http.post(path, json=body)
        assert answer.status_code in (201, 202), answer.text
        self.hub.wait_for(lambda: self.model(self.words.server).get("ready"), 90, "the session to be ready")
        home = self.hub.workspaces / folder_name(self.words.user)
        for name in (self.words.folder, f".{self.words.folder}"[:80]):
            (home / name).mkdir()

    def _requests(self, soon: datetime) -> None:
        for wanted in ({"session.max": 9}, {"images.use": [visible(self.words.reason)]}):
            body = {"wanted": wanted, "reason": typed(self.words.reason), "until": soon.isoformat()}
            self.student.post("/requests", body, 201)
        first = self.student.get("/requests")["requests"][-1]["id"]
        denied = {"state": "denied", "answer": typed(self.words.reason)}
        self.admin.post(f"/requests/{first}/decision", denied)

    def _reservation(self, soon: datetime) -> dict[str, Any]:
        end = soon + timedelta(hours=2)
        return {
            "subject": f"group:{self.words.group}",
            "title": typed(self.words.title),
            "start": soon.isoformat(),
            "end": end.isoformat(),
            "profile": "1g.10gb",
            "count": 1,
        }

    def _build(self, busybox: str) -> None:
        project = self.hub.workspaces / folder_name(self.words.user) / self.words.project
        printed = self.words.printed
        (project / "printed.txt").write_text(printed)
        (project / "Dockerfile").write_text(
            f"FROM {busybox}\nCOPY printed.txt /\nRUN cat /printed.txt; exit 7\n"
        )
        recipe = {
            "title": typed(self.words.title),
            "description": typed(self.words.description),
            "dockerfile": "Dockerfile",
        }
        if not all(v.isprintable() for v in recipe.values()):
            recipe = {"dockerfile": "Dockerfile"}
        body = {"project": self.words.project, "recipe": recipe}
        self.build = self.student.post("/builds", body, 202)["build"]
        assert self.student.wait(self.build)["state"] == "failed"

    def model(self, server: str) -> dict[str, Any]:
        """A server's model, or an empty one."""
        return dict(self.hub.user(self.user)["servers"].get(server, {}))

    def start(self, environment: str) -> None:
        """Start the default server, and do not wait."""
        answer = self.hub.launch(self.user, self._options("none", environment))
        assert answer.status_code in (201, 202, 500, 503), answer.text

    def clear(self) -> None:
        """End what runs, and give the devices back."""
        if self.foreign is not None:
            self.foreign.remove(force=True)
        for server in list(self.hub.user(self.user)["servers"]):
            path = quote(server, safe="")
            self.hub.wait_for(lambda s=server: not self.model(s).get("pending"), 120, "the server to settle")
            if self.model(server).get("ready"):
                self.hub.http.delete(self.hub.server_path(self.user, path))
                self.hub.wait_for(lambda s=server: not self.model(s).get("ready"), 60, "its end")
        for device in self.admin.get("/devices")["devices"]:
            if device["state"] == "drained":
                command(self.hub, "undrain", device["uuid"])


def typed(text: str) -> str:
    """What a form, REST or a command takes: everything but what no reader can see."""
    return freetext.plain(text)


def visible(text: str) -> str:
    """What labels and the names of images can be: everything but NUL."""
    return text.replace("\x00", "")


def _file(text: str) -> Any:
    return io.BytesIO(text.encode())
