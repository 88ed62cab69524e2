"""What a `course.yaml` says, and what changes when it is applied. Pure but for reading the file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..core import freetext, yaml_reader
from ..environments import reference
from ..environments.builder.recipe import Recipe, from_document, inside_path
from ..environments.naming import course_repository

SLUG = r"^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$"


class Compute(BaseModel):
    """What the course's launch card pre-selects; limits and quota still hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gpu: str = Field(
        default="none", pattern=r"^(none|auto|full|(?:[1-7]c\.)?[1-7]g\.[0-9]{1,4}gb(?:\+[a-z.]+)?)$"
    )
    gpu_count: int = Field(default=1, ge=1, le=16)
    lifetime: str = Field(default="", pattern=r"^([0-9]+[mhd])?$")


class DataMount(BaseModel):
    """A folder of the server that every session of the course sees, read-only."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    target: str

    @field_validator("source")
    @classmethod
    def _source(cls, value: str) -> str:
        return _absolute(value)

    @field_validator("target")
    @classmethod
    def _target(cls, value: str) -> str:
        value = _absolute(value)
        if not value.startswith(("/data/", "/course/")) and value not in ("/data", "/course"):
            raise ValueError("data is mounted at or below /data or /course")
        return value


def _absolute(value: str) -> str:
    parts = value.split("/")[1:]
    if not value.startswith("/") or not parts or any(p in ("", ".", "..") for p in parts) or ":" in value:
        raise ValueError(f"{value!r} is not a plain absolute path")
    return value


class CourseFile(BaseModel):
    """`course.yaml`. Exactly one of ``recipe`` and ``image``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    course: str = Field(pattern=SLUG)
    """Short name, part of links and of the image's name."""
    title: str = Field(min_length=1, max_length=80)
    description: str = Field(default="", max_length=400)
    staff: tuple[str, ...] = ()
    """People who may build and publish it; whoever applies it first is one of them."""
    roster: tuple[str, ...] = Field(min_length=1)
    """Hub groups whose members see the course."""
    recipe: dict[str, Any] | None = None
    image: str = Field(default="", pattern=r"^([A-Za-z0-9][A-Za-z0-9._/:@-]{0,254})?$")
    compute: Compute = Compute()
    data: tuple[DataMount, ...] = ()
    starter: str = ""
    """Folder, beside this file, that is copied once into each student's project."""

    @field_validator("image")
    @classmethod
    def _image(cls, value: str) -> str:
        if value:
            reference.parse(value)
        return value

    @field_validator("staff", "roster", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("staff", "roster")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            odd = any(c.isspace() or c in "/,:" for c in name) or freetext.problem(name)
            if not name or len(name) > 100 or odd:
                raise ValueError(f"{name[:40]!r} is not the name of a person or group")
        return value

    @field_validator("title", "description")
    @classmethod
    def _text(cls, value: str) -> str:
        return freetext.checked(value)

    @field_validator("starter")
    @classmethod
    def _starter(cls, value: str) -> str:
        return inside_path(value) if value else ""

    @model_validator(mode="after")
    def _one_source(self) -> CourseFile:
        if bool(self.recipe) == bool(self.image):
            raise ValueError("a course has either a `recipe` or an `image`")
        return self


@dataclass(frozen=True)
class Course:
    """A validated course: its file and, where it has one, its recipe."""

    file: CourseFile
    recipe: Recipe | None

    @property
    def id(self) -> str:
        """The course's short name."""
        return self.file.course

    @property
    def reference(self) -> str:
        """The image that builds of the course make; students get what is published of it."""
        return f"{course_repository(self.id)}:candidate"

    def as_data(self) -> dict[str, object]:
        """What the store keeps: everything the file says, defaults included."""
        return self.file.model_dump(mode="json", exclude={"version"})


def load_course(path: Path) -> Course:
    """Read a `course.yaml`; `yaml_reader.FileProblems` names file, line and key."""
    return parse_course(yaml_reader.read(path))


def parse_course(document: yaml_reader.Document) -> Course:
    """Validate a course out of a document."""
    file = yaml_reader.validate(document, CourseFile)
    recipe = None
    if file.recipe is not None:
        lines = {loc[1:]: line for loc, line in document.lines.items() if loc[:1] == ("recipe",)}
        inner = yaml_reader.Document(document.name, file.recipe, lines)
        recipe = from_document(inner)
        if recipe.dockerfile or recipe.requirements or recipe.environment_yml:
            raise yaml_reader.FileProblems(
                [
                    document.problem(
                        ("recipe",), "a course's recipe lists its packages itself, no files of a project"
                    )
                ]
            )
    return Course(file, recipe)


@dataclass(frozen=True)
class Change:
    """One difference between what is stored and what the file says."""

    key: str
    before: Any
    after: Any

    def __str__(self) -> str:
        """The change as a line of a diff."""
        if self.before is None:
            return f"+ {self.key}: {self.after}"
        if self.after is None:
            return f"- {self.key}: {self.before}"
        return f"~ {self.key}: {self.before} → {self.after}"


def diff(stored: Mapping[str, object] | None, wanted: Mapping[str, object]) -> list[Change]:
    """What applying would change; empty means nothing. Pure."""
    before = stored or {}
    keys = [*wanted, *(k for k in before if k not in wanted and k not in _KEPT)]
    return [Change(k, before.get(k), wanted.get(k)) for k in keys if before.get(k) != wanted.get(k)]


_KEPT = frozenset({"pinned", "former", "starter_files", "prepared", "built"})
"""Keys of the document that the file does not have."""


def needs_build(changes: Iterable[Change]) -> bool:
    """Whether a change makes another image."""
    return any(change.key in ("recipe", "image") for change in changes)
