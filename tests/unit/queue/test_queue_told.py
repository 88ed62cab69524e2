"""People are told what became of their place: on the pages, by a webhook, by mail. Both servers are real."""

from pathlib import Path

import pytest
from support.smtp import Relay
from support.webhook import Webhook

from ds01spawner.core.hub_client import HubError
from ds01spawner.notify.mail import channel_for
from ds01spawner.policy.load import parse_policy
from ds01spawner.policy.resolve import Person
from ds01spawner.queue import joining

DAY = 24 * 3600


@pytest.fixture
def hook():
    with Webhook() as server:
        yield server


@pytest.fixture
def relay():
    with Relay() as server:
        yield server


@pytest.fixture
def told(world, hook, relay):
    """A world whose people are told by both ways; gives what came by each."""
    world.channels = (channel_for(hook.address), channel_for(relay.address))
    world.restart()

    async def come():
        await world.announcer.settled()
        mails = [(m["To"], m["Subject"], m.get_content().strip()) for _, _, m in relay.received]
        return [(n["kind"], n["user"], n["text"]) for n in hook.received], mails

    return come


async def test_a_session_that_has_started(world, told, hook):
    ticket = world.join("ann", project="thesis")
    await world.tick()
    text = "Your session on thesis has started from the queue: https://hub.example.org/user/ann/"
    calls, mails = await told()
    assert calls == [("started", "ann", text)]
    assert mails == [("ann@example.org", "Your session has started (thesis)", text)]
    assert world.store.notices.of("ann", world.clock())[0].text == text
    document = hook.received[0]
    assert (document["key"], document["cause"], document["project"]) == (
        f"ticket:{ticket}:started",
        "queue",
        "thesis",
    )


async def test_a_place_that_is_over(world, told):
    world.site.held = {f"M{i}": ("x", "") for i in range(6)}
    world.join("ann")
    await world.tick(seconds=DAY + 5)
    await world.tick(times=2)
    text = "Your place in the queue for 1g.10gb is over: it waited as long as the policy lets a place wait."
    calls, mails = await told()
    assert calls == [("expired", "ann", text)]
    assert mails == [("ann@example.org", "Your place in the queue is over (default)", text)]
    (notice,) = world.store.notices.of("ann", world.clock())
    assert (notice.text, notice.level) == (text, "warning")


async def test_a_start_that_the_hub_refuses_for_good(world, told):
    world.hub.answer["ann"] = HubError(403, "The environment is not one of yours.")
    world.join("ann")
    await world.tick(times=6, seconds=20)
    text = "Your session from the queue could not be started: The environment is not one of yours."
    calls, mails = await told()
    assert calls == [("failed", "ann", text)]
    assert mails == [("ann@example.org", "Your session could not be started (default)", text)]


POLICY = "version: 1\ndefaults:\n  gpu: {max_equivalents: 1.0, profiles: [%s]}\n"


async def test_what_the_rules_refuse_by_now_is_told_once_and_the_place_stays(world, told, monkeypatch):
    for profiles, state in (("2g.20gb", "waiting"), ("1g.10gb", "started")):
        policy = parse_policy(POLICY % profiles, Path("policy.yaml"))
        monkeypatch.setattr(world.site.policy, "current", lambda policy=policy: policy)
        if state == "waiting":
            ticket = world.join("ann")
        await world.tick(times=2)
        await told()
        world.restart()  # what an earlier process told is not told again
        await world.tick(times=2)
        assert world.state(ticket) == state
    calls, mails = await told()
    assert [(kind, user) for kind, user, _ in calls] == [("refused", "ann"), ("started", "ann")]
    assert calls[0][2].startswith("Your place in the queue cannot become a session as things are. ")
    assert [subject for _, subject, _ in mails] == [
        "Your place in the queue cannot become a session (default)",
        "Your session has started (default)",
    ]


async def test_waiting_for_the_own_quota_is_no_message(world, told):
    for i in range(5):
        world.site.held[f"M{i}"] = ("ann", f"s{i}")
    world.join("ann", server="more")
    await world.tick(times=2)
    assert await told() == ([], [])


async def test_a_place_an_admin_took_is_told_on_the_pages(world):
    ticket = world.join("ann")
    joining.cancel(world.store, ticket, Person("root", admin=True), world.clock())
    (notice,) = world.store.notices.of("ann", world.clock())
    assert notice.text == "Your place in the queue for 1g.10gb was taken out by root."
    joining.cancel(world.store, world.join("ben"), Person("ben"), world.clock())
    assert world.store.notices.of("ben", world.clock()) == []


async def test_a_channel_that_fails_holds_up_nobody(world, told, hook, relay):
    hook.answer = 500
    one, two = world.join("nobody"), world.join("ann")
    await world.tick(times=2)
    await told()
    assert (world.state(one), world.state(two)) == ("started", "started")
    assert [to for _, to, _ in relay.received] == [["ann@example.org"]]
    assert world.store.notices.of("nobody", world.clock()) != []
