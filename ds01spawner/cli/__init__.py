"""The ``ds01`` command. Each area registers its commands from a module of its own, listed here."""

from __future__ import annotations

from importlib import import_module

import typer

AREAS = (
    "gpus",
    "sessions",
    "limits",
    "requests",
    "check",
    "simulate",
    "project",
    "history",
    "drain",
    "queue",
    "idle",
    "image",
    "course",
)
"""Modules of this package with a ``register(app)``; the order is that of ``ds01 --help``."""


def build_app() -> typer.Typer:
    """The command with every area registered."""
    app = typer.Typer(
        name="ds01",
        help="Look after a GPU server shared through JupyterHub.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    for area in AREAS:
        try:
            module = import_module(f"{__name__}.{area}")
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{area}":
                raise
            continue
        module.register(app)
    return app


def main() -> None:
    """Entry point of the ``ds01`` script; exit 0 ok, 1 refused or unhealthy, 2 usage."""
    from .common import run

    run(build_app())
