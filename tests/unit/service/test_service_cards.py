"""What the cards of running sessions say of their environment, from what the machine and the store have."""

from __future__ import annotations

import pytest
from test_service import NOW, call, world  # noqa: F401

from ds01spawner.core.errors import EngineError
from ds01spawner.core.labels import SessionLabels
from ds01spawner.engines.base import EngineSession
from ds01spawner.environments.facts import ImageFacts
from ds01spawner.environments.offered import Environments

OLD, NEW = "sha256:" + "0" * 64, "sha256:" + "1" * 64


class PlayedImages:
    """An engine with some tagged images."""

    def __init__(self, *facts):
        self.facts, self.error = facts, None

    def list(self):
        if self.error:
            raise self.error
        return self.facts

    def inspect(self, reference):
        return next(f for f in self.facts if reference == f.id or reference in f.tags)


@pytest.fixture
def images(world):  # noqa: F811
    """A lab environment, a course and one of alice's own, each with its newest image."""
    played = PlayedImages(
        ImageFacts(NEW, tags=("ds01/torch:latest",)),
        ImageFacts(NEW.replace("1", "2"), tags=("ds01-alice/thesis:latest",)),
        ImageFacts(NEW.replace("1", "3"), tags=("ds01-course/nlp:v2",)),
    )
    catalogue = world.site.settings.state_dir / "environments.yaml"
    catalogue.write_text(
        "version: 1\nenvironments:\n  torch: {image: 'ds01/torch:latest', title: 'PyTorch <2.6>'}\n"
    )
    settings = world.site.settings.model_copy(update={"environments": catalogue})
    world.site.__dict__["environments"] = Environments(settings, played, lambda: world.store)
    pinned = {"title": "Language", "roster": ["students"], "pinned": played.facts[2].id, "image": "x"}
    world.store.courses.put("nlp", "prof", "published", pinned, NOW)
    return played


def runs(world, session, environment, image):  # noqa: F811
    labels = SessionLabels(
        "alice", session, "thesis", "hub", session, image, environment, (), 0, NOW.isoformat()
    )
    world.ledger.sessions.append(EngineSession(labels, session, session, "running", "Up", NOW.isoformat()))


@pytest.mark.parametrize(
    ("environment", "image", "title", "update"),
    [
        ("torch", NEW, "thesis · PyTorch &lt;2.6&gt;", ""),
        ("torch", OLD, "thesis · PyTorch &lt;2.6&gt;", "the site has renewed this environment"),
        ("course/nlp", OLD, "thesis · Language", "the course has published another image"),
        ("course/nlp", NEW.replace("1", "3"), "thesis · Language", ""),
        ("ds01-alice/thesis:latest", OLD, "thesis · ds01-alice/thesis:latest", "you have built or changed"),
        ("gone", OLD, "thesis · gone", ""),
    ],
)
async def test_environments_and_updates(call, world, images, environment, image, title, update):  # noqa: F811
    runs(world, "s1", environment, image)
    page = (await call("", who="alice")).text
    assert f"<bdi>{title}</bdi>" in page
    assert ("Update available" in page) is bool(update)
    assert update in page
    assert (f"<bdi>{environment}</bdi>" in page) is (environment in ("torch", "course/nlp"))


async def test_cards_are_shown_while_the_environments_are_unknown(call, world, images):  # noqa: F811
    runs(world, "s1", "torch", OLD)
    images.error = EngineError("no route")
    page = await call("", who="alice")
    assert (page.code, "thesis · torch" in page.text, "Update available" in page.text) == (200, True, False)
