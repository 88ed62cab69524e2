"""``ds01 image``: check a recipe or an image, build, list, tag and prune environments."""

from __future__ import annotations

import getpass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, TypedDict

import typer

from ..core import logtext, text
from ..core.errors import Problem
from ..core.settings import Settings, load_settings
from ..core.yaml_reader import FileProblems, parse
from ..engines.docker import snapshot
from ..engines.docker.image_probe import probe
from ..engines.docker.image_store import ImageMissing, Images
from ..environments import sharing
from ..environments.builder import recipe
from ..environments.builder.buildnetwork import BuildsNetwork
from ..environments.builder.builds import FINAL, BuildLimits, BuildRequest, BuildRunner
from ..environments.builder.sitebuild import base_for, build_site, site_images
from ..environments.catalogue import Environment, Listed, load_catalogue
from ..environments.naming import HALF_BUILT_NAMESPACE, checked_tag, parse_user_image, user_image
from ..environments.ownership import OWNER_LABEL
from ..environments.preflight import check as preflight
from ..environments.registries import Registries
from ..environments.resolver import Resolver
from ..environments.rights import Reader
from ..policy.options import is_project_name
from ..site import Site
from ..store import Store
from ..workspace.projectfiles import ProjectFiles
from .common import Json, console, emit, refuse, table
from .times import utcnow

image = typer.Typer(help="Environments: recipes, builds, images.", no_args_is_help=True)


@image.command("check")
def check(
    what: Annotated[str, typer.Argument(help="A recipe file, or with --image an image.")],
    is_image: Annotated[bool, typer.Option("--image", help="Check an image on the engine instead.")] = False,
    as_json: Json = False,
) -> None:
    """Say whether a recipe can be built, or an image started, without doing either."""
    if is_image:
        _check_image(what, as_json)
        return
    try:
        found = read_recipe(Path(what))
    except FileProblems as problems:
        refuse(str(problems), as_json, problems=[p.as_dict() for p in problems.problems])
    data = {"ok": True, "file": what, "recipe": found.model_dump(mode="json", exclude_defaults=True)}
    emit(data, as_json, lambda _: print(f"{what}: a recipe that can be built"))


def read_recipe(path: Path) -> recipe.Recipe:
    """A recipe file; `FileProblems` for everything that is wrong with it."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", "") or "not UTF-8 text"
        raise FileProblems([Problem(str(path), 0, "", f"cannot be read: {reason}")]) from error
    return recipe.from_document(parse(text, str(path)))


def _check_image(reference: str, as_json: bool) -> None:
    settings = load_settings()
    images = site_images(settings)
    site = build_site(images, cuda=_cuda(settings))
    facts = images.inspect(reference)
    result = preflight(facts, site.host, probe(images, facts.id) if images.needs_probe(facts) else None)
    rows = [(f.check, f.level, f.message, f.mend) for f in result.findings]
    emit(result.as_dict(), as_json, lambda _: table(("check", "result", "says", "mend"), rows))
    if not result.ok:
        raise typer.Exit(1)


def _cuda(settings: Settings) -> str:
    return Site(settings).engine.inventory().inventory.cuda


class ImageJson(TypedDict):
    """An image as ``--json`` tells it."""

    image: str
    id: str
    owner: str
    size: int | None
    created: str
    in_use_by: list[str]
    shared_with: list[str]
    reproducible: bool


@image.command("list")
def list_images(
    user: Annotated[str, typer.Option(help="Only this person's.")] = "", as_json: Json = False
) -> None:
    """List people's and courses' images on the engine."""
    settings = load_settings()
    images, shared = site_images(settings), _shared(settings)
    used = images.in_use()
    rows: list[ImageJson] = []
    for facts in images.list():
        for reference in facts.tags:
            parsed = parse_user_image(reference)
            course = reference.startswith("ds01-course/")
            owner = facts.labels.get(OWNER_LABEL, "") or (parsed.owner if parsed else "")
            if (parsed is None and not course) or (user and owner != user):
                continue
            rows.append(
                {
                    "image": reference,
                    "id": facts.id,
                    "owner": owner,
                    "size": facts.size,
                    "created": facts.created,
                    "in_use_by": list(used.get(facts.id, ())),
                    "shared_with": shared.get(reference, []),
                    "reproducible": facts.labels.get("ds01.image.reproducible", "") != "false",
                }
            )
    rows.sort(key=lambda r: r["image"])
    columns = ("image", "owner", "size", "created", "in use by", "shared with")
    emit(rows, as_json, lambda _: table(columns, map(_row, rows)))


def _row(row: ImageJson) -> tuple[object, ...]:
    used, shared = ", ".join(row["in_use_by"]), ", ".join(row["shared_with"])
    return (
        row["image"],
        row["owner"],
        row["size"] and text.size(row["size"]),
        row["created"][:16],
        used,
        shared,
    )


def _shared(settings: Settings) -> dict[str, list[str]]:
    store = Store.open(settings.store)
    groups: dict[str, list[str]] = {}
    for share in store.shares.find():
        groups.setdefault(share.environment, []).append(share.group)
    store.close()
    return groups


@image.command("build")
def build(
    file: Annotated[Path, typer.Argument(help="The recipe.")],
    project: Annotated[str, typer.Option(help="Project the image is named after; its files may be used.")],
    user: Annotated[str, typer.Option(help="Whose image; you, where not given.")] = "",
    tag: Annotated[str, typer.Option(help="Tag of the image.")] = "latest",
    base: Annotated[str, typer.Option(help="Start from this image instead of the recipe's base.")] = "",
    as_json: Json = False,
) -> None:
    """Build an environment from a recipe and show the log."""
    owner = user or getpass.getuser()
    if not is_project_name(project):
        refuse(f"{project!r} is not a project's name.", as_json)
    try:
        wanted = read_recipe(file)
        reference = user_image(owner, project, tag)
    except (FileProblems, ValueError) as problem:
        refuse(str(problem), as_json)
    settings = load_settings()
    images = site_images(settings)
    reader = Reader(owner)
    start = base or start_of(settings, images, wanted, reader)
    workspace = Site(settings).workspaces.prepare(owner, project)
    files = ProjectFiles(
        settings.workspace_root,
        workspace.path.relative_to(settings.workspace_root).parts,
        workspace.identity.uid,
        workspace.identity.gid,
    )
    request = BuildRequest(
        owner, reference, reference, wanted, start, BuildLimits(), files, by=getpass.getuser(), reader=reader
    )
    run_build(settings, images, request, as_json)


def resolver_of(settings: Settings, images: Images, store: Store) -> Resolver:
    """What says which image a name means, with the site's own list."""
    registries = Registries(settings.image_registries)
    return Resolver(images, lambda: store, lambda: lab_of(settings), registries)


