"""Notices, extensions, blocks, requests, builds and courses."""

import threading
from datetime import timedelta

import pytest

from ds01spawner.placement.devices import Block

H = timedelta(hours=1)


class TestNotices:
    def test_each_person_sees_and_dismisses_for_themselves(self, store, now):
        everybody = store.notices.add("*", "Maintenance on Friday", now)
        mine = store.notices.add("alice", "Idle", now + H, level="warning", kind="idle")
        assert [n.id for n in store.notices.of("alice", now + H)] == [mine, everybody]
        assert store.notices.dismiss(everybody, "alice", now + H) is True
        assert [n.id for n in store.notices.of("alice", now + H)] == [mine]
        assert [n.id for n in store.notices.of("bob", now + H)] == [everybody]
        assert [n.id for n in store.notices.of("alice", now, dismissed=True)] == [mine, everybody]

    def test_nobody_dismisses_what_is_not_theirs(self, store, now):
        mine = store.notices.add("alice", "Idle", now)
        assert store.notices.dismiss(mine, "mallory", now) is False
        assert store.notices.see(999, "alice", now) is False
        assert len(store.notices.of("alice", now)) == 1

    def test_the_first_sight_is_kept(self, store, now):
        mine = store.notices.add("alice", "Idle", now)
        store.notices.see(mine, "alice", now + H)
        store.notices.see(mine, "alice", now + 2 * H)
        assert store.notices.of("alice", now)[0].seen_at == now + H

    def test_a_keyed_notice_is_written_once_until_deleted(self, store, now):
        first = store.notices.add("alice", "Idle", now, key="warn:s1")
        assert store.notices.add("alice", "Idle again", now + H, key="warn:s1") == first
        assert store.notices.by_key("warn:s1").created_at == now
        store.notices.expire("warn:s1", now + H)
        assert store.notices.of("alice", now + H) == []
        store.notices.delete("warn:s1")
        store.notices.add("alice", "Idle", now + 2 * H, key="warn:s1")
        assert store.notices.by_key("warn:s1").created_at == now + 2 * H

    def test_an_expired_notice_is_gone(self, store, now):
        store.notices.add("alice", "x", now, expires_at=now + H)
        assert len(store.notices.of("alice", now)) == 1
        assert store.notices.of("alice", now + H) == []


