"""The service's REST API as one person calls it, on a real hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import docker
import httpx

from .running_hub import RunningHub

MAY_MAKE_TOKENS = 'c.JupyterHub.load_roles[0]["scopes"].append("tokens")\n'
"""For a hub's ``extra``: lets the tests make tokens for people."""


class ServiceApi:
    """A person with a token of their own."""

    def __init__(self, hub: RunningHub, user: str) -> None:
        self.hub, self.user = hub, user
        hub.http.post(f"/users/{user}")  # a person the hub has not seen yet has no tokens
        made = hub.http.post(f"/users/{user}/tokens", json={"note": "tests"})
        assert made.status_code == 201, made.text
        self.http = httpx.Client(
            base_url=f"{hub.url}services/ds01/api",
            headers={"Authorization": f"token {made.json()['token']}"},
            timeout=60,
        )

    def get(self, path: str) -> Any:
        """GET; the answer must be good."""
        answer = self.http.get(path)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    def post(self, path: str, body: Any = None, status: int = 200) -> Any:
        """POST; the answer must have that status."""
        answer = self.http.post(path, json=body or {})
        assert answer.status_code == status, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    def build(self, project: str, recipe: dict[str, Any], patience: float = 300) -> dict[str, Any]:
        """Build a recipe and wait for its end; returns the build with its log."""
        number = self.post("/builds", {"project": project, "recipe": recipe}, 202)["build"]
        return self.wait(number, patience)

    def wait(self, build: str, patience: float = 300) -> dict[str, Any]:
        """Wait until a build is over."""

        def over() -> bool:
            return self.get(f"/builds/{build}")["state"] in ("ready", "failed", "cancelled")

        self.hub.wait_for(over, patience, f"the build {build} to end")
        return dict(self.get(f"/builds/{build}"))


@contextmanager
def images_removed(engine: docker.DockerClient, *names: str) -> Iterator[None]:
    """Afterwards no image of these people (``ds01-<name>/``) or courses is on the engine."""
    yield
    heads = tuple(h for n in names for h in (f"ds01-{n}/", f"ds01-kept/{n}/", f"ds01-course/{n}:"))
    heads += tuple(f"ds01-kept/course/{n}:" for n in names)
    for image in engine.images.list():
        for tag in image.tags:
            if tag.startswith(heads):
                engine.images.remove(tag, force=True)
