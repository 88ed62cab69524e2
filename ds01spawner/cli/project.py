"""``ds01 project``: folders of a workspace, made with the right owner before a first session."""

from __future__ import annotations

import getpass
from datetime import datetime, timezone
from typing import Annotated

import typer

from ..options import PROJECT_HELP, is_project_name
from ..pages import text
from ..settings import load_settings
from ..site import Site
from .common import Json, emit, refuse, table
from .times import utcnow

project = typer.Typer(help="Projects: folders that stay when sessions go.", no_args_is_help=True)
User = Annotated[str, typer.Option(help="Whose; you, where not given.")]


@project.command("init")
def init(
    name: Annotated[str, typer.Argument(help="Name of the project.")], user: User = "", as_json: Json = False
) -> None:
    """Make a project; one that is there already is left as it is."""
    if not is_project_name(name):
        refuse(f"{name!r} cannot be a project: {PROJECT_HELP}.", as_json)
    owner = user or getpass.getuser()
    made = Site(load_settings()).workspaces.prepare(owner, name)
    data = {
        "ok": True,
        "project": name,
        "user": owner,
        "path": str(made.path),
        "uid": made.identity.uid,
        "created": made.created,
    }
    word = "is made" if made.created else "was there already"
    emit(data, as_json, lambda _: print(f"The project {name} of {owner} {word}: {made.path}"))


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
