"""Each line of the log is valid against its shipped schema and is published once it is there."""

import io
import json
import logging

import pytest

from ds01spawner.store.events import TOPICS, EventStream, as_json, check, schema

SAMPLE = {"string": "x", "integer": 3, "number": 1.5, "array": ["a"], "object": {"k": 1}}


@pytest.fixture
def published():
    from jupyter_events import EventLogger

    out = io.StringIO()
    return EventLogger(handlers=[logging.StreamHandler(out)]), out


def full_event(topic):
    properties = schema(topic)["properties"]
    fields = {k: v for k, v in properties.items() if k not in ("id", "at", "action", "user")}
    return {name: SAMPLE[spec["type"]] for name, spec in fields.items()}


def test_every_action_of_every_topic_passes_jupyter_events(store, now, published):
    logger, out = published
    for topic in TOPICS:
        for action in schema(topic)["properties"]["action"]["enum"]:
            store.events.add(now, topic, action, user="alice", **full_event(topic))
    written = len(store.events.find())
    assert EventStream(store.events, store.facts, logger).publish(now) == written
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert len(lines) == written
    assert lines[0]["__schema__"] == "https://ds01spawner.github.io/events/session/v1"
    assert (lines[0]["action"], lines[0]["user"], lines[0]["id"]) == ("started", "alice", 1)


def test_a_restarted_publisher_goes_on_where_it_was(store, now, published):
    logger, out = published
    store.events.add(now, "site", "started")
    EventStream(store.events, store.facts, logger).publish(now)
    store.events.add(now, "site", "policy-loaded", path="/etc/policy.yaml")
    again = EventStream(store.events, store.facts, logger)
    assert (again.publish(now), again.publish(now)) == (1, 0)
    assert [json.loads(line)["action"] for line in out.getvalue().splitlines()] == [
        "started",
        "policy-loaded",
    ]


@pytest.mark.parametrize(
    ("topic", "action", "fields", "why"),
    [
        ("nothing", "started", (), "no such event topic"),
        ("session", "exploded", (), "has no action"),
        ("session", "started", ("colour",), "has no field colour"),
    ],
)
def test_an_event_the_schema_does_not_know_is_refused(topic, action, fields, why):
    with pytest.raises(ValueError, match=why):
        check(topic, action, fields)


def test_following(store, now):
    first = store.events.add(now, "site", "started")
    store.events.add(now, "device", "lost", device="GPU-1")
    assert [e.action for e in store.events.find(first)] == ["lost"]
    assert [e.action for e in store.events.find(topic="site")] == ["started"]
    assert [e.action for e in store.events.find(limit=1, latest=True)] == ["lost"]
    assert as_json(store.events.find(first)[0]) == {
        "id": first + 1,
        "at": "2026-03-02T12:00:00.000+00:00",
        "action": "lost",
        "device": "GPU-1",
    }
