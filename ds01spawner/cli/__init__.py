"""The ``ds01`` command. Each area registers its commands from a module of its own, listed here."""

from __future__ import annotations

import os
import sys
from importlib import import_module

import typer

AREAS: dict[str, tuple[str, ...]] = {
    "gpus": ("gpus",),
    "session_commands": ("sessions", "retire"),
    "limit_commands": ("limits", "why", "import-limits"),
    "request_commands": ("request", "requests", "approve", "deny"),
    "check_command": ("check",),
    "simulate": ("simulate",),
    "project": ("project",),
    "history_commands": ("events", "usage"),
    "drain": ("drain", "undrain", "maintenance"),
    "queue_commands": ("queue", "reserve"),
    "idle": ("keep-alive", "idle"),
    "image": ("image",),
    "course_commands": ("course",),
}
"""Modules of this package with a ``register(app)``, and their commands in the order of ``ds01 --help``."""


def build_app(command: str = "") -> typer.Typer:
    """The command with every area registered, or only the area of one ``command``.

    Importing all areas takes seconds, which nobody should wait for who asks for one thing.
    """
    app = typer.Typer(
        name="ds01",
        help="Look after a GPU server shared through JupyterHub.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    wanted = [area for area, commands in AREAS.items() if command in commands] or list(AREAS)
    for area in wanted:
        import_module(f"{__name__}.{area}").register(app)
    if len(wanted) == 1:
        app.callback()(_several)
    return app


def _several() -> None:
    # With a callback typer keeps a command's name also where it is the only one.
    pass


def main() -> None:
    """Entry point of the ``ds01`` script; exit 0 ok, 1 refused or unhealthy, 2 usage."""
    from .common import run

    completing = "_DS01_COMPLETE" in os.environ
    run(build_app("" if completing else next(iter(sys.argv[1:]), "")))
