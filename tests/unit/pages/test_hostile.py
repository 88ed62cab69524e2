"""Whatever people and machines call things, the pages show it and are not changed by it."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from bs4 import BeautifulSoup
from page_samples import HOSTILE, NOW, hostile

from ds01spawner.pages.cards import session_card
from ds01spawner.pages.inputs import KeepAlive, Runs, Series, SessionInfo
from ds01spawner.pages.launch_page import launch_view, quota_line
from ds01spawner.pages.render import render
from ds01spawner.pages.strip import build_strip

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "browser"))
from hubpages import hub_page, launch_page, person, spawner

HANDLERS = ("onerror", "onload", "onmouseover")


def check_harmless(html: str, scripts: int) -> None:
    """No element, attribute or address that a hostile text brought, and no template that was run."""
    soup = BeautifulSoup(html, "html.parser")
    assert len(soup.find_all("script")) == scripts
    assert not soup.find_all(["iframe", "object", "embed"])
    assert not [i for i in soup.find_all("img") if i.get("src") == "x"]
    for element in soup.find_all(True):
        assert not [a for a in element.attrs if a.lower() in HANDLERS], element
        for name in ("href", "src", "action", "hx-get", "hx-post"):
            assert not str(element.get(name, "")).lower().startswith(("javascript:", "data:")), element
    assert "${7*7}" not in html or "{{ 7 * 7 }}" in html, "a text was taken for a template"


def test_launch_form():
    html = render("ds01/launch_form.html", view=launch_view(hostile()))
    check_harmless(html, scripts=0)
    text = BeautifulSoup(html, "html.parser").get_text()
    for name in HOSTILE:
        assert name in text


def test_launch_form_keeps_values_byte_by_byte():
    soup = BeautifulSoup(render("ds01/launch_form.html", view=launch_view(hostile())), "html.parser")
    assert [i["value"] for i in soup.select('input[name="project"]')] == list(HOSTILE)
    assert [i["value"] for i in soup.select('input[name="environment"]')] == list(HOSTILE)


def test_launch_page_of_the_hub_adds_only_its_own_scripts():
    plain = BeautifulSoup(hub_page("spawn.html", spawner_options_form="", for_user=None), "html.parser")
    check_harmless(launch_page(hostile()), scripts=len(plain.find_all("script")))


@pytest.mark.parametrize("name", HOSTILE)
def test_error_on_the_launch_page(name):
    plain = BeautifulSoup(hub_page("spawn.html", spawner_options_form="", for_user=None), "html.parser")
    html = hub_page("spawn.html", spawner_options_form="", for_user=None, error_message=name)
    check_harmless(html, scripts=len(plain.find_all("script")))
    assert BeautifulSoup(html, "html.parser").select_one(".spawn-error-msg span").text == name


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("template", ["spawn_pending.html", "home.html", "not_running.html"])
def test_pages_of_the_hub(template, name):
    running = spawner("s2", user_options={"profile": name, "gpu": name})
    ending = SimpleNamespace(at=NOW, reason=name, project=name, log_tail=name * 3, kind="crashed")
    context = {"spawner": running, "user": person(spawners=(running,)), "ending": ending}
    plain = BeautifulSoup(hub_page(template), "html.parser")
    html = hub_page(template, **context)
    check_harmless(html, scripts=len(plain.find_all("script")))
    assert name in BeautifulSoup(html, "html.parser").get_text()


@pytest.mark.parametrize("name", HOSTILE)
def test_session_cards_and_notices(name):
    info = SessionInfo(name, name, name, name, (name,), NOW, NOW + timedelta(hours=1), name)
    card = session_card(
        info,
        NOW,
        series=(Series(name, unavailable=name), Series(name, (1.0, 2.0), unit=name)),
        keep=KeepAlive(timedelta(hours=1), timedelta(hours=2), refused=name),
        runs=Runs(name, "shared", newer=True),
    )
    html = render("ds01/sessions.html", cards=[card], dialogs=True)
    notice = {"id": 1, "level": name, "text": name, "kind": "idle", "session": name, "server": name}
    html += render("ds01/notices.html", notices=[notice], service_url="/s/")
    check_harmless(html, scripts=0)
    assert name in BeautifulSoup(html, "html.parser").get_text()


def test_live_fragment():
    inputs = hostile()
    strip = build_strip(inputs.statuses, inputs.person, show_holders=True, problem=HOSTILE[1])
    counts = [(f"ds01-free-{i}", name) for i, name in enumerate(HOSTILE)]
    check_harmless(render("ds01/availability.html", strip=strip, counts=counts), scripts=0)


def test_quota_texts():
    view = launch_view(hostile())
    assert [q.label for q in view.quotas] == list(HOSTILE)
    assert quota_line(replace(hostile().quotas[0], used=None)).value.startswith("n/a")
