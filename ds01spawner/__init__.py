"""Share a GPU server through JupyterHub: temporary containers, permanent workspaces, exclusive GPUs.

In ``jupyterhub_config.py``::

    from ds01spawner import configure

    configure(c)
"""

from __future__ import annotations

from .configuration import configure

__all__ = ["configure"]
__version__ = "0.1.0.dev0"
