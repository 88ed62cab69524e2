"""The published description of the API, built from what the handlers say of themselves. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

_GROUP = re.compile(r"\((?!\?)[^()]*\)")
_ERROR = {
    "description": "Refused or failed; `message` says why and what to do",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["message"],
                "properties": {
                    "status": {"type": "integer"},
                    "code": {"type": "string"},
                    "message": {"type": "string"},
                },
            }
        }
    },
}


@dataclass(frozen=True)
class Operation:
    """What one method of a handler does."""

    summary: str
    answer: str
    query: tuple[str, ...] = ()
    """Names of query arguments."""
    body: Mapping[str, object] | None = None
    """The properties of a JSON object."""
    names: tuple[str, ...] = ("id",)
    """The names of the path's parameters, in order."""

    def described(self, parameters: Iterable[Mapping[str, object]]) -> dict[str, object]:
        """As OpenAPI has it; ``parameters`` are those of the path."""
        query = ({"name": n, "in": "query", "schema": {"type": "string"}} for n in self.query)
        json = {"application/json": {"schema": {"type": "object"}}}
        described: dict[str, object] = {
            "summary": self.summary,
            "parameters": [*parameters, *query],
            "responses": {
                "200": {"description": self.answer, "content": json},
                "default": {"$ref": "#/components/responses/Error"},
            },
        }
        if self.body is not None:
            schema = {"type": "object", "properties": dict(self.body), "additionalProperties": False}
            described["requestBody"] = {"content": {"application/json": {"schema": schema}}}
        return described


Operations: TypeAlias = Mapping[str, Operation]
"""By method."""


def document(routes: Iterable[tuple[str, Any]], server: str, version: str) -> dict[str, object]:
    """The OpenAPI document of every route whose handler describes itself."""
    paths = {}
    for pattern, handler in routes:
        operations = getattr(handler, "openapi", None)
        if not operations or not pattern.startswith("api/"):
            continue
        path, item = _path(pattern, operations)
        paths[path] = item
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "ds01spawner",
            "version": version,
            "description": "Send a token of the hub as `Authorization: token …`. It needs the scope "
            "`access:services!service=ds01`.",
        },
        "servers": [{"url": server.rstrip("/")}],
        "security": [{"token": []}],
        "components": {
            "securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "Authorization"}},
            "responses": {"Error": _ERROR},
        },
        "paths": dict(sorted(paths.items())),
    }


def _path(pattern: str, operations: Operations) -> tuple[str, Mapping[str, object]]:
    names = next(iter(operations.values())).names
    count = len(_GROUP.findall(pattern))
    given = iter(names if count else ())
    path = "/" + _GROUP.sub(lambda _: "{" + next(given) + "}", pattern)
    inside = [
        {"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names[:count]
    ]
    return path, {method: o.described(inside) for method, o in operations.items()}
