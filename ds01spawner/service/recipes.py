"""The builder's form: fields to a recipe, a recipe to fields. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from ..environments.builder.recipe import Recipe, parse_recipe

LISTS = ("pip", "conda", "channels", "apt")
LINES = ("title", "description", "base", "python", "requirements", "environment_yml", "dockerfile")
MAX_TEXT = 60_000


@dataclass
class Filled:
    """The form as it was filled in; ``problems`` are what is wrong with it, in words."""

    project: str = ""
    tag: str = "latest"
    hold_versions: bool = False
    values: dict[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> str:
        """A field's text."""
        return self.values.get(name, "")


def read(argument: Callable[[str], str]) -> Filled:
    """The form's fields; ``project_new`` wins over ``project`` where it is filled."""
    project = argument("project_new").strip() or argument("project").strip()
    values = {name: argument(name)[:MAX_TEXT].strip() for name in (*LINES, *LISTS)}
    if argument("way") == "dockerfile":
        values["dockerfile"] = values["dockerfile"] or "Dockerfile"
    elif argument("way") == "packages":
        values["dockerfile"] = ""
    tag = argument("tag").strip() or "latest"
    return Filled(project, tag, argument("hold_versions") in ("1", "on"), values)


def recipe_of(filled: Filled) -> Recipe:
    """The recipe the form asks for; `yaml_reader.FileProblems` for what cannot be built.

    Packages stand one a line; a comment is left out. With a Dockerfile, base and packages are not asked.
    """
    data: dict[str, object] = {name: filled[name] for name in LINES if filled[name]}
    for name in LISTS:
        if items := lines(filled[name]):
            data[name] = items
    if filled["dockerfile"]:
        data = {n: data[n] for n in ("title", "description", "dockerfile") if n in data}
    return parse_recipe(data, "recipe")


def lines(text: str) -> list[str]:
    """The entries of a text field: one a line, comments left out."""
    found = (re.sub(r"(^|\s)#.*$", "", line).strip() for line in text.splitlines())
    return [line for line in found if line]


def filled_from(recipe: Recipe, project: str, tag: str = "latest") -> Filled:
    """The form for a recipe."""
    values = {name: getattr(recipe, name) for name in LINES}
    values |= {name: "\n".join(getattr(recipe, name)) for name in LISTS}
    return Filled(project, tag, values=values)
