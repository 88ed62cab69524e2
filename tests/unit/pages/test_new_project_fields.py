"""What the launch page asks of a new project, and what it keeps and shows of what was typed."""

from __future__ import annotations

import pytest
from bs4 import BeautifulSoup
from page_samples import HOSTILE, NOW, sample

from ds01spawner.pages.launch_page import launch_view
from ds01spawner.pages.project_choice import Offers
from ds01spawner.pages.render import render
from ds01spawner.policy.options import LaunchOptions, from_form, parse_options

TEMPLATES = (("python", "A Python project"), ("bare", ""))


def page(**changes):
    view = launch_view(sample(**{"offers": Offers(templates=TEMPLATES, schemes=("https",)), **changes}))
    return BeautifulSoup(render("ds01/launch_form.html", view=view), "html.parser")


def selected(soup):
    return [o["value"] for o in soup.select("#ds01-project-start option[selected]")]


def test_a_new_project_can_begin_with_nothing_a_repository_or_a_template():
    soup = page()
    assert [(o["value"], o.text) for o in soup.select("#ds01-project-start option")] == [
        ("", "An empty folder"),
        ("git", "A git repository"),
        ("template:python", "Template python: A Python project"),
        ("template:bare", "Template bare"),
    ]
    assert selected(soup) == [""]
    assert soup.select_one("#ds01-project-source")["value"] == ""
    for label in soup.select("#ds01-begin label"):
        assert soup.find(id=label["for"]) is not None


@pytest.mark.parametrize(
    ("offers", "select", "address"),
    [
        (Offers(), 0, 0),
        (Offers(schemes=("https",)), 1, 1),
        (Offers(templates=TEMPLATES), 1, 0),
        (Offers(schemes=("gopher",)), 0, 0),
    ],
    ids=["nothing", "git", "templates", "unknown-scheme"],
)
def test_only_what_the_site_allows_is_offered(offers, select, address):
    soup = page(offers=offers)
    assert len(soup.select("#ds01-project-start")) == select
    assert len(soup.select("#ds01-project-source")) == address


def test_hosts_are_named():
    soup = page(offers=Offers(schemes=("https", "http"), hosts=("github.com", "*.example.org")))
    text = soup.select_one("#ds01-source-help").text
    assert "https:// or http://, on github.com, *.example.org" in text


@pytest.mark.parametrize(
    ("source", "start", "address"),
    [
        ("https://example.org/x#week-2", "git", "https://example.org/x#week-2"),
        ("template:python", "template:python", ""),
    ],
)
def test_choices_are_kept_and_linked_to(source, start, address):
    soup = page(chosen=LaunchOptions(project="brand-new", project_source=source))
    assert soup.select_one("#ds01-project-new")["value"] == "brand-new"
    assert selected(soup) == [start]
    assert soup.select_one("#ds01-project-source")["value"] == address
    query = soup.select_one("a[data-ds01-share]")["href"].partition("?")[2]
    shared = parse_options(from_form({"again": [query]}))
    assert (shared.project, shared.project_source) == ("brand-new", source)


def test_a_project_that_is_there_takes_no_source_and_says_so():
    soup = page(chosen=LaunchOptions(project="thesis", project_source="https://example.org/x"))
    assert selected(soup) == [""]
    assert soup.select_one("#ds01-project-source")["value"] == ""
    assert "You have a project thesis already" in soup.text


def test_the_first_project_of_all_can_have_a_source():
    soup = page(projects=(), last=None)
    radio = soup.select_one('input[name="project"]')
    assert radio.has_attr("data-ds01-new")
    assert not page().select('input[name="project"][data-ds01-new]')


def test_what_was_typed_in_vain_stands_where_it_was_typed():
    offers = Offers(schemes=("https",), typed_name="My Thesis", typed_source="git@example.org:x")
    soup = page(offers=offers, chosen=LaunchOptions())
    assert soup.select_one("#ds01-project-new")["value"] == "My Thesis"
    assert soup.select_one("#ds01-project-source")["value"] == "git@example.org:x"
    assert selected(soup) == ["git"]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text):
    offers = Offers(
        templates=((text, text),), schemes=("https",), hosts=(text,), typed_name=text, typed_source=text
    )
    soup = page(offers=offers, now=NOW)
    assert soup.select_one("#ds01-project-new")["value"] == text
    assert soup.select_one("#ds01-project-source")["value"] == text
    assert not soup.select("#ds01-begin script, #ds01-begin img, #ds01-begin svg")
    assert soup.select("#ds01-project-start option")[-1]["value"] == f"template:{text}"
