"""``ds01 project``: folders of a workspace, made with the right owner before a first session."""

from __future__ import annotations

import asyncio
import getpass
import os
import sys
from datetime import datetime, timezone
from typing import Annotated
from uuid import uuid4

import typer

from ..core import text
from ..core.errors import DS01Error, Refused
from ..core.settings import load_settings
from ..engines.docker.fetching import Tell, clear, fetch, spec_for
from ..policy.options import PROJECT_HELP, is_project_name
from ..policy.resolve import Person
from ..policy.sources import TEMPLATE, GitSource, Source, parse_source
from ..site import Site
from ..workspace import staging
from ..workspace.newproject import begin_project
from ..workspace.projects import Workspace
from ..workspace.templates import templates
from .common import Json, emit, refuse, table
from .times import utcnow

project = typer.Typer(help="Projects: folders that stay when sessions go.", no_args_is_help=True)
User = Annotated[str, typer.Option(help="Whose; you, where not given.")]
Git = Annotated[
    str, typer.Option("--git", metavar="URL", help="Begin with this repository; #NAME for a branch or tag.")
]
Environment = Annotated[
    str, typer.Option(help="Environment whose git fetches it; the site's default, where not given.")
]


@project.command("init")
def init(
    name: Annotated[str, typer.Argument(help="Name of the project.")],
    user: User = "",
    git: Git = "",
    template: Annotated[str, typer.Option(help="Begin with this template of the site.")] = "",
    environment: Environment = "",
    as_json: Json = False,
) -> None:
    """Make a project, empty or with first files; one that is there already is left as it is."""
    if not is_project_name(name):
        refuse(f"{name!r} cannot be a project: {PROJECT_HELP}.", as_json)
    source = _source(git, template, as_json)
    owner = user or getpass.getuser()
    site = Site(load_settings())
    if source is not None:
        _begin(site, owner, name, source, environment, as_json)
    made = site.workspaces.prepare(owner, name)
    created = made.created or source is not None
    data = {
        "ok": True,
        "project": name,
        "user": owner,
        "path": str(made.path),
        "uid": made.identity.uid,
        "created": created,
        **({"source": str(source)} if source else {}),
    }
    word = "is made" if created else "was there already"
    word += f" from {source}" if source else ""
    emit(data, as_json, lambda _: print(f"The project {name} of {owner} {word}: {made.path}"))


def _source(git: str, template: str, as_json: bool) -> Source | None:
    if git and template:
        refuse("Give --git or --template, not both.", as_json)
    if git.startswith(TEMPLATE):
        refuse("A template is given by --template.", as_json)
    try:
        return parse_source(f"{TEMPLATE}{template}" if template else git)
    except ValueError as error:
        what = f"The template {template!r}" if template else f"The address {git!r}"
        refuse(f"{what} cannot be used: {error}.", as_json)


def _begin(site: Site, owner: str, name: str, source: Source, environment: str, as_json: bool) -> None:
    def tell(said: str, fraction: float) -> None:
        if said and not as_json and sys.stderr.isatty():
            print(f"\r{said[:100]:<100}", end="" if fraction < 1 else "\n", file=sys.stderr, flush=True)

    try:
        made = asyncio.run(_make(site, Person(name=owner), name, source, environment, tell))
    except Refused as refused:
        refuse(refused.refusal.sentence, as_json)
    except DS01Error as error:
        refuse(f"The project {name} cannot be made: {error}.", as_json)
    if not made:
        refuse(f"The project {name} of {owner} has files already; nothing was fetched.", as_json)


async def _make(
    site: Site, person: Person, project: str, source: Source, environment: str, tell: Tell
) -> bool:
    """Whether the project was made; it was not where it has files already."""
    token, now, fetches = uuid4().hex, utcnow(), False

    async def fetched(repository: GitSource, staged: Workspace) -> None:
        nonlocal fetches
        fetches = True
        offered = site.environments
        wanted = offered.choose(person, site.limits(person, now), environment, site.settings.image)
        image = offered.resolve(wanted, person)
        spec = spec_for(site, person, project, repository, staged, image, token, now, env=os.environ)
        await fetch(site, spec, staged.path, tell, environment=wanted.name)

    try:
        return await begin_project(site, person, project, source, token, now, fetched) == "made"
    except BaseException:
        if fetches:
            clear(site, person.name, token)
        else:
            staging.abandon(site.workspaces, person.name, token)
        raise


@project.command("templates")
def list_templates(as_json: Json = False) -> None:
    """List the site's templates."""
    found = templates(load_settings().project_templates)
    emit(
        [{"template": t.name, "description": t.description} for t in found],
        as_json,
        lambda _: table(("template", "description"), [(t.name, t.description) for t in found]),
    )


@project.command("list")
def list_projects(user: User = "", as_json: Json = False) -> None:
    """List a person's projects, newest first."""
    owner, now = user or getpass.getuser(), utcnow()
    found = Site(load_settings()).workspaces.projects(owner)
    changed = {p.name: datetime.fromtimestamp(p.changed, timezone.utc) for p in found}
    emit(
        [{"project": name, "changed": at} for name, at in changed.items()],
        as_json,
        lambda _: table(("project", "changed"), [(n, text.ago(at, now)) for n, at in changed.items()]),
    )


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(project, name="project")
