"""Start jupyterhub-singleuser without loading what answers no request at the start; end it without delay.

Nothing is taken away: each module left out here loads by itself when something first uses it.

- ``rfc3987_syntax`` compiles a grammar when imported (more than half of the whole start). jsonschema wants
  it for the formats ``iri`` and ``iri-reference``; the grammar is now compiled at the first such check.
- ``jupyterhub.orm`` (SQLAlchemy and alembic) is the hub's database. Modules shared by hub and
  single-user server import it; only the hub calls it.
- ``jupyterhub.handlers`` are the hub's pages. The request log imports them for one ``isinstance``.

If a release moves any of this, the ordinary import takes place: slower, never different.
Standard library only; runs in the image, on the layer's own Python.
"""

from __future__ import annotations

import atexit
import importlib
import importlib.util
import os
import sys
import threading
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any


def defer_iri_grammar() -> None:
    """Make ``from rfc3987_syntax import is_valid_syntax`` free; compile the grammar at the first call."""
    name = "rfc3987_syntax"
    if name in sys.modules or importlib.util.find_spec(name) is None:
        return

    def load() -> Any:
        if sys.modules.get(name) is stub:
            del sys.modules[name]
        return importlib.import_module(name)

    def is_valid_syntax(*args: Any, **kwargs: Any) -> Any:
        return load().is_valid_syntax(*args, **kwargs)

    stub: Any = types.ModuleType(name)
    spec = importlib.util.find_spec(name)
    stub.is_valid_syntax = is_valid_syntax
    stub.__getattr__ = lambda attribute: getattr(load(), attribute)
    stub.__spec__ = spec
    stub.__path__ = list(spec.submodule_search_locations or ()) if spec else []
    sys.modules[name] = stub


def defer(name: str) -> None:
    """Import ``name`` at its first use (the standard library's own lazy loader)."""
    parent, _, child = name.rpartition(".")
    spec = importlib.util.find_spec(name)
    if name in sys.modules or spec is None or spec.loader is None:
        return
    loader = importlib.util.LazyLoader(spec.loader)
    spec.loader = loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)
    if parent:
        setattr(sys.modules[parent], child, module)


@contextmanager
def standing_in(modules: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """Put modules with the given names and contents in place for a while, where none is loaded yet."""
    placed = []
    for name, content in modules.items():
        if name not in sys.modules:
            module = types.ModuleType(name)
            module.__path__ = []
            module.__dict__.update(content)
            sys.modules[name] = module
            placed.append(name)
    try:
        yield
    finally:
        for name in placed:
            sys.modules.pop(name, None)


class _NeverRaised(Exception):
    """Stands for SQLAlchemyError in helpers that only the hub calls: without a database none is raised."""


class _NeverMade:
    """Stands for the hub's health page in the request log: a single-user server has no such handler."""


def hub_modules_without_the_hub() -> None:
    """Import what the hub and its single-user servers share, without the hub's database and pages."""
    defer("jupyterhub.orm")
    with standing_in({"sqlalchemy": {}, "sqlalchemy.exc": {"SQLAlchemyError": _NeverRaised}}):
        importlib.import_module("jupyterhub.utils")
    defer("sqlalchemy")
    pages = {"jupyterhub.handlers": {}, "jupyterhub.handlers.pages": {"HealthCheckHandler": _NeverMade}}
    with standing_in(pages):
        importlib.import_module("jupyterhub.log")


def prepare() -> None:
    """Do all of it; whatever fails is undone and left to the ordinary imports."""
    for step in (defer_iri_grammar, hub_modules_without_the_hub):
        before = set(sys.modules)
        try:
            step()
        except Exception:
            for name in set(sys.modules) - before:
                if name.split(".")[0] in ("jupyterhub", "sqlalchemy", "rfc3987_syntax"):
                    with suppress(KeyError):
                        del sys.modules[name]


def leave() -> None:
    """End the process once the server has ended its kernels and closed what it had open.

    What is left is Python taking some thousand modules apart, most of the processor time of a retire. All
    that could keep anything comes first, as at every exit: threads that still work, exit functions, output.
    """
    finish_threads = getattr(threading, "_shutdown", None)
    finish_functions = getattr(atexit, "_run_exitfuncs", None)
    if finish_threads is None or finish_functions is None:
        return  # the ordinary way out
    finish_threads()
    finish_functions()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(0)


def main() -> Any:
    """The entry point ``jupyterhub-singleuser`` of the layer."""
    prepare()
    from jupyterhub.singleuser import main as singleuser

    result = singleuser()
    if not result:
        leave()
    return result  # a failure says so by its exit code
