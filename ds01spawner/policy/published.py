"""The published reference of the policy file, made from the models: JSON Schema and a page. Pure.

``python -m ds01spawner.policy docs/reference`` writes both; a test keeps them current.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from pydantic import BaseModel

from . import units
from .model import SECTION_NAMES, Group, PolicyFile, Section, Sections, User
from .resolve import show

SCHEMA_FILE, PAGE_FILE = "policy.schema.json", "policy.md"
_INTRO = """\
# Policy file reference

Every value of `policy.yaml`, with its built-in default. Sizes are written `512m` or `32g`, durations `90m`
or `48h`, shares `5%`; `null` means no limit. A value may stand below `defaults`, a group or a person.
What it all means together is on the [policy page](../admins/policy.md); editors can check a file with the
[JSON Schema](policy.schema.json).

This page is made from the code by `python -m ds01spawner.policy docs/reference`.
"""


def json_schema() -> dict[str, object]:
    """The JSON Schema of the policy file, for editors and checks; defaults are as the file writes them."""
    schema = PolicyFile.model_json_schema(mode="validation")
    for model in schema["$defs"].values():
        for field in model.get("properties", {}).values():
            _as_written(field)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "ds01 policy file"}


def schema_text() -> str:
    """The JSON Schema as it is published."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def reference_page() -> str:
    """The page of all values as Markdown."""
    parts = [_INTRO]
    for name in SECTION_NAMES:
        section = getattr(Sections(), name)
        rows = [
            f"| `{name}.{key}` | {default} | {text} |" for key, default, text in _rows(section, f"{name}.")
        ]
        head = (
            f"## `{name}`\n\n{_text(type(section).__doc__)}\n\n| value | default | meaning |\n|---|---|---|\n"
        )
        parts.append(head + "\n".join(rows) + "\n")
    for title, model in (("groups.<name>", Group), ("users.<name>", User), ("at the top", PolicyFile)):
        rows = [
            f"| `{key}` | {_text(field.description)} |"
            for key, field in model.model_fields.items()
            if key not in SECTION_NAMES
        ]
        parts.append(f"## Keys {title}\n\n| key | meaning |\n|---|---|\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _rows(section: Section, full: str, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            assert isinstance(value, Section)
            yield from _rows(value, full, f"{prefix}{name}.")
        else:
            default = "none" if isinstance(value, dict) else show(f"{full}{prefix}{name}", value)
            yield f"{prefix}{name}", default, _text(field.description)


def _text(text: str | None) -> str:
    return " ".join((text or "").split()).replace("``", "`").replace("|", "\\|")


def _as_written(field: dict[str, object]) -> None:
    """Turn a default of bytes or seconds into the text the schema itself asks for."""
    default, shape = field.get("default"), json.dumps(field)
    if isinstance(default, int) and not isinstance(default, bool) and default:
        if json.dumps(units.SIZE_PATTERN) in shape:
            field["default"] = units.format_size(default)
        elif json.dumps(units.DURATION_PATTERN) in shape:
            field["default"] = units.format_duration(default)
    elif isinstance(default, dict):
        # A section's own defaults stand at its values.
        del field["default"]
