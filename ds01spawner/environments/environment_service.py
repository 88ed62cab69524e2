"""What a person may do with environments, asked in one place by pages, REST and the command line.

Every call names the person; nothing of another person's is found, read or changed. Blocking: call from a
thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .. import messages
from ..core import logtext
from ..core.errors import Refused
from ..courses import publication as courses
from ..engines.docker import snapshot
from ..engines.docker.image_store import ImageMissing
from ..policy.options import is_project_name
from ..policy.resolve import Limits, Person
from ..policy.storage import project_room
from ..store.rows import BuildRow, EnvironmentRow
from ..workspace.projectfiles import ProjectFileError, ProjectFiles
from ..workspace.projects import Workspace
from . import inventory, records, sharing
from .builder.builds import BuildRequest, BuildRunner, limits_from
from .builder.gitcommit import commit_file
from .builder.recipe import FILE_NAME, Recipe, load_recipe, parse_recipe
from .builder.room import Room, admit_share
from .builder.sitebuild import base_for
from .catalogue import Listed
from .naming import checked_tag, course_repository, owns, parse_user_image, user_image
from .ownership import BUILT_LABEL, OWNER_LABEL, REPRODUCIBLE_LABEL
from .rights import Reader

if TYPE_CHECKING:
    from ..site import Site


COMMIT_MESSAGE = "Change the environment's recipe"
LEGACY_FOLDER = "dockerfiles"
"""Beside the projects: ``dockerfiles/<project>.Dockerfile``."""


@dataclass(frozen=True)
class LogLine:
    """One line of a build's log, as text and with its colours as safe HTML."""

    seq: int
    text: str
    html: str


@dataclass(frozen=True)
class BuildLog:
    """A build with lines of its log."""

    row: BuildRow
    lines: Sequence[LogLine]

    @property
    def reason(self) -> str:
        """Why it failed, where it did."""
        return str(self.row.data.get("reason", ""))


@dataclass(frozen=True)
class OwnBuild(BuildRow):
    """A build with its place in the queue of builds."""

    position: int | None = None


