"""Where browsers find the service: a path of the hub's own host, or a domain of its own. Pure.

With ``JupyterHub.subdomain_host`` every user and every service has a domain, so that no session's page has
the hub's origin. The hub and its pages then name the service by its whole address.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from jupyterhub.utils import subdomain_hook_idna, subdomain_hook_legacy

Hook = Callable[[str, str, str], str]
HOOKS: dict[str, Hook] = {"idna": subdomain_hook_idna, "legacy": subdomain_hook_legacy}


def service_address(path: str, subdomain_host: str, hook: Any = None, name: str = "ds01") -> str:
    """The service's address: ``path`` alone without subdomains, else with scheme and host before it."""
    if not subdomain_host:
        return path
    parts = urlsplit(subdomain_host)
    make: Hook = hook if callable(hook) else HOOKS[hook or "idna"]
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{make(name, parts.hostname or '', 'service')}{port}{path}"


def origin_of(url: str) -> str:
    """Scheme and host of an address; empty for a path."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""