def lab_of(settings: Settings) -> tuple[Environment, ...]:
    """The environments of the site's own list."""
    return load_catalogue(settings.environments) if settings.environments else ()


def start_of(settings: Settings, images: Images, wanted: recipe.Recipe, reader: Reader) -> str:
    """What a recipe starts from, with the rights of ``reader``."""
    store = Store.open(settings.store)
    try:
        resolver = resolver_of(settings, images, store)
        listed = [Listed(e, True) for e in lab_of(settings)]
        return base_for(wanted, listed, lambda name: resolver.check(name, reader))
    finally:
        store.close()


def run_build(settings: Settings, images: Images, request: BuildRequest, as_json: bool) -> None:
    """Build in this process, log to the terminal; exit 1 when it did not become an image."""
    store = Store.open(settings.store)
    runner = BuildRunner(
        store,
        images,
        build_site(
            images,
            cuda=_cuda(settings),
            ready=BuildsNetwork(settings, images).ready,
            listed=lambda: lab_of(settings),
            registries=settings.image_registries,
        ),
    )
    try:
        number = runner.submit(request)
        seen, state = 0, ""
        while state not in FINAL:
            state = runner.wait(number, 0.5)
            for line in store.builds.log(number, after=seen):
                seen = line.seq
                if not as_json:
                    print(logtext.plain(line.text))
        row = store.builds.get(number)
        data = {"ok": state == "ready", "build": number, "state": state, "environment": request.environment}
        emit(
            {**data, **(row.data if row else {})}, as_json, lambda _: print(f"{request.environment}: {state}")
        )
        if state != "ready":
            raise typer.Exit(1)
    finally:
        runner.close()
        store.close()


@image.command("tag")
def tag_image(
    environment: Annotated[str, typer.Argument(help="Own environment, ds01-USER/PROJECT:TAG.")],
    name: Annotated[str, typer.Argument(help="Further tag, such as experiment-42.")],
    as_json: Json = False,
) -> None:
    """Keep an environment as it is now under a further tag."""
    try:
        reference = snapshot.tag(site_images(load_settings()), environment, checked_tag(name))
    except ValueError as error:
        refuse(str(error), as_json)
    emit({"ok": True, "image": reference}, as_json, lambda _: print(f"{environment} is kept as {reference}"))


Own = Annotated[str, typer.Argument(help="Somebody's environment, ds01-USER/PROJECT:TAG.")]


