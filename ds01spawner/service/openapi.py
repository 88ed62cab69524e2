"""The published description of the API, built from what the handlers say of themselves. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

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


def operation(
    summary: str,
    answer: str,
    *,
    query: Iterable[str] = (),
    body: Mapping[str, Any] | None = None,
    names: Iterable[str] = ("id",),
) -> dict[str, Any]:
    """One operation. ``query`` names arguments, ``body`` the properties of a JSON object.

    ``names`` name the path's parameters in order.
    """
    described: dict[str, Any] = {
        "summary": summary,
        "parameters": [{"name": n, "in": "query", "schema": {"type": "string"}} for n in query],
        "responses": {
            "200": {"description": answer, "content": {"application/json": {"schema": {"type": "object"}}}},
            "default": {"$ref": "#/components/responses/Error"},
        },
        "x-names": list(names),
    }
    if body is not None:
        schema = {"type": "object", "properties": dict(body), "additionalProperties": False}
        described["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    return described


def document(routes: Iterable[tuple[str, Any]], server: str, version: str) -> dict[str, Any]:
    """The OpenAPI document of every route whose handler describes itself."""
    paths: dict[str, Any] = {}
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


def _path(pattern: str, operations: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    names = next(iter(operations.values())).get("x-names", ["id"])
    count = len(_GROUP.findall(pattern))
    given = iter(names if count else ())
    path = "/" + _GROUP.sub(lambda _: "{" + next(given) + "}", pattern)
    inside = [
        {"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names[:count]
    ]
    item: dict[str, Any] = {}
    for method, described in operations.items():
        shown = {k: v for k, v in described.items() if k != "x-names"}
        item[method] = {**shown, "parameters": inside + shown["parameters"]}
    return path, item
