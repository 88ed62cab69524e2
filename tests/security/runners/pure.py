"""What people type or write, held against the very functions that every path uses. Nothing is started.

``does`` has one of ``options``, ``form``, ``recipe``, ``recipe_text``, ``course``, ``project``, ``text``,
``server``, ``folder``, ``terminal``, ``body`` with the input; ``{long}`` in it stands for 100,000 letters and
``{deep}`` for 5,000 opening brackets. Returns ``refused`` and ``text``, what was answered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ds01spawner.cli.common import printable
from ds01spawner.core import freetext, yaml_reader
from ds01spawner.core.errors import DS01Error
from ds01spawner.core.names import folder_name, is_server_name
from ds01spawner.courses.spec import parse_course
from ds01spawner.environments.builder.recipe import load_recipe, parse_recipe
from ds01spawner.policy.options import from_form, is_project_name, parse_options
from ds01spawner.service import bodies


def run(row: Any, stage: Any) -> dict[str, Any]:
    """Try it."""
    ((kind, given),) = row.does.items()
    try:
        answer = WAYS[kind](_filled(given))
    except (DS01Error, ValueError) as error:
        return {"refused": True, "text": str(error), "gives": ""}
    return {"refused": answer is False, "text": repr(answer), "gives": answer}


def _filled(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("{long}", "a" * 100_000).replace("{deep}", "[" * 5000)
    if isinstance(value, dict):
        return {_filled(k): _filled(v) for k, v in value.items()}
    return [_filled(v) for v in value] if isinstance(value, list) else value


def _course(given: Any) -> Any:
    base = {"course": "nlp", "title": "NLP", "roster": ["nlp"], "image": "ds01/lab:latest"}
    return parse_course(yaml_reader.Document("course.yaml", {**base, **given}, {})).id


WAYS: dict[str, Callable[[Any], Any]] = {
    "options": lambda v: parse_options(v).stored(),
    "form": lambda v: parse_options(from_form(v)).stored(),
    "recipe": lambda v: parse_recipe(v).as_yaml(),
    "recipe_text": lambda v: load_recipe(v).as_yaml(),
    "course": _course,
    "project": is_project_name,
    "text": freetext.checked,
    "server": is_server_name,
    "folder": folder_name,
    "terminal": printable,
    "body": lambda v: bodies.parse(v.encode("utf-8", "surrogatepass")),
}