@image.command("share")
def share(
    environment: Own,
    group: Annotated[str, typer.Option(help="Hub group whose members see it from now on.")],
    as_json: Json = False,
) -> None:
    """Share an environment with a group. As an administrator: any environment, with any group."""
    if not sharing.is_group_name(group):
        refuse(f"{group[:40]!r} is not the name of a group.", as_json)
    settings = load_settings()
    parsed = parse_user_image(environment)
    if parsed is None:
        refuse(f"{environment} is not somebody's environment (ds01-USER/PROJECT:TAG).", as_json)
    try:
        facts = site_images(settings).inspect(environment)
    except ImageMissing:
        refuse(f"{environment} is not on this machine.", as_json)
    store = Store.open(settings.store)
    known = store.environments.get(environment)
    owner = known.owner if known else facts.labels.get(OWNER_LABEL, "") or parsed.owner
    store.shares.add(environment, group, owner, getpass.getuser(), utcnow())
    _tell_shared(store, environment, as_json)


@image.command("unshare")
def unshare(
    environment: Own,
    group: Annotated[str, typer.Option(help="Only this group; all of them, where not given.")] = "",
    as_json: Json = False,
) -> None:
    """End the sharing of an environment. Sessions that run it go on; the next start is refused."""
    store = Store.open(load_settings().store)
    store.shares.end(environment, getpass.getuser(), utcnow(), group or None)
    _tell_shared(store, environment, as_json)


def _tell_shared(store: Store, environment: str, as_json: bool) -> None:
    groups = [s.group for s in store.shares.find(environment=environment)]
    words = f"is shared with {', '.join(groups)}" if groups else "is shared with nobody"
    data = {"ok": True, "image": environment, "shared_with": groups}
    emit(data, as_json, lambda _: print(f"{environment} {words}"))


@image.command("prune")
def prune(
    days: Annotated[int, typer.Option(min=1, help="Remove what was not used for so many days.")] = 90,
    keep: Annotated[int, typer.Option(min=0, help="Newest images of each person that stay; 0 is all.")] = 0,
    yes: Annotated[bool, typer.Option("--yes", help="Really remove; without it nothing is.")] = False,
    as_json: Json = False,
) -> None:
    """Show what could be removed and why; with --yes remove it. Nothing in use is ever removed."""
    settings = load_settings()
    images, store = site_images(settings), Store.open(settings.store)
    rule = snapshot.PruneRule(timedelta(days=days), keep or None)
    plan = snapshot.prune_plan(
        images.list(), images.in_use(), referenced(store), last_used(store), rule, utcnow()
    )
    # What another hub is building just now is none of ours.
    plan = [item for item in plan if not _built_elsewhere(store, item.reference)]
    removed = []
    for item in plan:
        if item.remove and yes:
            images.remove(item.reference)
            store.shares.end(item.reference, getpass.getuser(), utcnow())
            removed.append(item.reference)
    rows = [
        (i.reference, "remove" if i.remove else "keep", i.size and text.size(i.size), i.reason) for i in plan
    ]
    data = {"dry_run": not yes, "removed": removed, "plan": [vars(i) for i in plan]}
    emit(data, as_json, lambda _: table(("image", "decision", "size", "reason"), rows))
    if not yes and not as_json and any(i.remove for i in plan):
        console.print("Nothing was removed; add --yes to do it.")


def _built_elsewhere(store: Store, reference: str) -> bool:
    space, _, rest = reference.partition("/")
    return space == HALF_BUILT_NAMESPACE and store.builds.get(rest.partition(":")[0]) is None


def referenced(store: Store) -> dict[str, str]:
    """Images that courses and environments hold on to, with the reason."""
    reasons: dict[str, str] = {}
    for row in store.courses.find():
        for key in ("pinned", "former"):
            if image_id := row.data.get(key):
                reasons[image_id] = f"the course {row.id} uses it"
    for environment in store.environments.find():
        if current := environment.data.get("current"):
            for former in environment.data.get("previous", ()):
                reasons.setdefault(former, f"{environment.id} can go back to it")
            base = environment.data.get("lock", {}).get("base")
            if base and base != current:
                reasons.setdefault(base, f"{environment.id} was built on it")
    return reasons


def last_used(store: Store) -> dict[str, datetime]:
    """When each image was last started, by image id."""
    times: dict[str, datetime] = {}
    for row in store.sessions.find(limit=100_000):
        if row.image:
            at = row.ended_at or row.started_at
            times[row.image] = max(at, times.get(row.image, at))
    return times


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(image, name="image")
