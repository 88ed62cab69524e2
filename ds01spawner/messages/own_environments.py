"""What is refused of environments: starting, building, sharing, keeping and deleting them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..core.errors import Refusal
from .examples import example, short

BUILT_HERE = "it was not built here"
NONE_OFFERED = "none is offered"


@example(environment="lab/old")
def environment_unknown(environment: str, why: str = "") -> Refusal:
    """An environment that is not there for the person, or (`BUILT_HERE`) not one that was built here."""
    if why == NONE_OFFERED:
        return Refusal(
            code="no-environment",
            asked="there is no environment to start",
            limit="the site offers none that your limits allow",
            do="ask an administrator to add one to the catalogue",
        )
    if why == BUILT_HERE:
        return Refusal(
            code="no-environment",
            asked=f"the environment {short(environment)} was not built here",
            limit="only what was built here can be changed here",
            do="choose one of yours from the environments page",
            status=404,
        )
    return Refusal(
        code="no-environment",
        asked=f"the environment {short(environment)!r} is not one of yours",
        limit="it does not exist, was deleted, or belongs to others",
        do="choose one from the environments page",
        status=404,
    )


@example(what="build", name="b-20260302-1")
def not_yours(what: str, name: str) -> Refusal:
    """A build, a course or an environment of another user, or none at all: the words are the same."""
    return Refusal(
        code=f"no-{what}",
        asked=f"there is no {what} {short(name)!r} of yours",
        limit="it does not exist, was deleted, or belongs to others",
        do="look at the environments page",
        status=404,
    )


@example(environment="PyTorch 2.4", wanted="ds01/pytorch:latest", own=False)
def image_missing(environment: str, wanted: str, own: bool) -> Refusal:
    """The environment's image is not on this machine; ``own``: its owner can build it again."""
    return Refusal(
        code="image-missing",
        asked=f"the environment {short(environment)!r} cannot be started",
        limit=f"its image {wanted} is not on this machine",
        do="build it again on the environments page"
        if own
        else "choose another one, and tell who looks after it: it must be pulled or built",
        status=409,
    )


@example(what="the environment 'lab/old' cannot be started", why="it has no jupyterhub-singleuser")
def environment_unfit(what: str, why: str, do: str = "choose another environment") -> Refusal:
    """An image that cannot run as a session; ``what`` was to be done with it."""
    return Refusal(code="environment-unfit", asked=what, limit=why, do=do, status=409)


@example(base="ds01-bob/thesis", why="there is no such image that you may use")
def no_base(base: str, why: str) -> Refusal:
    """The image a recipe starts from is none that the person may use."""
    return Refusal(
        code="no-base",
        asked=f"the base {base!r} cannot be used" if base else "no base was chosen",
        limit=why,
        do="choose one of the environments you see",
        status=400,
    )


@example(source="group students (policy.yaml:30)")
def may_not_build(source: str) -> Refusal:
    """The person may build no environments."""
    return Refusal(
        code="may-not-build",
        asked="this environment is not built",
        limit="your limits do not let you build environments",
        rule=source,
        do="choose an environment of the site, or ask an administrator",
    )


@example(environment="ds01-alice/thesis:latest")
def build_running(environment: str) -> Refusal:
    """One build at a time for each environment."""
    return Refusal(
        code="build-running",
        asked=f"the environment {environment} is being built already",
        limit="one build at a time for each environment",
        do="wait for it, or cancel it",
        status=409,
    )


@example(why="'A B' is not the name of a project")
def bad_environment(why: str) -> Refusal:
    """Something that was sent about an environment cannot be used as it stands."""
    return Refusal(
        code="bad-environment",
        asked="this cannot be done",
        limit=why,
        do="correct it and try again",
        status=400,
    )


@example(environment="ds01-alice/thesis:latest", holders=["ds01-alice"])
def environment_in_use(environment: str, holders: Sequence[str]) -> Refusal:
    """A container uses the image."""
    return Refusal(
        code="environment-in-use",
        asked=f"the environment {environment} cannot be deleted",
        used=f"the container {', '.join(holders[:3])} uses it",
        limit="an environment in use is kept",
        do="retire the session first",
        status=409,
    )


@example(environment="ds01-alice/thesis:latest")
def nothing_before(environment: str) -> Refusal:
    """There is no former image to go back to."""
    return Refusal(
        code="nothing-before",
        asked=f"{environment} cannot go back",
        limit="no former image of it is kept",
        do="change the recipe and build again",
        status=409,
    )


@example(source="defaults (policy.yaml:32)")
def may_not_save(source: str) -> Refusal:
    """The person may not keep a session as an image."""
    return Refusal(
        code="may-not-save",
        asked="the session was not saved as an image",
        limit="your limits do not let you save sessions as images",
        rule=source,
        do="keep its packages in the recipe instead",
    )


@example(packages=["numpy==2.1.0"])
def made_by_dockerfile(packages: Sequence[str]) -> Refusal:
    """Packages cannot be written into a Dockerfile that is its owner's."""
    return Refusal(
        code="dockerfile",
        asked="the packages were not written down",
        limit="this project's environment is made by a Dockerfile, which is yours to edit",
        do=f"add this line to it: RUN python3 -m pip install {' '.join(packages)[:400]}",
        status=409,
    )


@example(problem="the session does not answer")
def packages_unknown(problem: str) -> Refusal:
    """What a session has installed could not be read, so it was not retired."""
    return Refusal(
        code="packages-unknown",
        asked="the session's packages could not be kept, and the session goes on",
        limit=problem,
        do="try again, or retire it without keeping them",
        status=503,
    )


@example(environment="ds01-alice/thesis:latest", source="group students (policy.yaml:33)")
def may_not_share(environment: str, source: str) -> Refusal:
    """The person may not share environments."""
    return Refusal(
        code="may-not-share",
        asked=f"the environment {environment} is not shared",
        limit="your limits do not let you share environments",
        rule=source,
        do="ask an administrator to share it",
    )


@example(environment="ds01-alice/thesis:latest", group="a b")
def bad_group(environment: str, group: str) -> Refusal:
    """Something that is not the name of a group."""
    return Refusal(
        code="bad-group",
        asked=f"the environment {environment} is not shared",
        limit=f"{group[:40]!r} is not the name of a group",
        do="choose one of your groups",
        status=400,
    )


@example(environment="ds01-alice/thesis:latest", group="faculty", groups=["nlp", "students"])
def not_your_group(environment: str, group: str, groups: Iterable[str]) -> Refusal:
    """A group the person is not in."""
    names = ", ".join(sorted(groups)[:8])
    return Refusal(
        code="not-your-group",
        asked=f"the environment {environment} is not shared",
        limit=f"you are not in the group {group!r}, and can share with your own groups only",
        do=f"share it with one of your groups ({names})" if names else "ask an administrator to share it",
    )