class EnvironmentService:
    """See the module. ``site`` gives workspaces, store and catalogue, ``runner`` builds."""

    def __init__(self, site: Site, runner: BuildRunner, clock: Callable[[], datetime]) -> None:
        self.site = site
        self.runner = runner
        self.images = runner.images
        self.store = runner.store
        self.clock = clock

    # ------------------------------------------------------------ recipes and builds

    def files(self, person: Person, limits: Limits, project: str) -> ProjectFiles:
        """The files of a person's project; made when it is not there yet. Only for what writes into it."""
        if not is_project_name(project):
            raise Refused(messages.bad_environment(f"{project[:60]!r} is not the name of a project"))
        return self._files(self.site.workspaces.prepare(person.name, project, project_room(limits)))

    def found(self, person: Person, project: str) -> ProjectFiles | None:
        """The files of a project that is there; looking makes nothing."""
        if not is_project_name(project):
            raise Refused(messages.bad_environment(f"{project[:60]!r} is not the name of a project"))
        workspace = self.site.workspaces.find(person.name, project)
        return self._files(workspace) if workspace else None

    def _files(self, workspace: Workspace) -> ProjectFiles:
        parts = workspace.path.relative_to(self.site.workspaces.root).parts
        return ProjectFiles(self.site.workspaces.root, parts, workspace.identity.uid, workspace.identity.gid)

    def recipe(self, person: Person, project: str) -> Recipe | None:
        """The recipe a project keeps; a Dockerfile alone counts as one. `FileProblems` when it is wrong.

        A Dockerfile in the place where the DS01 command line once kept them counts too; the first build
        brings it into the project.
        """
        files = self.found(person, project)
        if files is None:
            return None
        if (text := files.read_text(FILE_NAME)) is not None:
            return load_recipe(text)
        known = files.read_text("Dockerfile") is not None or self._legacy(files, project) is not None
        return parse_recipe({"dockerfile": "Dockerfile"}) if known else None

    def _legacy(self, files: ProjectFiles, project: str) -> str | None:
        place = replace(files, parts=(*files.parts[:-1], LEGACY_FOLDER))
        try:
            return place.read_text(f"{project}.Dockerfile")
        except ProjectFileError:
            return None  # no such folder, or not a plain file: then there is nothing to bring

    def build(
        self,
        person: Person,
        limits: Limits,
        listed: list[Listed],
        project: str,
        recipe: Recipe,
        tag: str = "latest",
        hold_versions: bool = False,
    ) -> str:
        """Keep the recipe in the project and queue its build; returns the build's id.

        ``hold_versions`` builds with the versions of the last build, so that nothing but the recipe
        changes.
        """
        try:
            reference = user_image(person.name, project, checked_tag(tag))
        except ValueError as error:
            raise Refused(messages.bad_environment(str(error))) from None
        self._may_build(limits)
        reader = reader_of(person)
        base = base_for(recipe, listed, lambda name: self.runner.resolver.check(name, reader))
        files = self.files(person, limits, project)
        missing = recipe.dockerfile == "Dockerfile" and files.read_text("Dockerfile") is None
        if missing and (legacy := self._legacy(files, project)) is not None:
            files.write_text("Dockerfile", legacy)
        known = self.store.environments.get(reference)
        lock = known.data.get("lock", {}) if known and hold_versions else {}
        note = self._keep_recipe(person, files, recipe)
        return self.runner.submit(
            BuildRequest(
                owner=person.name,
                environment=reference,
                reference=reference,
                recipe=recipe,
                base=base,
                limits=limits_from(limits.images.builds),
                project=files,
                constraints=tuple(lock.get("pip", ())),
                reader=reader,
                notes=(note,) if note else (),
            ),
            self._room(person, limits),
        )

    def build_course(
        self,
        person: Person,
        limits: Limits,
        listed: list[Listed],
        course: str,
        admin: bool,
        scopes: Iterable[str] = (),
    ) -> str:
        """Queue the build of a course's recipe; its staff may, without building rights of their own."""
        row = self.store.courses.get(course)
        if row is None or not courses.may_manage(row, person.name, admin, scopes):
            raise Refused(messages.not_yours("course", course))
        recipe = parse_recipe(row.data.get("recipe") or {})
        reader = reader_of(person)
        return self.runner.submit(
            BuildRequest(
                owner=person.name,
                environment=f"course/{course}",
                reference=f"{course_repository(course)}:candidate",
                recipe=recipe,
                base=base_for(recipe, listed, lambda name: self.runner.resolver.check(name, reader)),
                reader=reader,
                limits=limits_from(limits.images.builds),
                kind="course",
                course=course,
                groups=tuple(row.data.get("roster", ())),
            ),
            self._room(person, limits),
        )

    def builds(self, person: Person, environment: str | None = None) -> list[OwnBuild]:
        """A person's builds, newest first, with their place in the queue."""
        rows = self.store.builds.find(owner=person.name, environment=environment)
        return [OwnBuild(**vars(row), position=self.runner.position(row.id)) for row in rows]

    def log(self, person: Person, build: str, after: int = 0) -> BuildLog:
        """A build's state and the lines after ``after``, each with its colours as safe HTML."""
        row = self._own_build(person, build)
        lines = [
            LogLine(line.seq, logtext.plain(line.text), logtext.to_html(line.text))
            for line in self.store.builds.log(build, after=after)
        ]
        return BuildLog(row, lines)

    def cancel(self, person: Person, build: str) -> bool:
        """Stop one of the person's builds; False when it was over already."""
        self._own_build(person, build)
        return self.runner.cancel(build, f"cancelled by {person.name}")

    # ------------------------------------------------------------ images

    def get(self, person: Person, environment: str) -> EnvironmentRow:
        """An own environment as the store keeps it."""
        return self._own(person, environment)

    def rollback(self, person: Person, environment: str, to: str = "") -> str:
        """Go back to a former image of an own environment."""
        self._own(person, environment)
        return records.rollback(self.store, self.images, environment, self.clock(), to)

    def delete(self, person: Person, environment: str) -> list[str]:
        """Delete an own environment, refused while a session uses it; the groups it was shared with."""
        row = self._own(person, environment)
        records.delete(self.store, self.images, environment, row.data)
        return self.store.shares.end(environment, person.name, self.clock())

    def tag(self, person: Person, limits: Limits, environment: str, tag: str) -> str:
        """Keep an own environment as it is under a further tag, which counts as one more environment."""
        row = self._own(person, environment)
        self._still_theirs(person, environment)
        try:
            reference = snapshot.tagged(environment, tag)
            data = {"reference": reference, "current": row.data["current"], "previous": []}
            data |= {k: row.data[k] for k in ("size", "recipe", "lock") if k in row.data}
            with self._claimed(person, limits, reference, data):
                return snapshot.tag(self.images, environment, tag)
        except ValueError as error:
            raise Refused(messages.bad_environment(str(error))) from None

    def share(self, person: Person, limits: Limits, environment: str, group: str) -> list[str]:
        """Share an own environment with a group; the groups it is shared with now."""
        self._own(person, environment)
        if no := sharing.refusal(person, limits, environment, group):
            raise Refused(no)
        self._still_theirs(person, environment)
        self.store.shares.add(environment, group, person.name, person.name, self.clock(), admit_share)
        return self.shared_with(environment)

    def unshare(self, person: Person, environment: str, group: str) -> list[str]:
        """End it, from the group's next start on; also one that the limits no longer allow."""
        self._own(person, environment)
        self.store.shares.end(environment, person.name, self.clock(), group)
        return self.shared_with(environment)

    def shared_with(self, environment: str) -> list[str]:
        """The groups an environment is shared with."""
        return [share.group for share in self.store.shares.find(environment=environment)]

    # ------------------------------------------------------------ keeping a session's packages

    def new_packages(self, container: str, image_id: str) -> snapshot.PackageDiff:
        """What a running session has that its image has not. The caller has checked whose session it is."""
        for row in self.store.environments.find():
            if row.data.get("current") == image_id and row.data.get("lock"):
                before = snapshot.packages_of_lock(row.data["lock"])
                break
        else:
            before = inventory.packages(self.images, image_id)
        return snapshot.package_diff(snapshot.session_packages(self.images, container), before)

    def keep_packages(
        self, person: Person, limits: Limits, project: str, environment: str, diff: snapshot.PackageDiff
    ) -> Recipe:
        """Write a session's new packages into its project's recipe, which is made if there is none."""
        known = self.recipe(person, project)
        if known is not None and known.dockerfile:
            raise Refused(messages.made_by_dockerfile(diff.keep))
        recipe = snapshot.kept(known or parse_recipe({"base": environment}), diff)
        self._keep_recipe(person, self.files(person, limits, project), recipe)
        return recipe

    def _keep_recipe(self, person: Person, files: ProjectFiles, recipe: Recipe) -> str:
        """Write the recipe into its project, and commit it where that is under git; says what came of it."""
        text = recipe.as_yaml()
        if files.read_text(FILE_NAME) != text:
            files.write_text(FILE_NAME, text)
        done = commit_file(files, FILE_NAME, text, person.name, COMMIT_MESSAGE)
        return f"{FILE_NAME}: {done}" if str(done) else ""

    def save(self, person: Person, limits: Limits, project: str, container: str) -> str:
        """Save a session as an image of its project, where the policy allows it; returns its name.

        It is marked: nobody can build it again. The caller has checked whose session it is.
        """
        if not limits.images.commit:
            raise Refused(messages.may_not_save(limits.source("images.commit")))
        tag = f"saved-{self.clock().strftime('%Y%m%d-%H%M%S')}"
        reference = user_image(person.name, project, tag)
        self._may_build(limits)
        labels = {
            OWNER_LABEL: person.name,
            REPRODUCIBLE_LABEL: "false",
            BUILT_LABEL: self.clock().isoformat(timespec="seconds"),
        }
        data: dict[str, object] = {"reference": reference, "current": "", "previous": []}
        with self._claimed(person, limits, reference, data):
            snapshot.commit(self.images, container, reference, labels)
            current = self.images.inspect(reference)
            data |= {"current": current.id, "size": current.size}
            self.store.environments.put(reference, person.name, "mine", "ready", data, self.clock())
        return reference

    # ------------------------------------------------------------ rights

    def _room(self, person: Person, limits: Limits) -> Room:
        """How many environments the person may have. What the engine has beyond the store's rows counts."""
        found = (parse_user_image(tag) for facts in self.images.list() for tag in facts.tags)
        also = frozenset(i.reference for i in found if i is not None and owns(person.name, i))
        sources = limits.source("images.max"), limits.source("images.builds.queued")
        return Room(limits.images.max, *sources, also)

    @contextmanager
    def _claimed(
        self, person: Person, limits: Limits, reference: str, data: Mapping[str, object]
    ) -> Iterator[None]:
        """Count a new environment before it is made; what cannot be made after all is counted no more."""
        room, now = self._room(person, limits), self.clock()
        new = self.store.environments.claim(
            reference, person.name, data, now, lambda own: room.admit(reference, own)
        )
        try:
            yield
        except BaseException:
            if new:
                self.store.environments.delete(reference)
            raise

    def _may_build(self, limits: Limits) -> None:
        if not limits.images.build:
            raise Refused(messages.may_not_build(limits.source("images.build")))

    def _own(self, person: Person, environment: str) -> EnvironmentRow:
        row = self.store.environments.get(environment) or self._tagged(person, environment)
        if row is None or row.owner != person.name or row.kind != "mine":
            raise Refused(messages.not_yours("environment", environment))
        return row

    def _still_theirs(self, person: Person, environment: str) -> None:
        """Refuse to pass on what an own name leads to, where that is another person's image."""
        with suppress(ImageMissing):
            facts = self.images.inspect(environment)
            if not self.runner.resolver.readable(facts, reader_of(person)):
                raise Refused(messages.not_yours("environment", environment))

    def _tagged(self, person: Person, environment: str) -> EnvironmentRow | None:
        """An own image that no build of ours wrote down: a further tag, or one of the command line."""
        parsed = parse_user_image(environment)
        if parsed is None or not owns(person.name, parsed):
            return None
        try:
            facts = self.images.inspect(environment)
        except ImageMissing:
            return None
        if not self.runner.resolver.readable(facts, reader_of(person)):
            return None
        data, now = {"reference": environment, "current": facts.id, "size": facts.size}, self.clock()
        return EnvironmentRow(environment, person.name, "ready", now, now, data, kind="mine")

    def _own_build(self, person: Person, build: str) -> BuildRow:
        row = self.store.builds.get(build)
        if row is None or (row.owner != person.name and not self._staff_of(person, row)):
            raise Refused(messages.not_yours("build", build))
        return row

    def _staff_of(self, person: Person, build: BuildRow) -> bool:
        """Whether a build is a course's that the person teaches: its staff share their builds."""
        course = build.data.get("course", "")
        row = self.store.courses.get(course) if course else None
        return row is not None and courses.may_manage(row, person.name, person.admin)


def reader_of(person: Person) -> Reader:
    """A person as the rights on images know them. An administrator's builds have no further rights."""
    return Reader(person.name, frozenset(person.groups))


def as_card(listed: Listed) -> dict[str, Any]:
    """An environment as REST and templates show it."""
    data = asdict(listed.environment)
    data |= {"groups": sorted(listed.environment.groups), "people": sorted(listed.environment.people)}
    return {**data, "name": listed.environment.name, "allowed": listed.allowed, "reason": listed.reason}
