"""What may become of a ticket: every state with every step."""

from datetime import datetime, timedelta, timezone

import pytest
from support import rows

from ds01spawner.core.errors import Refused
from ds01spawner.queue import ticket_rules

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=timezone.utc)
H = timedelta(hours=1)
OVER = ("started", "expired", "cancelled", "failed")
STEPS = ("grant", "start", "running", "return", "fail", "expire", "cancel")
EXPECTED = {
    "waiting": ("granted", None, "started", None, None, "expired", "cancelled"),
    "granted": (None, "starting", "started", "waiting", "failed", "expired", "cancelled"),
    "starting": (None, None, "started", "waiting", "failed", None, "cancelled"),
    **dict.fromkeys(OVER, (None,) * 7),
}


@pytest.mark.parametrize(
    ("state", "step", "expected"),
    [(s, step, to) for s, row in EXPECTED.items() for step, to in zip(STEPS, row, strict=True)],
)
def test_every_state_with_every_step(state, step, expected):
    assert ticket_rules.after(state, step) == expected


def test_a_grant_holds_for_the_claim_window():
    change = ticket_rules.grant("waiting", ("A",), NOW, H)
    assert (change.hold, change.release, change.action) == (("A",), False, "granted")
    assert change.changes["claim_until"] == NOW + H


@pytest.mark.parametrize("state", OVER)
def test_what_is_over_stays_over(state):
    for step in (
        lambda: ticket_rules.grant(state, (), NOW, H),
        lambda: ticket_rules.start(state, NOW, 0),
        lambda: ticket_rules.running(state, NOW),
        lambda: ticket_rules.give_back(state, NOW, "x", 0),
        lambda: ticket_rules.give_back(state, NOW, "x", 99),
        lambda: ticket_rules.fail(state, NOW, "x"),
        lambda: ticket_rules.expire(state, NOW, "x"),
        lambda: ticket_rules.cancel(state, NOW, "x"),
    ):
        with pytest.raises(Refused) as caught:
            step()
        assert caught.value.refusal.status == 409


@pytest.mark.parametrize(("attempts", "state"), [(1, "waiting"), (2, "waiting"), (3, "failed")])
def test_a_failed_start_goes_back_a_few_times(attempts, state):
    change = ticket_rules.give_back("starting", NOW, "no image", attempts)
    assert (change.changes["state"], change.changes["reason"], change.release) == (state, "no image", True)


@pytest.mark.parametrize("step", ["running", "expire", "cancel", "fail"])
def test_every_end_releases_the_hold(step):
    if step == "running":
        assert ticket_rules.running("granted", NOW).release
    else:
        assert getattr(ticket_rules, step)("granted", NOW, "why").release


@pytest.mark.parametrize(
    ("state", "expires", "claim", "late"),
    [
        ("waiting", NOW, None, True),
        ("waiting", NOW + H, None, False),
        ("waiting", None, None, False),
        ("granted", NOW - H, NOW + H, False),
        ("granted", None, NOW, True),
        ("starting", NOW - H, NOW - H, False),
    ],
)
def test_what_is_overdue(state, expires, claim, late):
    row = rows.ticket(state=state, expires_at=expires, claim_until=claim)
    assert bool(ticket_rules.overdue(row, NOW)) is late
