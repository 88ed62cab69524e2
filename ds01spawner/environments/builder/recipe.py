"""How an environment is built: a base and packages, or a Dockerfile. Pure, and strict about names.

Every name here ends up in a file that pip, apt or conda reads, so each is held against a grammar that has
no room for options, addresses, paths or commands. Nothing is ever put into a shell line.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from packaging.requirements import InvalidRequirement, Requirement
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ...core import freetext, yaml_reader
from ...core.errors import Problem

FILE_NAME = "recipe.yaml"
"""Where a project keeps its recipe, so that it is under version control with the rest."""
LOCK_NAME = "recipe.lock.json"
MAX_PACKAGES = 300

_APT = re.compile(r"[a-z0-9][a-z0-9+.-]{1,80}(?:=[A-Za-z0-9][A-Za-z0-9.+:~-]{0,80})?")
_CONDA = re.compile(
    r"(?:[A-Za-z0-9][A-Za-z0-9_.-]{0,40}::)?"  # channel
    r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,80}"  # name
    r"(?: ?[<>=!~]=?[A-Za-z0-9][A-Za-z0-9_.!+*-]{0,40}"  # version
    r"(?:[,|][<>=!~]=?[A-Za-z0-9][A-Za-z0-9_.!+*-]{0,40})*)?"
    r"(?:=[A-Za-z0-9_*]{1,40})?"  # build
)
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.*+!_-]*")
_CHANNEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,60}")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}")
_PATH = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_./ -]{0,199}")
_PYTHON = re.compile(r"3\.[0-9]{1,2}")


def pip_package(text: str) -> str:
    """A PEP 508 name with extras, versions and markers; ``ValueError`` says what else it is."""
    _plain(text, "a package")
    if text.startswith("-"):
        raise ValueError(f"{text!r} is an option of pip; only package names and versions may stand here")
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        raise ValueError(
            f'{text!r} is not a package with an optional version, such as "numpy" or "torch>=2.5,<3"'
        ) from None
    odd_version = any(not _VERSION.fullmatch(s.version) for s in requirement.specifier)
    if odd_version or re.search(r"\s-|[\\$`]", text):
        raise ValueError(f"{text!r} has signs that no version or marker needs")
    if requirement.url is not None:
        raise ValueError(f"{text!r} names an address; packages come from the site's index only")
    return str(requirement)


def apt_package(text: str) -> str:
    """A Debian package name, perhaps with ``=version``."""
    _plain(text, "an apt package")
    if not _APT.fullmatch(text) or text.endswith("-") or "=-" in text:
        raise ValueError(f'{text!r} is not a Debian package name, such as "libgl1" or "git=1:2.39.5-0"')
    return text


def conda_package(text: str) -> str:
    """A conda match of name, versions and build: ``pytorch>=2.5``, ``conda-forge::r-base=4.3``."""
    _plain(text, "a conda package")
    if not _CONDA.fullmatch(text):
        raise ValueError(f'{text!r} is not a conda package, such as "numpy" or "pytorch>=2.5"')
    return text


def _plain(text: str, what: str) -> None:
    if not isinstance(text, str):
        raise ValueError(f"{what} is text; put {text!r} in quotes")
    if not text.isascii() or not text.isprintable():
        raise ValueError(f"{what} has plain letters, digits and signs only; {ascii(text)[:60]} has others")
    if len(text) > 200 or text != text.strip() or not text:
        raise ValueError(f"{what} has 1 to 200 characters and no space around it")


def inside_path(text: str) -> str:
    """A file's path inside the project: relative, without ``..``."""
    _plain(text, "a path")
    parts = text.split("/")
    if not _PATH.fullmatch(text) or any(p in ("", ".", "..") for p in parts):
        raise ValueError(f"{text!r} is not a path inside the project, such as `requirements.txt`")
    return text


