"""An engine that cannot bound a layer after all starts the session without that bound."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import docker.errors
import pytest

from ds01spawner.core.errors import EngineError
from ds01spawner.core.installation import Installation
from ds01spawner.core.labels import SessionLabels
from ds01spawner.engines.base import ClaimRequest
from ds01spawner.engines.docker import launch
from ds01spawner.engines.docker.create import ContainerSpec

LABELS = SessionLabels("a", "", "p", "h", "s")
SPEC = ContainerSpec(LABELS, Installation("i" * 16, b"k" * 32), "sha256:0", 1, 1, "a", "/home/a", "/w")
SAID = "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"


class Engine:
    def __init__(self, refuses: str) -> None:
        self.asked: list[dict] = []
        self.refuses = refuses

    def create_container(self, **kwargs):
        self.asked.append(kwargs["host_config"].get("StorageOpt"))
        if self.asked[-1] or "storage-opt" not in self.refuses:
            error = docker.errors.APIError(
                "400", response=SimpleNamespace(status_code=400, reason="", url="")
            )
            error.explanation = self.refuses
            raise error
        return {"Id": "c1"}


REQUEST = ClaimRequest(lambda state, blocks: None, False, "n", "s", native={"host_config": {}, "name": "n"})


def adapter(engine, said: list[str]):
    return SimpleNamespace(client=engine, say_once=said.append)


def test_the_bound_is_left_out_and_that_is_said():
    engine, said = Engine(SAID), []
    assert launch._create(adapter(engine, said), REQUEST, replace(SPEC, layer=2**30)) == "c1"
    assert engine.asked == [{"size": str(2**30)}, None]
    assert SAID in said[0]


def test_any_other_failure_stays_one():
    engine = Engine("no space left")
    with pytest.raises(EngineError, match="no space left"):
        launch._create(adapter(engine, []), REQUEST, replace(SPEC, layer=2**30))
    assert len(engine.asked) == 1
