"""Reasons given on the command line are held to the rule of the pages."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from typer.testing import CliRunner

from ds01spawner.cli import build_app
from ds01spawner.store import Store

NOW = datetime.now(timezone.utc)


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    monkeypatch.setenv("DS01_STATE_DIR", str(tmp_path))
    (tmp_path / "policy.yaml").write_text("version: 1\n")
    monkeypatch.setenv("DS01_POLICY", str(tmp_path / "policy.yaml"))
    made = Store.open(f"sqlite:///{tmp_path}/ds01.sqlite")
    made.requests.add("alice", {"session.max": 3}, "many runs", NOW, NOW + timedelta(days=1))
    return made


@pytest.mark.parametrize("sign", ["\x1b[2J", "\u202e", "\u200b", "\x85"])
@pytest.mark.parametrize(
    "command",
    ["drain GPU-1 --reason", "maintenance 2h --reason", "retire alice --reason", "keep-alive alice --reason",
     "deny {request} --reason", "approve {request} --answer"],
)  # fmt: skip
def test_what_no_reader_sees_is_refused(store, command, sign):
    (request,) = store.requests.find(state="asked")
    words = command.format(request=request.id).split()
    done = CliRunner().invoke(build_app(), [*words, f"the fan{sign} is broken"])
    assert (done.exit_code, "rintable text" in done.output) == (1, True), done.output
    assert store.blocks.live(NOW) == store.blocks.maintenance(NOW) == []
    assert len(store.requests.find(state="asked")) == 1
