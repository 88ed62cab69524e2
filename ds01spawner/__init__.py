"""Share a GPU server through JupyterHub: temporary containers, permanent workspaces, exclusive GPUs.

In ``jupyterhub_config.py``::

    from ds01spawner import configure

    configure(c)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .hub.configure import configure

__all__ = ["configure"]
__version__ = "0.1.0.dev0"


def __getattr__(name: str) -> Any:
    # Not at import: it takes seconds, JupyterHub included, which services and commands have no need of.
    if name == "configure":
        from .hub.configure import configure

        return configure
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
