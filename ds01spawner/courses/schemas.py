"""JSON Schemas of the files people write; ``python -m ds01spawner.courses.schemas FOLDER`` writes them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ..environments.builder.recipe import Recipe
from ..environments.catalogue import CatalogueFile
from .spec import CourseFile

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, dict[str, object]]:
    """Each schema by its file name."""
    course = CourseFile.model_json_schema()
    course["properties"]["recipe"] = {"anyOf": [{"$ref": "recipe.schema.json"}, {"type": "null"}]}
    for key in ("staff", "roster"):
        listed = course["properties"][key]
        course["properties"][key] = {"anyOf": [{"type": "string"}, listed]}
    found = {
        "recipe.schema.json": Recipe.model_json_schema(),
        "course.schema.json": course,
        "environments.schema.json": CatalogueFile.model_json_schema(),
    }
    return {name: {"$schema": DIALECT, "$id": name, **schema} for name, schema in found.items()}


def write(folder: Path) -> None:
    """Write every schema into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, schema in schemas().items():
        (folder / name).write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
