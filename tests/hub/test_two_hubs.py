"""Two real hubs on one engine: neither takes, shows or ends what is the other's."""

from __future__ import annotations

import pytest
from support.idle import command
from support.running_hub import running_hub

OPTIONS = {"project": "p", "gpu": "none"}


def runs(engine, hub, user):
    return engine.containers.get(f"{hub.hub_id}--{user}").status == "running"


def test_a_second_hub_with_the_same_id_takes_no_session_over(tmp_path, engine, lab_image, hub_id):
    """It answered 201 with the first one's container, and its Retire ended the first one's session."""
    with running_hub(tmp_path / "a", hub_id, lab_image) as first:
        first.start_session("alice", OPTIONS)
        one = engine.containers.get(f"{hub_id}--alice").id
        with running_hub(tmp_path / "b", hub_id, lab_image) as second:
            mine = second.launch("alice", OPTIONS)
            assert mine.status_code in (409, 503), mine.text
            other = second.launch("bob", OPTIONS)
            assert other.status_code == 503, other.text
            assert "Another installation uses this hub's id" in other.text
            assert f"container {hub_id}--alice" in other.text
            assert second.http.delete(second.server_path("alice")).status_code in (204, 400, 404)
            assert not second.server("alice").get("ready")
        assert engine.containers.get(f"{hub_id}--alice").id == one
        assert runs(engine, first, "alice")
        assert first.server("alice")["ready"]
        first.retire("alice")


def test_hubs_with_their_own_ids_leave_each_other_alone(tmp_path, engine, lab_image, hub_id):
    with (
        running_hub(tmp_path / "a", f"{hub_id}a", lab_image) as first,
        running_hub(tmp_path / "b", f"{hub_id}b", lab_image) as second,
    ):
        first.start_session("alice", OPTIONS)
        with pytest.raises(AssertionError, match=r"of another installation \(hub"):
            command(second, "retire", "alice", "--reason", "test")
        assert runs(engine, first, "alice")
        second.start_session("alice", OPTIONS)
        command(second, "retire", "alice", "--reason", "test")
        second.wait_for(lambda: not second.server("alice").get("ready"), 60, "the hub to notice")
        assert runs(engine, first, "alice")
        assert first.server("alice")["ready"]
        first.retire("alice")
