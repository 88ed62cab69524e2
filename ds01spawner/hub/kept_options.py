"""The options of one server as the hub keeps them: for its pages, and for a later start without options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.errors import Refused
from ..policy.options import LaunchOptions, parse_options
from . import attempts
from .http_errors import SessionRefused

MAX_KEPT = 1000
"""Characters of an option given in vain that are kept for the form to show again."""


class KeptOptions:
    """What a server is, or was last asked to be. Of the event loop."""

    def __init__(self, spawner: Any) -> None:
        self._spawner = spawner
        self.now: LaunchOptions | None = None
        """Validated; None before this process saw any."""

    def accept(self, raw: object) -> LaunchOptions:
        """Validate options from any source and keep them; raises `SessionRefused` (400)."""
        try:
            self.now = parse_options(raw)
        except Refused as refused:
            if isinstance(raw, Mapping):  # the form comes back as it was filled in
                fields = LaunchOptions.model_fields
                kept = {k: v for k, v in raw.items() if k in fields and len(str(v)) <= MAX_KEPT}
                attempts.tried(self._spawner.user.name, self._spawner.name, kept)
            raise SessionRefused(refused.refusal) from None
        self.keep(self.now)
        return self.now

    def keep(self, options: LaunchOptions, environment: str = "") -> None:
        """Keep options summed up for people, with the environment's title once that is known."""
        self._persist(options.stored(environment))

    def forget_source(self) -> None:
        """The project is there now: no later start and no form asks for its source again."""
        spawner = self._spawner
        if self.now is not None:
            self.now = self.now.model_copy(update={"project_source": ""})
        self._persist({k: v for k, v in spawner.user_options.items() if k != "project_source"})
        attempts.tried(spawner.user.name, spawner.name, spawner.user_options)

    def commit(self) -> None:
        """Keep what is written to the hub's database so far, before anything is waited for: the end of any
        other request rolls back what is not committed."""
        db = getattr(self._spawner.user, "db", None)
        if db is not None:
            db.commit()

    def _persist(self, stored: dict[str, Any]) -> None:
        """Keep these as the ``user_options`` of this server, also when the hub restarts."""
        self._spawner.user_options = stored
        orm = getattr(self._spawner, "orm_spawner", None)
        if orm is not None and orm.user_options != stored:
            # The hub's pages show the readable summary; a later start without options reuses these.
            orm.user_options = stored
            self.commit()
