"""What the hub's pages know of us: one value, ``ds01``, given to every template by ``template_vars``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..core import text
from ..core.errors import Refused
from ..policy.options import parse_options
from . import keys
from .launch_page import Again, query_of
from .steps import Step, steps
from .unfinished import Unfinished


@dataclass(frozen=True)
class HubContext:
    """``ds01`` in a template of the hub, for the person who looks at the page."""

    service: str
    """Address of the service, with trailing slash. The hub's pages use it where it is absolute (a service
    on a domain of its own), and else the path below the hub's own prefix, which only the hub knows surely."""
    key: str
    """Signed key of the live fragments; empty for somebody not logged in."""
    endings: Callable[[str], Any]
    board: Callable[[], list[Any]] = list
    left: Callable[[], list[Unfinished]] = list
    own_logo: bool = False
    """Whether the logo is the site's, which is shown as it is."""

    @staticmethod
    def moment(when: datetime) -> str:
        """A time for a ``time`` element; the hub's templates have none of our filters."""
        return text.moment(when)

    def ending(self, server: str) -> Any:
        """How the person's last session on ``server`` ended (an `endings.Ending`), or None."""
        return self.endings(server) if self.key else None

    def again(self, user: Any, server: str) -> Again | None:
        """The last choice of a user on a server, for a button that starts it; None where there is none."""
        kept = getattr(getattr(user, "orm_user", None), "orm_spawners", {}).get(server)
        return again(getattr(kept, "user_options", None) or {})

    def steps(self, spawner: Any) -> tuple[Step, ...]:
        """The rows of the pending page for a spawner that starts (its ``progress_log`` has the events)."""
        return steps(getattr(getattr(spawner, "progress_log", None), "events", ()))

    def unfinished(self) -> list[Unfinished]:
        """The person's sessions that are being retired, and those that the hub has lost."""
        return self.left() if self.key else []

    def notices(self) -> list[Any]:
        """What the person should read (rows of the store), most urgent first."""
        return self.board() if self.key else []


def again(stored: Mapping[str, object]) -> Again | None:
    """Options as the hub keeps them as one button; None where they cannot be used any more. Pure."""
    try:
        options = parse_options(stored) if stored else None
    except Refused:
        return None
    if options is None:
        return None
    made = options.model_copy(update={"project_source": ""})  # what the project began from is there already
    return Again(str(stored.get("profile") or options.profile), query_of(made), allowed=True)


def template_var(
    service: str,
    secret: bytes,
    last_ending: Callable[[str, str], Any],
    clock: Callable[[], datetime],
    notices: Callable[[str], list[Any]] = lambda user: [],
    own_logo: bool = False,
    left: Callable[[str], list[Unfinished]] = lambda user: [],
) -> Callable[[Any], HubContext]:
    """The callable to set as ``JupyterHub.template_vars["ds01"]``.

    ``last_ending(user, server)``, ``notices(user)`` and ``left(user)`` are called while a page renders: they
    must not wait.
    """

    def context(user: Any) -> HubContext:
        name = getattr(user, "name", "")
        key = keys.sign(secret, name, clock()) if name else ""
        return HubContext(
            service,
            key,
            lambda server: last_ending(name, server),
            lambda: notices(name),
            lambda: left(name),
            own_logo,
        )

    return context
