"""The one way a view becomes HTML: our templates, with autoescape always on."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..core import text
from . import template_dirs


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The Jinja environment of the form and the fragments; templates are compiled once."""
    env = Environment(
        loader=FileSystemLoader(template_dirs()),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    install_filters(env)
    return env


def install_filters(env: Environment) -> None:
    """Add the filters our templates use to an environment (ours, or that of the service's pages)."""
    env.filters |= {
        "size": text.size,
        "memory": text.memory,
        "duration": text.duration,
        "moment": text.moment,
    }


def render(template: str, **context: Any) -> str:
    """Render ``ds01/<name>.html`` with plain values; whatever they hold is escaped."""
    return environment().get_template(template).render(**context)