class TestExtensions:
    def test_both_caps_bound_what_is_granted(self, store, now):
        grant = {"by": "alice", "source": "button", "cap_session": 7200, "cap_day": 9000, "day_start": now}
        assert store.extensions.grant("s1", "alice", now, 3600, **grant) == 3600
        assert store.extensions.grant("s1", "alice", now, 9999, **grant) == 3600
        assert store.extensions.grant("s1", "alice", now, 1, **grant) == 0
        assert store.extensions.grant("s2", "alice", now, 7200, **grant) == 1800
        assert (store.extensions.total("s1"), store.extensions.since("alice", now)) == (7200, 9000)
        assert [e.seconds for e in store.extensions.find(user="alice")] == [3600, 3600, 1800]

    def test_a_negative_wish_grants_nothing(self, store, now):
        assert store.extensions.grant("s1", "alice", now, -60, by="alice", source="cli") == 0
        assert store.extensions.find() == []

    def test_clicks_at_once_cannot_pass_the_cap(self, store, now):
        def click():
            store.extensions.grant("s1", "alice", now, 1000, by="alice", source="button", cap_session=2500)

        threads = [threading.Thread(target=click) for _ in range(8)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        assert store.extensions.total("s1") == 2500


class TestBlocks:
    def test_a_drain_from_begin_to_end(self, store, now):
        store.blocks.drain("GPU-1", "fan", "root", now)
        assert store.blocks.at(now) == {"GPU-1": Block("drained", "fan")}
        assert store.blocks.undrain("GPU-1", "root", now + H) is True
        assert store.blocks.undrain("GPU-1", "root", now + H) is False
        assert store.blocks.at(now + H) == {}
        assert [e.action for e in store.events.find(topic="device")] == ["drained", "undrained"]

    def test_a_drain_with_an_end_ends(self, store, now):
        store.blocks.drain("GPU-1", "fan", "root", now, until=now + H)
        assert store.blocks.at(now)["GPU-1"].until == "2026-03-02T13:00:00+00:00"
        assert store.blocks.at(now + H) == {}

    def test_holds_replace_and_release(self, store, now):
        store.blocks.hold("ticket:1", ["A", "B"], "held", now, now + H, ["ticket:1"])
        store.blocks.hold("ticket:1", ["C"], "held", now, now + H, ["ticket:1"])
        expected = Block("reserved", "held", "2026-03-02T13:00:00+00:00", frozenset({"ticket:1"}))
        assert store.blocks.at(now) == {"C": expected}
        assert store.blocks.release("ticket:1", now) == 1
        assert store.blocks.at(now) == {}

    @pytest.mark.parametrize("order", [("drain", "hold"), ("hold", "drain")])
    def test_a_drain_speaks_before_a_hold(self, store, now, order):
        for kind in order:
            if kind == "drain":
                store.blocks.drain("A", "fan", "root", now)
            else:
                store.blocks.hold("ticket:1", ["A"], "held", now, now + H, ["ticket:1"])
        assert store.blocks.at(now)["A"].state == "drained"
        assert store.blocks.at(now)["A"].exempt == frozenset()

    def test_maintenance_blocks_from_its_deadline_on_and_is_announced_before(self, store, now):
        number = store.blocks.add_maintenance(now + H, "new driver", "root", now, until=now + 3 * H)
        assert store.blocks.at(now, ["A"]) == {}
        assert [m.starts_at for m in store.blocks.maintenance(now)] == [now + H]
        assert set(store.blocks.at(now + H, ["A", "B"])) == {"*", "A", "B"}
        assert store.blocks.at(now + 3 * H, ["A"]) == {}
        assert store.blocks.end_maintenance(number, "root", now + 2 * H) is True
        assert store.blocks.end_maintenance(number, "root", now + 2 * H) is False
        assert store.blocks.at(now + 2 * H, ["A"]) == {}

    def test_the_third_failure_within_the_window_quarantines(self, store, now):
        def fail(at):
            return store.blocks.device_failed("A", "start failed", at, after=3, window=600, until=at + H)

        times = [now, now + timedelta(minutes=9), now + timedelta(minutes=11), now + timedelta(minutes=12)]
        assert [fail(at) for at in times] == [False, False, False, True]
        assert store.blocks.at(times[-1])["A"].state == "unready"
        assert store.blocks.at(times[-1] + H) == {}


class TestRequests:
    def test_approval_makes_an_override_that_ends(self, store, now):
        number = store.requests.add("alice", {"gpu.max_equivalents": 2}, "paper", now, until=now + 2 * H)
        assert store.requests.overrides(now) == []
        assert store.requests.decide(number, "approved", "root", now, wanted={"gpu.max_equivalents": 1.5})
        assert [o.wanted for o in store.requests.overrides(now, "alice")] == [{"gpu.max_equivalents": 1.5}]
        assert store.requests.overrides(now + 2 * H) == []
        assert store.requests.decide(number, "denied", "root", now) is False
        assert [e.action for e in store.events.find(topic="request")] == ["asked", "approved"]

    def test_an_unknown_answer_is_refused(self, store, now):
        with pytest.raises(ValueError, match="maybe"):
            store.requests.decide("x", "maybe", "root", now)


class TestCatalogue:
    def test_a_build_moves_only_from_the_expected_state(self, store, now):
        store.builds.put("b1", "alice", "mine/x", "queued", {"recipe": {"base": "debian"}}, now)
        assert store.builds.move("b1", "building", now, expected=["queued"], worker=1) is True
        assert store.builds.move("b1", "building", now, expected=["queued"]) is False
        assert store.builds.get("b1").data == {"recipe": {"base": "debian"}, "worker": 1}
        assert [b.id for b in store.builds.find(owner="alice", states=["building"])] == ["b1"]

    def test_after_a_restart_nothing_builds_for_ever(self, store, now):
        for name, state in (("b1", "building"), ("b2", "queued"), ("b3", "ready")):
            store.builds.put(name, "alice", "x", state, {}, now)
        assert store.builds.fail(["building"], "the service was restarted", now) == ["b1"]
        states = {b.id: b.state for b in store.builds.find()}
        assert states == {"b1": "failed", "b2": "queued", "b3": "ready"}

    def test_a_log_is_followed_and_trimmed(self, store, now):
        store.builds.put("b1", "alice", "x", "building", {}, now)
        assert store.builds.append_log("b1", ["one", "two"]) == 2
        assert store.builds.append_log("b1", ["three", "four", "five"]) == 5
        assert [r.text for r in store.builds.log("b1", after=3)] == ["four", "five"]
        assert store.builds.trim_log("b1", head=1, tail=1) == 3
        assert [r.text for r in store.builds.log("b1")] == ["one", "five"]
        store.builds.delete("b1")
        assert (store.builds.get("b1"), store.builds.log("b1")) == (None, [])

    def test_environments_and_courses(self, store, now):
        store.environments.put("mine/x", "alice", "mine", "ready", {"recipe": {}}, now)
        store.environments.put("mine/x", "alice", "mine", "ready", {"recipe": {"pip": ["six"]}}, now + H)
        assert store.environments.get("mine/x").data == {"recipe": {"pip": ["six"]}}
        assert store.environments.get("mine/x").created_at == now
        changed = store.environments.update("mine/x", now, lambda r: {"state": "stale", "data": r.data})
        assert changed.state == "stale"
        assert store.environments.update("none", now, lambda r: {}) is None
        assert store.environments.find(owner="bob") == []
        assert (store.environments.delete("mine/x"), store.environments.delete("mine/x")) == (True, False)
        store.courses.put("nlp", "prof", "open", {"title": "NLP"}, now)
        store.courses.add_publication("nlp", "sha256:1", "prof", now, note="first")
        store.courses.add_publication("nlp", "sha256:2", "prof", now + H)
        assert [p.image for p in store.courses.publications("nlp")] == ["sha256:2", "sha256:1"]
        assert [c.id for c in store.courses.find(states=["open"])] == ["nlp"]
