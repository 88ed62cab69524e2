"""The pages of environments and courses: what a card says, what the form makes, what hostile texts do."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace

import pytest
from bs4 import BeautifulSoup
from support.rows import course

from ds01spawner.core.logtext import to_html
from ds01spawner.core.yaml_reader import FileProblems
from ds01spawner.environments.builder.recipe import parse_recipe
from ds01spawner.environments.catalogue import Environment, Listed, with_facts
from ds01spawner.environments.environment_service import OwnBuild
from ds01spawner.environments.facts import ImageFacts
from ds01spawner.environments.offered import Shown
from ds01spawner.environments.preflight import Finding, Preflight
from ds01spawner.policy.load import parse_policy
from ds01spawner.policy.resolve import Person, resolve
from ds01spawner.service import recipes
from ds01spawner.service.context import make_templates
from ds01spawner.service.environment_views import build_line, card, limit_lines, project_of
from ds01spawner.service.teaching import Teacher, standing
from ds01spawner.store.rows import BuildRow, EnvironmentRow

NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
MINE = Environment("ds01-alice/thesis:latest", "mine", "ds01-alice/thesis:latest", owner="alice")
COURSE = Environment("course/nlp", "course", "x", title="Language", course="nlp")
FACTS = ImageFacts("sha256:" + "a" * 64, created="2026-03-01T10:00:00Z", size=2_000_000_000)
OK = Preflight(FACTS.id, (Finding("singleuser", "ok", "jupyterhub-singleuser 6.1"),))
NASTY = "<script>alert(1)</script>{{ 7 * 7 }}"


def shown(environment=MINE, image=FACTS, preflight=OK, reason=""):
    environment = with_facts(environment, image) if image else environment
    return Shown(Listed(environment, not reason, reason), image, preflight)


@pytest.mark.parametrize(
    ("what", "check", "reason"),
    [
        (shown(), "checked", ""),
        (shown(preflight=None), "checked at its first start", ""),
        (shown(image=None, preflight=None), "not on this machine", "its image is not here yet"),
        (
            shown(
                preflight=Preflight(
                    "x", (Finding("uid", "refuse", "it runs only as its own user", "mend it"),)
                )
            ),
            "cannot start",
            "it runs only as its own user: mend it",
        ),
        (
            shown(preflight=Preflight("x", (Finding("cuda", "gpu", "it needs CUDA 12.8", "older"),))),
            "without a GPU only",
            "",
        ),
        (shown(reason="your limits allow: lab"), "checked", "your limits allow: lab"),
    ],
)
def test_a_card_says_whether_it_can_start(what, check, reason):
    found = card(what, NOW, person="alice", projects=["thesis"])
    assert (found.check, found.reason) == (check, reason)


def test_a_card_of_ones_own_knows_its_project_and_what_is_outdated():
    row = EnvironmentRow("e", "alice", "ready", NOW, NOW, {"previous": ["sha256:" + "b" * 64]})
    found = card(
        shown(), NOW, person="alice", projects=["x", "thesis"], row=row, running=[FACTS.id, "sha256:old"]
    )
    assert (found.project, found.running, found.outdated) == ("thesis", 2, 1)
    assert [f.short for f in found.former] == ["b" * 12]
    assert found.start_url == "start?environment=ds01-alice%2Fthesis%3Alatest&project=thesis"
    assert found.facts == ("1.9 GiB", "built 2 h ago", "image aaaaaaaaaaaa")


def test_a_course_starts_in_a_project_of_its_name():
    assert card(shown(COURSE), NOW, person="a").start_url == "start?environment=course%2Fnlp&project=nlp"


def test_a_renewed_base_is_an_update():
    assert "Update available" in card(shown(), NOW, person="alice", newer_base=True).notes[0]


@pytest.mark.parametrize(
    ("reference", "project"),
    [("ds01-alice/thesis:v2", "thesis"), ("ds01-bob/thesis:latest", ""), ("ds01-alice/gone:latest", "")],
)
def test_project_of(reference, project):
    assert project_of(reference, "alice", ["other", "thesis"]) == project


def test_a_waiting_build_says_how_many_are_before_it():
    row = OwnBuild("b-1", "alice", "queued", NOW, NOW, environment="e", position=2)
    line = build_line(row, "p", "/s/")
    assert (line.word, line.detail, line.url, line.active) == (
        "waiting",
        "2 before it",
        "/s/builds/b-1",
        True,
    )


def limits(text):
    return resolve(
        parse_policy(f"version: 1\ndefaults: {{images: {text}}}\n", Path("p.yaml")), Person("a"), NOW
    )


def test_limits_are_said_with_what_they_allow():
    lines = limit_lines(limits("{max: 3, builds: {time: 20m, memory: 2g, context: 100m}}"), 2, 1)
    assert lines[0] == "You have 2 of 3 environments."
    assert "20 min at most, memory 2 GiB" in lines[1]
    assert lines[2] == "1 build waiting or under way here."
    assert "do not let you build" in limit_lines(limits("{build: false}"), 0, 0)[0]


# --------------------------------------------------------------------------------------- the form


def form(**fields):
    return recipes.read(lambda name: fields.get(name, ""))


def test_the_form_makes_a_recipe_and_a_recipe_fills_the_form():
    filled = form(project="p", project_new="q", base="lab", pip="numpy  # for x\n\n torch>=2 \n", apt="git")
    assert filled.project == "q"
    recipe = recipes.recipe_of(filled)
    assert recipe == parse_recipe({"base": "lab", "pip": ["numpy", "torch>=2"], "apt": ["git"]})
    assert recipes.recipe_of(recipes.filled_from(recipe, "q")) == recipe


def test_with_a_dockerfile_packages_are_not_asked():
    filled = form(project="p", way="dockerfile", base="lab", pip="numpy", title="T")
    assert recipes.recipe_of(filled) == parse_recipe({"title": "T", "dockerfile": "Dockerfile"})


@pytest.mark.parametrize(
    "pip", ["; rm -rf /", "--index-url http://x", "-e git+http://x", "sіx", "a @ http://x"]
)
def test_hostile_packages_are_problems(pip):
    with pytest.raises(FileProblems):
        recipes.recipe_of(form(project="p", pip=pip))


# ---------------------------------------------------------------------------------------- courses


@pytest.mark.parametrize(
    ("row", "candidate", "builds", "step"),
    [
        (course(state="draft", recipe={"pip": ["x"]}), "", [], "Build its environment."),
        (course(state="draft", image="x"), "", [], "Fetch its image."),
        (course(state="draft", recipe={}), "", ["building"], "being built"),
        (course(state="draft"), "sha256:a", ["ready"], "Start it once to test it"),
        (course(pinned="sha256:a"), "sha256:a", [], "Students get"),
        (course(state="closed", pinned="sha256:a"), "sha256:a", [], "closed"),
    ],
)
def test_a_course_says_its_next_step(row, candidate, builds, step):
    made = [BuildRow("b", "prof", state, NOW, NOW) for state in builds]
    assert step in standing(row, candidate, made).step


@pytest.mark.parametrize(
    ("person", "scopes", "begins", "manages"),
    [
        (Person("prof"), (), False, True),
        (Person("eve"), (), False, False),
        (Person("root", admin=True), (), True, True),
        (Person("eve"), ("custom:ds01:course:teach!group=nlp",), True, True),
        (Person("eve"), ("custom:ds01:course:teach!group=other",), True, False),
    ],
)
def test_who_teaches(person, scopes, begins, manages):
    row = course(owner="root2", staff=["prof"], roster=["nlp"])
    teacher = Teacher(person, frozenset(scopes))
    assert (teacher.may_begin, teacher.manages(row)) == (begins, manages)


# ---------------------------------------------------------------------------------- hostile texts


def page(template, **context):
    values = {
        "base_url": "/hub/", "prefix": "/", "service_url": "/services/ds01/", "user": None, "nav": (),
        "here": "",
        "no_spawner_check": True, "login_url": "", "logout_url": "", "services": [], "parsed_scopes": {},
        "static_url": lambda path, **_: path, "xsrf_token": "t", "person": Person("alice"),
        "ds01": SimpleNamespace(service="/services/ds01/", key="k"),
    }  # fmt: skip
    return make_templates().get_template(f"ds01/service/{template}").render(**values | context)


def harmless(html):
    soup = BeautifulSoup(html, "html.parser")
    assert not [s for s in soup.find_all("script") if "alert(1)" in s.text]
    assert "{{ 7 * 7 }}" in html
    return soup


def test_nothing_hostile_gets_into_the_pages():
    environment = replace(MINE, title=NASTY, description=NASTY, note=NASTY)
    build = build_line(
        OwnBuild("b-1", "alice", "failed", NOW, NOW, {"reason": NASTY}, environment=NASTY),
        "",
        "",
    )
    cards = {"mine": [card(shown(environment), NOW, person="alice", projects=["thesis"], build=build)]}
    cards |= {"course": [], "shared": [], "lab": []}
    listed = {"cards": cards, "builds": [build], "limit_lines": (), "may_build": True}
    listed |= {"may_share": True, "groups": [NASTY], "admin": False}
    harmless(page("environments.html", said=NASTY, project=NASTY, teaches=True, **listed))
    filled = recipes.Filled(NASTY, NASTY, values={"pip": NASTY, "base": NASTY}, problems=(NASTY,))
    harmless(page("environment.html", form=filled, bases=[environment], projects=[NASTY], limit_lines=()))


PULL = {"state": "pulling", "image": NASTY, "reason": NASTY, "progress": NASTY, "current": 0, "total": 0}


@pytest.mark.parametrize(
    ("pull", "asks", "bar"),
    [
        (PULL, True, {}),
        ({**PULL, "current": 3, "total": 4}, True, {"max": "4", "value": "3"}),
        ({**PULL, "current": 9, "total": 4}, True, {"max": "4", "value": "4"}),
        ({**PULL, "state": "failed"}, False, None),
        ({**PULL, "state": "ready"}, False, None),
    ],
)
def test_a_pull_shows_bytes_and_asks_again_while_it_goes_on(pull, asks, bar):
    soup = harmless(page("pull.html", pull=pull, course="nlp"))
    assert soup.select_one("#ds01-pull").get("hx-get") == (
        "/services/ds01/courses/nlp/pull" if asks else None
    )
    found = soup.select_one("progress")
    assert (found and {k: found[k] for k in ("max", "value") if found.has_attr(k)}) == bar


def test_a_log_keeps_its_colours_and_nothing_else():
    from markupsafe import Markup

    html = page(
        "build.html", build="b-1", state="failed", word="failed", reason=NASTY, final=True, after=1, key="k",
        lines=[Markup(to_html(f"\x1b[31m{NASTY}\x1b[0m"))], environment=NASTY, project=NASTY, course="",
        position=None,
    )  # fmt: skip
    soup = harmless(html)
    assert soup.select_one(".ds01-build-log .ds01-ansi-31").text == NASTY
