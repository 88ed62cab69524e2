"""Ways to a session that are not the straight one: a lost race, a link, no mouse, no JavaScript."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import expect

from ds01spawner.engines.docker.lock import claim_lock


def test_two_students_race_for_the_last_slice(hub, visit, sessions_of):
    hub.start_session("teacher", {"project": "p", "gpu": "1g.10gb"})
    alice, bob = visit("alice"), visit("bob")
    for person in (alice, bob):
        person.choose(project="race", gpu="1g.10gb")
        person.page.uncheck("#ds01-wait")
    chosen = alice.chosen()
    assert (chosen["project_new"], chosen["gpu"]) == ("race", "1g.10gb")
    for person in (alice, bob):
        person.start_button.click(no_wait_after=True)
    hub.wait_for(lambda: any(hub.server(p.user).get("ready") for p in (alice, bob)), 60, "one to start")
    winner, loser = (alice, bob) if hub.server("alice").get("ready") else (bob, alice)
    winner.in_lab()
    expect(loser.page.get_by_role("alert").first).to_contain_text("none is free")
    expect(loser.page.get_by_role("alert").first).to_contain_text("Your choices are kept below")
    expect(loser.page.get_by_role("alert").first).to_contain_text("1g.10gb")
    assert {k: v for k, v in loser.chosen().items() if k in ("gpu", "wait")} == {"gpu": "1g.10gb"}
    assert "race" in loser.chosen().values()
    assert len(sessions_of(winner.user)) == 1
    assert sessions_of(loser.user) == []
    hub.retire("teacher")


@pytest.mark.parametrize("javascript", [True, False])
def test_a_refusal_that_took_long_comes_back_to_the_form_too(hub, visit, sessions_of, javascript):
    alice = visit("alice", java_script_enabled=javascript)
    for server in ("", "two"):
        hub.start_session("teacher", {"project": "p", "gpu": "1g.10gb"}, server)
    alice.choose(project="slow", gpu="1g.10gb")
    alice.page.uncheck("#ds01-wait")
    with claim_lock(hub.state / "claim.lock"):  # nobody can be given a device for so long
        alice.start_button.click()
        expect(alice.page.get_by_role("heading", name="Starting your session")).to_be_visible()
        expect(alice.page.get_by_role("main")).to_contain_text("slow · JupyterLab · 1g.10gb")
    expect(alice.start_button).to_be_visible()
    expect(alice.page.locator("#ds01-refusal")).to_contain_text("none is free")
    assert alice.page.input_value("#ds01-project-new") in ("slow", "")
    assert (
        alice.page.locator('input[name="project"]:checked, #ds01-project-new').first.input_value() == "slow"
    )
    assert alice.page.locator('input[name="gpu"]:checked').input_value() == "1g.10gb"
    assert alice.errors == []
    assert sessions_of("alice") == []
    # Once told it is no news any more: what the form says then is what it would answer now.
    for server in ("", "two"):
        hub.retire("teacher", server)
    alice.go("hub/spawn/alice")
    expect(alice.start_button).to_be_visible()
    expect(alice.page.locator("#ds01-refusal")).to_have_count(0)


def test_a_link_fills_the_form_in_and_starts_nothing_until_the_click(hub, visit, sessions_of):
    bob = visit("bob")
    page = bob.go("services/ds01/start?project=from-a-link&gpu=1g.10gb&lifetime=7200")
    expect(page.get_by_role("status").filter(has_text="filled in by a link")).to_be_visible()
    chosen = bob.chosen()
    assert "from-a-link" in (chosen.get("project"), chosen.get("project_new"))
    assert (chosen["gpu"], chosen["lifetime"]) == ("1g.10gb", "7200")
    time.sleep(2)
    assert sessions_of("bob") == []
    assert not hub.server("bob").get("pending")
    bob.start_button.click()
    hub.wait_ready("bob")
    labels = sessions_of("bob")[0].labels
    assert labels["ds01.project"] == "from-a-link"
    assert labels["ds01.gpu.uuids"]


def test_by_keyboard_alone(hub, visit, sessions_of):
    alice = visit("alice")
    page = alice.page

    def tab_to(selector: str) -> None:
        for _ in range(80):
            page.keyboard.press("Tab")
            if page.evaluate("s => document.activeElement.matches(s)", selector):
                return
        raise AssertionError(f"80 times Tab did not reach {selector}")

    tab_to("#ds01-project-new")
    page.keyboard.type("typed")
    tab_to("input[name=gpu]")
    for _ in range(10):
        if page.evaluate("document.activeElement.value") == "1g.10gb":
            break
        page.keyboard.press("ArrowDown")
    tab_to(".ds01-go button")
    page.keyboard.press("Enter")
    hub.wait_ready("alice")
    labels = sessions_of("alice")[0].labels
    assert labels["ds01.project"] == "typed"
    assert labels["ds01.gpu.uuids"]
    alice.in_lab()


def test_without_javascript(hub, visit, sessions_of):
    bob = visit("bob", java_script_enabled=False)
    bob.choose(project="plain")
    bob.start_button.click()
    bob.page.wait_for_url("**/user/bob/lab**")  # the pending page refreshes itself
    assert sessions_of("bob")[0].labels["ds01.project"] == "plain"
    page = bob.go("hub/home")
    page.get_by_role("link", name="Retire…").click()
    expect(page.get_by_role("heading", name="Retire this session?")).to_be_visible()
    expect(page.get_by_role("main")).to_contain_text("everything in the project plain")
    page.get_by_role("button", name="Retire").click()
    expect(page.get_by_role("main")).to_contain_text("No session is running")
    page.wait_for_url(re.compile("/hub/home$"))
    assert sessions_of("bob") == []


@pytest.mark.parametrize("javascript", [True, False])
def test_a_place_in_the_queue_is_given_up_by_its_button(hub, visit, sessions_of, javascript):
    """Nothing fits, so the start becomes a place; once it is given up, a free device starts nothing."""
    for server in ("", "two"):
        hub.start_session("teacher", {"project": "p", "gpu": "1g.10gb"}, server)
    bob = visit("bob", java_script_enabled=javascript)
    bob.choose(project="patience", gpu="1g.10gb")
    bob.page.check("#ds01-wait")
    bob.start_button.click()
    bob.page.wait_for_url("**/services/ds01/queue?ticket=*")
    place = bob.page.get_by_role("main")
    expect(place).to_contain_text("number 1 in line")
    expect(place).to_contain_text("project patience")
    bob.page.get_by_role("button", name="Give up this place").click()
    expect(place).to_contain_text("You hold no place")
    expect(place).to_contain_text("1g.10gb, patience: cancelled (given up)")
    expect(place).to_contain_text("The queue is empty")
    assert bob.errors == []
    for server in ("", "two"):
        hub.retire("teacher", server)
    time.sleep(5)  # two passes of the queue and more
    assert sessions_of("bob") == []
    assert not hub.server("bob").get("pending")
