"""Environments in a browser: make one, watch, use, change it, go back; a course from staff to student."""

from __future__ import annotations

import re
import uuid

import pytest
from playwright.sync_api import expect
from support.service_api import images_removed

pytestmark = pytest.mark.timeout(900)
UNIQUE = uuid.uuid4().hex[:6]
STUDENT, OUTSIDER, PROF = f"eve{UNIQUE}", f"mallory{UNIQUE}", f"prof{UNIQUE}"
COURSE, GROUP = f"ml-{UNIQUE}", f"roster-{UNIQUE}"
BUILD_MS = 400_000


@pytest.fixture(scope="module")
def hub_options(engine):
    """A roster, and an instructor who may teach it without being an administrator."""
    people = {STUDENT: "student", OUTSIDER: "student", PROF: "instructor"}  # with images of their own
    extra = (
        f"import ds01spawner.demo; ds01spawner.demo.ACCOUNTS.update({people!r})\n"
        f"c.JupyterHub.load_groups = {{{GROUP!r}: {{'users': [{STUDENT!r}]}}}}\n"
        f"c.JupyterHub.load_roles.append({{'name': 'teach', 'users': [{PROF!r}], "
        f"'scopes': ['custom:ds01:course:teach!group={GROUP}']}})\n"
    )
    with images_removed(engine, STUDENT, OUTSIDER, PROF, COURSE):
        yield {"extra": extra, "users": {STUDENT, OUTSIDER, PROF}, "arguments": ", idle=False"}


def run(container, command):
    code, output = container.exec_run(["bash", "-c", command])
    assert code == 0, output.decode()
    return output.decode().strip()


def build(page, button="Build"):
    """Press the button and wait for the build's end without reading the page again."""
    page.get_by_role("button", name=button, exact=True).click()
    page.wait_for_url("**/builds/b-*")
    expect(page.locator("[data-state=ready]")).to_be_visible(timeout=BUILD_MS)


