"""What the pages of the hub get from us: the button that starts the last choice again, and a logo to see."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from bs4 import BeautifulSoup

from ds01spawner.pages.hub import HubContext, again
from ds01spawner.policy.options import from_form, parse_options

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "browser"))
from hubpages import NOW, hub_page, person, spawner

KEPT = {
    "project": "thesis",
    "environment": "course/nlp:4",
    "gpu": "1g.10gb",
    "wait": True,
    "lifetime": 7200,
    "profile": "thesis · NLP <4> · 1g.10gb",
}
ENDED = SimpleNamespace(at=NOW, reason="you retired it", project="thesis", log_tail="", kind="stopped")


def somebody(options, spawners=(), server=""):
    user = person(spawners=spawners)
    user.orm_user = SimpleNamespace(orm_spawners={server: SimpleNamespace(user_options=options)})
    return user


def test_the_button_sends_what_was_started_before():
    found = again(KEPT)
    assert found.summary == "thesis · NLP <4> · 1g.10gb"
    sent = parse_options(from_form({"again": [found.value]}))
    assert sent == parse_options(KEPT)


@pytest.mark.parametrize("options", [{}, {"image": "evil"}, {"gpu": "9x"}, {"project": "../etc"}])
def test_there_is_no_button_for_what_cannot_be_started(options):
    assert again(options) is None
    for page in ("home.html", "not_running.html"):
        soup = BeautifulSoup(hub_page(page, ending=ENDED, user=somebody(options)), "html.parser")
        assert soup.find("button", {"name": "again"}) is None


def test_a_project_is_not_fetched_a_second_time():
    found = again({**KEPT, "project_source": "https://example.org/x.git"})
    assert "source" not in found.value


def test_after_a_retire_one_click_starts_again_and_another_page_chooses_anew():
    html = hub_page(
        "not_running.html",
        ending=ENDED,
        user=somebody(KEPT, server="s2"),
        server_name="s2",
        spawn_url="/hub/spawn/alice/s2?next=%2Fuser%2Falice",
    )
    soup = BeautifulSoup(html, "html.parser")
    form = soup.select_one("main form")
    assert (form["method"], form["action"]) == ("post", "/hub/spawn/alice/s2?next=%2Fuser%2Falice")
    assert form.find("input", {"name": "_xsrf"})["value"] == "token"
    assert form.find("button", {"name": "again"})["value"] == again(KEPT).value
    assert "thesis · NLP <4> · 1g.10gb" in soup.select_one("#ds01-again-what").text
    assert soup.find("a", string="Change options")["href"] == "/hub/spawn/alice/s2?next=%2Fuser%2Falice"


def test_a_start_that_failed_is_not_repeated_blindly():
    html = hub_page("not_running.html", ending=ENDED, failed=True, failed_message="no", user=somebody(KEPT))
    soup = BeautifulSoup(html, "html.parser")
    assert soup.find("button", {"name": "again"}) is None
    assert soup.select_one("a#start")["href"] == "/hub/spawn/alice"


def test_home_starts_again_while_nothing_runs():
    form = BeautifulSoup(hub_page("home.html", user=somebody(KEPT)), "html.parser").select_one(
        "form.ds01-again"
    )
    assert form["action"] == "/hub/spawn/alice"
    assert form.find("button", {"name": "again"})["value"] == again(KEPT).value
    busy = BeautifulSoup(hub_page("home.html", user=somebody(KEPT, (spawner(),))), "html.parser")
    assert busy.select_one("form.ds01-again") is None


@pytest.mark.parametrize(("own", "coloured"), [(False, True), (True, False)])
def test_only_the_hubs_own_logo_is_lightened_in_the_dark(own, coloured):
    context = HubContext("/services/ds01/", "key", lambda server: None, own_logo=own)
    html = hub_page("home.html", ds01=context)
    assert ('.jpy-logo[src$="/hub/logo"]' in html) is coloured
    assert BeautifulSoup(html, "html.parser").select_one("img.jpy-logo")["src"] == "/hub/logo"