class Recipe(BaseModel):
    """A validated recipe. Either ``dockerfile``, or a base with packages; both get the session layer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = Field(default="", max_length=80)
    description: str = Field(default="", max_length=400)
    base: str = ""
    """Environment id or image to start from; empty means the site's default environment."""
    python: str = ""
    """Wanted Python, ``3.11``; the build says so when the base has another."""
    pip: tuple[str, ...] = ()
    conda: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    apt: tuple[str, ...] = ()
    requirements: str = ""
    """Path of a requirements.txt in the project."""
    environment_yml: str = ""
    dockerfile: str = ""
    """Path of a Dockerfile in the project; excludes base and packages."""

    @field_validator("base")
    @classmethod
    def _base(cls, value: str) -> str:
        if value and (not _IMAGE.fullmatch(value) or ".." in value):
            raise ValueError("base is an environment's id or an image, such as `lab` or `python:3.12-slim`")
        return value

    @field_validator("python", mode="before")
    @classmethod
    def _python(cls, value: Any) -> Any:
        if isinstance(value, float):
            raise ValueError(f'write the version in quotes: "{value}"')
        if value and not (isinstance(value, str) and _PYTHON.fullmatch(value)):
            raise ValueError('python is a version such as "3.11"')
        return value

    @field_validator("pip", "conda", "apt", "channels", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        if value is None:
            return ()
        if not isinstance(value, (list, tuple)):
            raise ValueError("a list is expected here, one `- name` a line")
        if len(value) > MAX_PACKAGES:
            raise ValueError(f"more than {MAX_PACKAGES} packages")
        return value

    @field_validator("requirements", "environment_yml", "dockerfile")
    @classmethod
    def _path(cls, value: str) -> str:
        return inside_path(value) if value else ""

    @field_validator("title", "description")
    @classmethod
    def _text(cls, value: str) -> str:
        return freetext.checked(value)

    @model_validator(mode="after")
    def _one_way(self) -> Recipe:
        given = [
            n for n in ("base", "pip", "conda", "apt", "requirements", "environment_yml") if getattr(self, n)
        ]
        if self.dockerfile and given:
            raise ValueError(f"dockerfile says everything itself; leave {', '.join(given)} out, or it")
        return self

    def as_yaml(self) -> str:
        """The recipe as the file people keep: only what is set, in a fixed order."""
        data = self.model_dump(mode="json", exclude_defaults=True)
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, default_flow_style=False)

    def with_pip(self, packages: list[str]) -> Recipe:
        """The recipe with ``packages`` added; one that is there already by name is replaced."""
        new = {_key(p): p for p in packages}
        kept = [p for p in self.pip if _key(p) not in new]
        return parse_recipe({**self.model_dump(exclude_defaults=True), "pip": [*kept, *new.values()]})


def _key(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", Requirement(requirement).name).lower()


_CHECKS = {"pip": pip_package, "apt": apt_package, "conda": conda_package}


def parse_recipe(data: Any, name: str = FILE_NAME) -> Recipe:
    """A recipe out of plain data (a form, REST, the store); `FileProblems` lists what is wrong."""
    return from_document(yaml_reader.Document(name, data, {}))


def load_recipe(text: str, name: str = FILE_NAME) -> Recipe:
    """A recipe out of YAML text; every problem has its line."""
    return from_document(yaml_reader.parse(text, name))


def from_document(document: yaml_reader.Document) -> Recipe:
    """Validate a document: its keys first, then every package, so that all problems are told at once."""
    recipe = yaml_reader.validate(document, Recipe)
    problems = []
    checked: dict[str, tuple[str, ...]] = {}
    for key, check in _CHECKS.items():
        done = []
        for index, item in enumerate(getattr(recipe, key)):
            try:
                done.append(check(item))
            except ValueError as error:
                problems.append(document.problem((key, index), str(error)))
        checked[key] = tuple(done)
    problems += [
        document.problem(("channels", i), f"{c!r} is not a channel's name; addresses are not allowed")
        for i, c in enumerate(recipe.channels)
        if not _CHANNEL.fullmatch(c)
    ]
    if problems:
        raise yaml_reader.FileProblems(sorted(problems, key=lambda p: p.line))
    return recipe.model_copy(update=checked)


def requirements_text(text: str, name: str) -> tuple[str, ...]:
    """The packages of a requirements.txt. Options, addresses, files and continuations are refused."""
    packages, problems = [], []
    for number, raw in enumerate(text.splitlines(), 1):
        line = re.sub(r"(^|\s)#.*$", "", raw).strip()
        if not line:
            continue
        try:
            packages.append(pip_package(line))
        except ValueError as error:
            problems.append(Problem(name, number, "", str(error)))
    if len(packages) > MAX_PACKAGES:
        problems.append(Problem(name, 0, "", f"more than {MAX_PACKAGES} packages"))
    if problems:
        raise yaml_reader.FileProblems(problems)
    return tuple(packages)


class _EnvironmentYml(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = ""
    channels: tuple[str, ...] = ()
    dependencies: tuple[str | dict[str, tuple[str, ...]], ...] = ()


def environment_yml(text: str, name: str) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """``(conda, pip, channels)`` of a conda environment.yml; the same grammar holds for every name."""
    document = yaml_reader.parse(text, name)
    parsed = yaml_reader.validate(document, _EnvironmentYml)
    conda = [d for d in parsed.dependencies if isinstance(d, str)]
    pip: list[str] = []
    for item in parsed.dependencies:
        if isinstance(item, dict):
            if set(item) != {"pip"}:
                raise yaml_reader.FileProblems(
                    [document.problem(("dependencies",), "only `pip:` may have a list")]
                )
            pip += item["pip"]
    recipe = from_document(
        yaml_reader.Document(
            name, {"conda": conda, "pip": pip, "channels": list(parsed.channels)}, document.lines
        )
    )
    return recipe.conda, recipe.pip, recipe.channels
