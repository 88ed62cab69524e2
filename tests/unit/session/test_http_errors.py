"""A refusal sets every attribute that a page of the hub reads, and leaks nothing."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from tornado import web

from ds01spawner.core.errors import Refusal
from ds01spawner.hub.http_errors import SessionRefused, open_form

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "browser"))
from hubpages import hub_page

REFUSAL = Refusal(
    code="gpus-full",
    asked="1 × 1g.10gb was asked for",
    used="you hold none",
    limit="of 7 such devices none is free",
    rule="rule: group <b>students</b>",
    when="the first comes free at 16:00",
    do="start without a GPU",
    status=503,
    retry_after=60,
)
SENTENCE = (
    "1 × 1g.10gb was asked for. You hold none. Of 7 such devices none is free (rule: group <b>students</b>). "
    "The first comes free at 16:00. Start without a GPU."
)


def test_every_surface_of_the_hub():
    refused = SessionRefused(REFUSAL, log_tail="Traceback <script>alert(1)</script>")
    assert isinstance(refused, web.HTTPError)
    assert refused.status_code == 503
    assert refused.reason == "gpus-full"
    assert refused.headers == {"Retry-After": "60"}
    assert SessionRefused(REFUSAL, ask_url="/s/requests?key=x").headers["Link"] == (
        '</s/requests?key=x>; rel="help"'
    )
    assert refused.jupyterhub_message == str(refused) == SENTENCE
    html = refused.jupyterhub_html_message
    assert "<script>" not in html
    assert "<b>students" not in html
    assert "&lt;script&gt;" in html
    assert "Traceback" not in refused.jupyterhub_message


def test_json_has_the_parts():
    data = REFUSAL.as_dict()
    assert data["message"] == SENTENCE
    assert (data["code"], data["status"], data["retry_after"]) == ("gpus-full", 503, 60)
    assert "used" not in Refusal("c", "a", "l", "d").as_dict()


@pytest.mark.parametrize(
    ("error", "target"),
    [
        (SessionRefused(REFUSAL, to_form=True), "0; url=/hub/spawn/alice/a%20b"),
        (SessionRefused(REFUSAL, log_tail="ImportError: no torch"), None),
        (web.HTTPError(500, "no"), None),
    ],
)
def test_who_waited_is_sent_back_to_the_form_but_not_away_from_a_log(error, target):
    html = hub_page(
        "not_running.html",
        failed=True,
        failed_html_message=getattr(error, "jupyterhub_html_message", ""),
        exception=error,
        spawn_url="/hub/spawn/alice/a%20b",
    )
    soup = BeautifulSoup(html, "html.parser")
    meta = soup.find("meta", {"http-equiv": "refresh"})
    assert (meta["content"] if meta else None) == target
    assert ("ImportError" in soup.text) is bool(getattr(error, "log_tail", ""))


def test_a_link_that_opens_the_form_leaves_no_traceback_in_the_log(caplog):
    log = logging.getLogger("a-hub")
    for error in (open_form(log), open_form(log), ValueError("real")):
        try:
            raise error
        except Exception:
            log.error("Failed to spawn single-user server with query arguments", exc_info=True)
    log.error("no exception at all")
    assert [r.exc_info and str(r.exc_info[1]) for r in caplog.records] == ["real", None]
    assert len(log.filters) == 1