def test_a_student_makes_uses_changes_and_takes_back_an_environment(hub, visit, sessions_of):
    eve = visit(STUDENT)
    page = eve.go("services/ds01/environments")
    page.get_by_role("link", name="New environment").click()
    page.get_by_label("Or a new project").fill("thesis")
    page.get_by_label("pip packages, one a line").fill("six==1.16.0\niniconfig\n; rm -rf /")
    page.get_by_role("button", name="Build", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("rm -rf")
    expect(page.get_by_label("pip packages, one a line")).to_have_value(re.compile("iniconfig"))
    page.get_by_label("pip packages, one a line").fill("six==1.16.0\niniconfig\npluggy")
    page.get_by_role("button", name="Build", exact=True).click()
    page.wait_for_url("**/builds/b-*")
    expect(page.get_by_role("button", name="Cancel this build")).to_be_visible()
    log = page.get_by_role("region", name="Log of the build")
    expect(log).to_contain_text("Step 1/", timeout=BUILD_MS)
    page.reload()
    expect(log).to_contain_text("Step 1/")
    expect(page.locator("[data-state=ready]")).to_be_visible(timeout=BUILD_MS)
    expect(log).to_contain_text("ready: ")
    expect(page.get_by_role("button", name="Cancel this build")).to_be_hidden()
    assert eve.serious() == []
    shared_with_a_group(eve, visit(OUTSIDER))
    page = eve.go(f"services/ds01/start?environment=ds01-{STUDENT}/thesis:latest&project=thesis")
    assert eve.chosen()["environment"] == f"ds01-{STUDENT}/thesis:latest"
    assert "thesis" in (eve.chosen()["project"], eve.chosen().get("project_new"))
    assert eve.errors == []  # of our own pages; JupyterLab's are another matter
    eve.start_button.click()
    hub.wait_ready(STUDENT, patience=200)
    (session,) = sessions_of(STUDENT)
    assert run(session, "python3 -c 'import six, iniconfig, pluggy; print(six.__version__)'") == "1.16.0"
    run(session, "pip install -q six==1.17.0 'packaging==24.0'")

    page = eve.go("services/ds01/environments")
    page.get_by_text("Go back, tag, delete").click()
    page.get_by_role("button", name="Delete for ever").click()
    expect(page.get_by_role("alert")).to_contain_text("An environment in use is kept")

    page = eve.go("services/ds01/retire?server=")
    expect(page.locator("#ds01-packages")).to_contain_text("six==1.17.0")
    page.get_by_role("button", name="Retire and keep my packages").click()
    expect(page.get_by_role("status").filter(has_text="new packages are in")).to_be_visible()
    assert sessions_of(STUDENT) == []
    recipe = (hub.workspaces / STUDENT / "thesis" / "recipe.yaml").read_text()
    assert "six==1.17.0" in recipe
    assert "packaging==24.0" in recipe
    assert "six==1.16.0" not in recipe

    build(page, "Build again")
    page = eve.go("services/ds01/environments")
    page.get_by_text("Go back, tag, delete").click()
    page.get_by_role("button", name="Go back to it").click()
    expect(page.get_by_role("status").filter(has_text="former image is the current one")).to_be_visible()
    assert eve.serious() == []
    page.get_by_text("Go back, tag, delete").click()
    page.get_by_role("button", name="Go back to it").click()  # which takes the going back back
    page = eve.go(f"services/ds01/start?environment=ds01-{STUDENT}/thesis:latest&project=thesis")
    eve.start_button.click()
    hub.wait_ready(STUDENT, patience=200)
    (session,) = sessions_of(STUDENT)
    assert run(session, "python3 -c 'import six; print(six.__version__)'") == "1.17.0"
    hub.retire(STUDENT)
    page = eve.go("services/ds01/environments")
    page.get_by_text("Go back, tag, delete").click()
    page.get_by_role("button", name="Delete for ever").click()
    expect(page.get_by_role("status").filter(has_text="is deleted")).to_be_visible()
    expect(page.get_by_text("None yet.")).to_be_visible()


def shared_with_a_group(owner, outsider):
    """Share the one environment, look at it as another, and stop."""
    page = owner.go("services/ds01/environments")
    page.get_by_text("Share with a group").click()
    page.get_by_label(re.compile("^Group to share")).select_option(GROUP)
    page.get_by_role("button", name="Share", exact=True).click()
    expect(page.get_by_role("status").filter(has_text="find it under Shared")).to_be_visible()
    expect(page.get_by_role("main")).to_contain_text(f"Shared with {GROUP}")
    page.get_by_text("Share with a group").click()
    page.get_by_text("Go back, tag, delete").click()
    expect(page.get_by_role("main")).to_contain_text(f"Members of {GROUP} can no longer start it then.")
    assert owner.serious() == []
    other = outsider.go("services/ds01/environments")
    expect(other.get_by_role("main")).not_to_contain_text(STUDENT)
    page.get_by_role("button", name="Stop sharing").click()
    expect(page.get_by_role("status").filter(has_text="no longer sees it")).to_be_visible()
    expect(page.get_by_role("main")).not_to_contain_text(f"Shared with {GROUP}")


def test_an_instructor_publishes_a_course_that_its_roster_launches_in_two_clicks(hub, visit, sessions_of):
    prof = visit(PROF)
    page = prof.go("services/ds01/environments")
    page.get_by_role("link", name="Courses I teach").click()
    text = (
        f"version: 1\ncourse: {COURSE}\ntitle: Machine learning\nstaff: [{PROF}]\nroster: {GROUP}\n"
        "recipe: {base: lab, pip: [six]}\ncompute: {gpu: 1g.10gb, lifetime: 2h}\n"
    )
    page.get_by_label("Or paste it").fill(text.replace("pip:", "pipp:"))
    page.get_by_role("button", name="Show what would change").click()
    expect(page.get_by_role("alert")).to_contain_text("course.yaml:6")
    page.get_by_label("Or paste it").fill(text)
    page.get_by_role("button", name="Show what would change").click()
    expect(page.get_by_role("status").filter(has_text="would change")).to_contain_text("Machine learning")
    page.get_by_role("button", name="Apply", exact=True).click()
    expect(page.get_by_role("heading", name="Build its environment.")).to_be_visible()
    build(page)
    page.get_by_role("link", name="Back to the course").click()
    expect(page.get_by_role("link", name="Test-start")).to_be_visible()
    page.get_by_role("button", name="Publish", exact=True).click()
    expect(page.get_by_role("heading", name="Students get what was built last.")).to_be_visible()
    assert prof.serious() == []

    eve = visit(STUDENT)
    page = eve.go("services/ds01/environments")
    first = page.locator("main section").first
    expect(first).to_contain_text("Machine learning")
    eve.click(first.get_by_role("link", name=re.compile("Start")))
    page.wait_for_url("**/hub/spawn/**")
    assert eve.chosen()["gpu"] == "1g.10gb"
    assert eve.chosen()["lifetime"] == "7200"
    eve.click(eve.start_button)
    assert eve.clicks == 2
    hub.wait_ready(STUDENT, patience=200)
    (session,) = sessions_of(STUDENT)
    assert session.labels["ds01.environment"] == f"course/{COURSE}"
    page = prof.go(f"services/ds01/courses/{COURSE}")
    expect(page.get_by_role("region", name="The class now")).to_contain_text(f"running, project {COURSE}")

    mallory = visit(OUTSIDER)
    page = mallory.go("services/ds01/environments")
    expect(page.get_by_role("heading", name="Environments")).to_be_visible()
    expect(page.get_by_role("main")).not_to_contain_text("Machine learning")
    expect(page.get_by_role("link", name="Courses I teach")).to_have_count(0)
    page = mallory.go(f"services/ds01/courses/{COURSE}")
    expect(page.get_by_role("alert")).to_contain_text("not one that you teach")
