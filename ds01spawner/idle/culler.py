"""The idle service: jupyterhub-idle-culler's own application with our sensors, decision, warnings and stops.

Its traits, flags, configuration file and token mean what its documentation says, but that

- the policy says how long a session may be idle, so ``timeout`` is that of users (``cull_users``) alone;
- ``max_age`` must stay off: it would stop sessions that nobody warned; lifetimes are the policy's;
- a ``cull_arbiter_hook`` may keep a session that our decision would end as idle, and never ends one;
- sessions are stopped side by side, ``concurrency`` of them at once (`service` says why).
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from contextlib import nullcontext
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from jupyterhub_idle_culler import IdleCuller, cull_idle, default_cull_arbiter, make_ssl_context
from jupyterhub_idle_culler.utils import maybe_future
from traitlets import Bool, Float, Int, List, Unicode, default

from ..core.errors import DS01Error
from ..core.hub_client import HubServer
from ..core.onlyone import Holder, only_one
from ..core.settings import Settings, load_settings
from .arbiter import Arbiter
from .case import Settled
from .wiring import build, hub_environment

POLL_S, STOPS, REQUEST_S = 60, 16, 60.0


class SessionCuller(IdleCuller):  # type: ignore[misc]
    """Warn and retire idle sessions."""

    name = "ds01spawner.idle"
    raise_config_file_errors = True  # with half of its settings it would retire by rules that are none

    window = Float(60.0, help="Seconds over which use is measured.").tag(config=True)
    port = Int(8888, help="Port of the notebook servers in their containers.").tag(config=True)
    notice_hooks = List(Unicode(), help="Functions, as module:function, that get every notice.").tag(
        config=True
    )
    webhooks = List(Unicode(), help="Addresses that notices are posted to; smtp://… sends mail.").tag(
        config=True
    )
    dry_run = Bool(False, help="Decide and log, and neither warn nor stop anybody.").tag(config=True)

    aliases = {  # noqa: RUF012 (as in the class above)
        **IdleCuller.aliases,
        "window": "SessionCuller.window",
        "port": "SessionCuller.port",
        "hook": "SessionCuller.notice_hooks",
        "webhook": "SessionCuller.webhooks",
        "poll": "IdleCuller.cull_every",
        "parallel": "IdleCuller.concurrency",
    }
    flags = {  # noqa: RUF012
        **IdleCuller.flags,
        "dry-run": ({"SessionCuller": {"dry_run": True}}, dry_run.help),
    }

    @default("cull_every")
    def _default_cull_every(self) -> int:
        return POLL_S

    @default("concurrency")
    def _default_concurrency(self) -> int:
        return STOPS

    @default("url")
    def _default_url(self) -> str | None:
        return os.environ.get("JUPYTERHUB_API_URL")

    def start(self) -> None:
        """Run until stopped; `DS01Error` when it cannot begin."""
        if self.generate_config:
            print(self.generate_config_file())
            return
        self.read_config_file()
        logging.basicConfig(level=self.log_level, handlers=self.log.handlers)
        url, token = hub_environment(self.url)
        settings = load_settings()
        lock = only_one(settings.state_dir / "idle.lock", Holder.this(settings.state_dir))
        with lock if not self.dry_run else nullcontext():
            asyncio.run(self._run(settings, url, token))

    def read_config_file(self) -> None:
        """Read the configuration file, where there is one; `DS01Error` for what cannot be meant here."""
        file = self.config_file
        if file and file != type(self).config_file.default_value and not Path(file).exists():
            raise DS01Error(f"the idle service's configuration file {file} is not there")
        if file:
            self.load_config_file(file)
        if self.max_age:
            raise DS01Error(
                "max_age would stop sessions without a warning; set session.lifetime in the policy instead"
            )
        if isinstance(self.cull_arbiter_hook, Arbiter):
            raise DS01Error(
                "cull_arbiter_hook is our own decision, which is for jupyterhub-idle-culler's own service; "
                "this service decides so without it"
            )
        given = any("timeout" in self.config.get(c.__name__, {}) for c in type(self).mro())
        if given and not self.cull_users:
            self.log.warning("timeout is not used: how long a session may be idle says the policy")

    def settled(self) -> Settled:
        """What the traits say, for the service."""
        tls = None
        if self.ssl_enabled:
            place = self.internal_certs_location
            tls = make_ssl_context(
                f"{place}/hub-internal/hub-internal.key",
                f"{place}/hub-internal/hub-internal.crt",
                f"{place}/hub-ca/hub-ca.crt",
            )
        return Settled(
            poll=float(self.cull_every),
            window=self.window,
            port=self.port,
            parallel=self.concurrency,
            dry_run=self.dry_run,
            cull_default=self.cull_default_servers,
            cull_named=self.cull_named_servers,
            remove_named=self.remove_named_servers,
            hooks=tuple(self.notice_hooks),
            webhooks=tuple(self.webhooks),
            page_size=self.api_page_size,
            timeout=float(os.environ.get("JUPYTERHUB_REQUEST_TIMEOUT") or REQUEST_S),
            tls=tls,
            may_end=None if self.cull_arbiter_hook is default_cull_arbiter else self._ask_hook,
        )

    async def _ask_hook(self, server: HubServer) -> bool:
        now = datetime.now(timezone.utc)
        inactive = now - (server.last_activity or server.started or now)
        answer = self.cull_arbiter_hook(
            inactive=inactive, inactive_limit=self.timeout, server=dict(server.model)
        )
        return bool(await maybe_future(answer))

    async def _run(self, settings: Settings, url: str, token: str) -> None:
        service = build(settings, url, token, self.settled())  # reads the memory, so not before it is ours
        users = [self._cull_users(url, token)] if self.cull_users and not self.dry_run else []
        await asyncio.gather(service.run(), *users)

    async def _cull_users(self, url: str, token: str) -> None:
        """Delete users who have no server and were away for ``timeout``, by the culler's own code."""
        while True:
            try:
                await cull_idle(**self.user_arguments(), url=url, api_token=token)
            except Exception:
                self.log.exception("No look at the users this time")
            await asyncio.sleep(self.cull_every)

    def user_arguments(self) -> dict[str, Any]:
        """How the culler's own code is called: it may delete users, and no server is its to stop."""
        return {
            "inactive_limit": self.timeout,
            "logger": self.log,
            "cull_users": True,
            "cull_admin_users": self.cull_admin_users,
            "cull_default_servers": False,
            "cull_named_servers": False,
            "cull_arbiter": lambda **_: False,
            "concurrency": self.concurrency,
            "api_page_size": self.api_page_size,
            "ssl_enabled": self.ssl_enabled,
            "internal_certs_location": self.internal_certs_location,
        }


def main(argv: list[str] | None = None) -> int:
    """Run until stopped; exit 1 when it cannot begin."""
    app = SessionCuller()
    try:
        app.initialize(argv)
        app.start()
    except DS01Error as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0
