"""``ds01 course``: apply a `course.yaml`, prepare its image, publish it, close it."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn

from ..core.settings import Settings, load_settings
from ..core.yaml_reader import FileProblems
from ..courses import publication as courses
from ..courses.spec import load_course, needs_build
from ..engines.docker.image_store import ImageMissing, Images
from ..environments.builder.builds import BuildLimits, BuildRequest
from ..environments.builder.recipe import parse_recipe
from ..environments.builder.sitebuild import site_images
from ..environments.facts import ImageFacts
from ..environments.naming import course_repository
from ..environments.pulling import Pulled
from ..environments.rights import Reader
from ..store import Store
from ..store.rows import CourseRow
from ..workspace import starter_files
from ..workspace.projectfiles import ProjectFiles
from .common import Json, console, emit, refuse, table
from .image import resolver_of, run_build, start_of
from .times import utcnow

course = typer.Typer(help="Courses: images prepared ahead, published to a roster.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="The course's short name.")]
By = Annotated[str, typer.Option(help="Who does it; you, where not given.")]


def _open() -> tuple[Settings, Store, Images]:
    settings = load_settings()
    return settings, Store.open(settings.store), site_images(settings)


def _admin(by: str) -> Reader:
    """Whoever may run this command administers the engine."""
    return Reader(by or getpass.getuser(), admin=True)


@course.command("apply")
def apply(
    file: Annotated[Path, typer.Argument(help="The course.yaml.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference, change nothing.")] = False,
    by: By = "",
    as_json: Json = False,
) -> None:
    """Bring a course to what its file says. Doing it twice changes nothing; nothing is published."""
    try:
        wanted = load_course(file)
    except FileProblems as problems:
        refuse(str(problems), as_json, problems=[p.as_dict() for p in problems.problems])
    settings, store, images = _open()
    starter = None
    if wanted.file.starter and not dry_run:
        beside = file.resolve().parent
        owner = beside.stat()  # what they cannot read is not handed out
        files = ProjectFiles(beside, (), owner.st_uid, owner.st_gid)
        starter = starter_files.keep_starter(settings.courses, wanted.id, files, wanted.file.starter)
    changes = courses.apply(
        store,
        wanted,
        by or getpass.getuser(),
        utcnow(),
        dry_run=dry_run,
        data_roots=settings.data_roots,
        starter=starter,
        check=lambda name: resolver_of(settings, images, store).check(name, _admin(by)),
    )
    data = {
        "ok": True,
        "course": wanted.id,
        "dry_run": dry_run,
        "changes": [vars(c) for c in changes],
        "needs_build": needs_build(changes) and wanted.recipe is not None,
    }

    def text(_: Any) -> None:
        print("\n".join(str(c) for c in changes) or f"The course {wanted.id} is as its file says.")
        if data["needs_build"] and not dry_run:
            print(f"Next: ds01 course prepull {wanted.id}, test it, ds01 course publish {wanted.id}")

    emit(data, as_json, text)


@course.command("list")
def list_courses(as_json: Json = False) -> None:
    """List courses with what students get."""
    _, store, _ = _open()
    rows = [
        {
            "course": row.id,
            "state": row.state,
            "title": row.data.get("title", ""),
            "staff": row.data.get("staff", []),
            "roster": row.data.get("roster", []),
            "pinned": row.data.get("pinned", ""),
        }
        for row in store.courses.find()
    ]
    columns = ("course", "state", "title", "roster", "image")
    shown = [(r["course"], r["state"], r["title"], ", ".join(r["roster"]), r["pinned"][7:19]) for r in rows]
    emit(rows, as_json, lambda _: table(columns, shown))


@course.command("prepull")
def prepull(name: Name, as_json: Json = False) -> None:
    """Have the course's image on this machine before the class: pull it, or build its recipe."""
    settings, store, images = _open()
    row = store.courses.get(name)
    if row is None:
        refuse(f"There is no course {name!r}; apply its course.yaml first.", as_json)
    data = row.data
    if data.get("image"):
        try:
            facts = images.inspect(data["image"])
        except ImageMissing:
            facts = _pull(images, data["image"], as_json)
        done = {"ok": True, "course": name, "image": facts.id}
        emit(done, as_json, lambda _: print(f"{data['image']} is on this machine ({facts.id[7:19]})"))
        return
    run_build(settings, images, build_request(settings, images, row), as_json)


def _pull(images: Images, reference: str, as_json: bool) -> ImageFacts:
    """Pull with a bar of bytes in a terminal, a line now and then elsewhere, nothing for JSON."""
    if as_json:
        return images.pull(reference)
    print(f"Fetching {reference}")
    with Progress(BarColumn(), TextColumn("{task.fields[far]}"), console=console) as progress:
        task = progress.add_task("", total=None, far="")

        def tell(pulled: Pulled) -> None:
            progress.update(task, completed=pulled.current, total=pulled.total or None, far=str(pulled))

        return images.pull(reference, tell)


def build_request(settings: Settings, images: Images, row: CourseRow, by: str = "") -> BuildRequest:
    """The build of a stored course's recipe; what comes out is the candidate that can be published."""
    recipe = parse_recipe(row.data.get("recipe") or {})
    owner = row.owner or "course"
    reader = Reader(owner)
    return BuildRequest(
        owner=owner,
        environment=f"course/{row.id}",
        reference=f"{course_repository(row.id)}:candidate",
        recipe=recipe,
        base=start_of(settings, images, recipe, reader),
        reader=reader,
        limits=BuildLimits(),
        kind="course",
        course=row.id,
        groups=tuple(row.data.get("roster", ())),
        by=by or owner,
    )


@course.command("publish")
def publish(
    name: Name,
    image: Annotated[str, typer.Option(help="Image to publish; what was built last, where not given.")] = "",
    back: Annotated[bool, typer.Option("--back", help="Publish the release before again.")] = False,
    by: By = "",
    as_json: Json = False,
) -> None:
    """Give students an image from their next start on. Running sessions keep theirs."""
    settings, store, images = _open()
    who, now = by or getpass.getuser(), utcnow()

    def resolve(wanted: str) -> ImageFacts:
        return resolver_of(settings, images, store).resolve(wanted, _admin(who))

    if back:
        image_id = courses.step_back(store, images, name, who, now, resolve=resolve)
    else:
        image_id = courses.publish(store, images, name, who, now, image=image, resolve=resolve)
    data = {"ok": True, "course": name, "image": image_id}
    emit(data, as_json, lambda _: print(f"The course {name} gives {image_id[7:19]} from the next start on."))


@course.command("close")
def close(name: Name, by: By = "", as_json: Json = False) -> None:
    """Take a course's card away. Workspaces, images and history stay."""
    _, store, _ = _open()
    courses.close(store, name, by or getpass.getuser(), utcnow())
    emit({"ok": True, "course": name}, as_json, lambda _: print(f"The course {name} is closed."))


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(course, name="course")
