"""Mail relays as a site names them, and the messages they are given."""

from datetime import datetime, timezone

import pytest
from support.smtp import Relay as Server

from ds01spawner.core.errors import DS01Error
from ds01spawner.notify.channels import Notice, WebhookChannel
from ds01spawner.notify.mail import MailChannel, Relay, channel_for

AT = datetime(2026, 3, 2, 12, tzinfo=timezone.utc)
TO = "from=gpu@example.org&to={user}@example.org"


def notice(user="ann", text="Your session has started.", project="thesis"):
    return Notice("started", "k", user, "", "s", project, text, AT, cause="queue")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (f"smtp://relay?{TO}", ("relay", 25, False, False, "", "")),
        (f"smtp://relay:2525?{TO}&starttls=1", ("relay", 2525, False, True, "", "")),
        (f"smtps://me:p%40ss@relay?{TO}", ("relay", 465, True, False, "me", "p@ss")),
    ],
)
def test_a_relay_s_address(address, expected):
    r = Relay.parse(address)
    assert (r.host, r.port, r.tls, r.starttls, r.user, r.password) == expected
    assert (r.sender, r.to) == ("gpu@example.org", "{user}@example.org")


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("smtp://?" + TO, "write smtp://HOST"),
        ("smtp://relay:99999?" + TO, "Port out of range"),
        ("smtp://relay?from=gpu@example.org", "needs from="),
        ("smtp://relay?to={user}@example.org", "needs from="),
        ("smtp://relay?from=gpu@example.org&to=all@example.org", "needs from="),
        ("smtp://relay?cc=x&" + TO, "cc is not known"),
    ],
)
def test_what_is_no_relay(address, why):
    with pytest.raises(DS01Error, match=why):
        Relay.parse(address)


def test_the_address_says_the_way():
    assert isinstance(channel_for(f"smtp://relay?{TO}"), MailChannel)
    assert isinstance(channel_for("https://chat.example.org/hook"), WebhookChannel)


async def test_a_mail_arrives_as_it_was_meant():
    with Server() as server:
        await channel_for(server.address).deliver(notice(text=".dots\n. and ümlauts"))
    ((sender, to, mail),) = server.received
    assert (sender, to) == ("gpu@example.org", ["ann@example.org"])
    assert (mail["Subject"], mail["Auto-Submitted"]) == (
        "Your session has started (thesis)",
        "auto-generated",
    )
    assert mail.get_content().splitlines() == [".dots", ". and ümlauts"]


@pytest.mark.parametrize("user", ["ann@evil.org,bob", "a\nBcc: all", "a>", "ann, bob", ""])
def test_no_name_reaches_other_people(user):
    relay = Relay.parse(f"smtp://relay?{TO}")
    with pytest.raises(ValueError, match="makes no mail address"):
        relay.message(notice(user))


def test_hostile_projects_make_no_headers():
    with pytest.raises(ValueError, match=r"newline|linefeed"):
        Relay.parse(f"smtp://relay?{TO}").message(notice(project="x\nBcc: all@example.org"))


async def test_a_relay_that_is_not_there_raises():
    with Server() as server:
        gone = channel_for(server.address)
    with pytest.raises(OSError, match=r"."):
        await gone.deliver(notice())
