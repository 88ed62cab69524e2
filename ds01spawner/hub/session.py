"""The session part of the spawner, the same for every engine: validate, plan, apply, explain.

``start`` turns options into a `LaunchPlan` or a refusal before the engine is asked for anything; the
engine adapter (`DS01Spawner` for Docker) says how a plan becomes a container. Every way a start can
end (done, refused, failed, timed out, cancelled) leaves either a running session or nothing.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

from traitlets import Callable, Instance, Integer, Unicode, default

from .. import messages
from ..admission.check import entitle
from ..admission.situation import read
from ..asking import ask_url
from ..core.ending import Ended
from ..core.errors import EngineError, LockError, Refusal, Refused
from ..core.labels import SessionLabels
from ..core.lag import watch
from ..core.public_urls import service_address
from ..core.settings import Settings
from ..messages import ends
from ..newproject import make_project
from ..pages.keys import load_secret, sign
from ..policy.options import LaunchOptions, from_form, parse_options
from ..policy.plan import LaunchPlan
from ..policy.resolve import Person
from ..policy.sources import GitSource
from ..queue.api import addresses, instead_of
from ..queue.turns import Turn, Turns
from ..site import Site
from ..workspace.projects import Workspace
from . import attempts
from .http_errors import SessionRefused, open_form
from .progress import Progress
from .traits import SETTINGS_TRAITS, SiteTraits, settings_from

START_TIMEOUT_S = 900
BOOT_TIMEOUT_S = 300
MAX_KEPT = 1000
"""Characters of an option given in vain that are kept for the form to show again."""
DISCARD_MARGIN_S = 5
"""Seconds of the hub's start limit kept back for cleaning up and saying what went wrong."""


class SessionMixin(SiteTraits):
    """What a session does on any engine. Mix in before the engine's spawner class."""

    lock_timeout = Integer(20, help="Seconds to wait for the claim lock; then the start is refused.").tag(
        config=True
    )
    boot_timeout = Integer(
        BOOT_TIMEOUT_S,
        min=1,
        help="""Seconds that a start's own work may take, the fetching of its image included. Waiting for its
        turn while others boot does not count; ``start_timeout`` bounds all of it together.""",
    ).tag(config=True)
    boots_at_once = Integer(
        0,
        min=0,
        help="""How many sessions boot at a time; the others wait for their turn in the order in which they
        were asked for. 0 goes by the machine's processors and by how long starts take.""",
    ).tag(config=True)
    clock = Callable(lambda: datetime.now(timezone.utc), help="Returns the time, with a zone. For tests.")

    options = Instance(LaunchOptions, allow_none=True)
    workspace = Instance(Workspace, allow_none=True)
    session_id = Unicode()
    staged = Unicode()
    """Token of a new project's folder while it gets its first files; `discard` throws that away."""

    session_labels: SessionLabels | None = None
    """The session this server was last seen to have; None once its end is reported."""

    _site: Site | None = None
    _turn: Turn | None = None
    _discarding: asyncio.Task[None] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.progress_log = Progress()
        with suppress(RuntimeError):  # no loop, no lag
            watch()

    # --- the site -------------------------------------------------------------------------------

    def site_settings(self) -> Settings:
        """The settings these traits add up to."""
        return settings_from({name: getattr(self, name) for name in SETTINGS_TRAITS})

    @default("start_timeout")
    def _default_start_timeout(self) -> int:
        return START_TIMEOUT_S  # a whole class may be before this start

    @property
    def site(self) -> Site:
        """The shared parts of this process: policy, ledger, store, workspaces."""
        if self._site is None:
            self._site = Site.for_settings(self.site_settings().model_dump())
        return self._site

    @property
    def turns(self) -> Turns:
        """The line in which this process's starts boot."""
        return self.site.turns(self.boots_at_once)

    @property
    def person(self) -> Person:
        """The session's owner as the policy sees them, groups read now."""
        return Person(
            name=self.user.name,
            groups=frozenset(g.name for g in self.user.groups),
            admin=bool(self.user.admin),
        )

    @property
    def service_url(self) -> str:
        """Public address of the service, with a trailing slash: a path where it has no domain of its own."""
        path, known = f"{self.hub.base_url.removesuffix('hub/')}services/ds01/", self.user.settings
        return service_address(path, known.get("subdomain_host", ""), known.get("subdomain_hook"))

    def fragment_key(self) -> str:
        """The signed key with which this person's page refreshes its live parts."""
        return sign(load_secret(self.site.settings.state_dir), self.user.name, self.clock())

    # --- options --------------------------------------------------------------------------------

    @default("options_from_form")
    def _default_options_from_form(self) -> Any:
        return from_form

    @default("apply_user_options")
    def _default_apply_user_options(self) -> Any:
        async def apply(spawner: SessionMixin, raw: dict[str, Any]) -> None:
            spawner.accept_options(raw)
            await asyncio.sleep(0)  # others are served between the hub's work for a start and ours

        return apply

    @default("server_token_scopes")
    def _default_server_token_scopes(self) -> Any:
        # The first thing the hub asks a spawner when it starts a server, before its own work on tokens and
        # database. A site's own list goes without the wait.
        async def wait(turns: Turns) -> list[str]:
            await turns.arrive()
            return []  # those of the hub's role for servers

        def in_turn(spawner: SessionMixin) -> Any:
            spawner.expect_progress()
            # Here, since a coroutine runs later.
            spawner.commit()
            return wait(spawner.turns)

        return in_turn

    def expect_progress(self) -> None:
        """Begin the list of what the next start does; browsers may follow it before `start` is called."""
        if self.progress_log.done:
            self.progress_log = Progress()

    def accept_options(self, raw: object) -> LaunchOptions:
        """Validate options from any source and keep them; raises `SessionRefused` (400)."""
        try:
            self.options = parse_options(raw)
        except Refused as refused:
            if isinstance(raw, Mapping):  # the form comes back as it was filled in
                fields = LaunchOptions.model_fields
                kept = {k: v for k, v in raw.items() if k in fields and len(str(v)) <= MAX_KEPT}
                attempts.tried(self.user.name, self.name, kept)
            raise SessionRefused(refused.refusal) from None
        self.keep_options(self.options)
        return self.options

    def keep_options(self, options: LaunchOptions, environment: str = "") -> None:
        """Keep options as the hub does, summed up with the environment's title once that is known."""
        self.persist(options.stored(environment))

    def persist(self, stored: dict[str, Any]) -> None:
        """Keep these as the ``user_options`` of this server, also when the hub restarts."""
        self.user_options = stored
        orm = getattr(self, "orm_spawner", None)
        if orm is not None and orm.user_options != stored:
            # The hub's pages show the readable summary; a later start without options reuses these.
            orm.user_options = stored
            self.commit()

    def commit(self) -> None:
        """Keep what is written to the hub's database so far, before anything is waited for: the end of any
        other request rolls back what is not committed."""
        db = getattr(self.user, "db", None)
        if db is not None:
            db.commit()

    def options_from_query(self, query: dict[str, Any]) -> Any:
        """A link never starts anything: the form opens, filled in, and waits for a click."""
        raise open_form(self.log)

    # --- start ----------------------------------------------------------------------------------

    async def start(self) -> Any:
        """Launch the session; see the module's text for what every ending leaves behind."""
        self.expect_progress()
        self.session_id, self.staged = uuid.uuid4().hex, ""
        attempts.tried(self.user.name, self.name, self.user_options or {})
        turn = self._turn = self.turns.draw(self._tell_turn, self._tell_desk)
        launch = asyncio.ensure_future(self._launch())
        try:
            late = await self._in_time(launch, turn)
            if late is not None:
                launch.cancel()
                raise await self.explain_failure(late)
            result = launch.result()
        except asyncio.CancelledError:
            # The hub gives a cancelled start one second, so the clean-up must not be awaited here.
            # It queues behind whatever engine call is still in flight.
            launch.cancel()
            self._discarding = asyncio.ensure_future(self._discard_cancelled())
            raise
        except SessionRefused as refused:
            await self.discard()
            self.ended(refused.refusal.sentence, "refused", log_tail=refused.log_tail)
            raise
        except Refused as refused:
            await self.discard()
            self.never_came_up(refused.refusal.sentence, "refused")
            answer = await self.or_queued(refused.refusal)
            headers = addresses(answer, self.service_url)
            ask = ask_url(self.service_url, answer)
            if not answer.ticket:
                attempts.refused(self.user.name, self.name, answer, self.clock())
            raise SessionRefused(answer, ask_url=ask, headers=headers, to_form=not answer.ticket) from None
        except Exception as error:
            self.log.exception("Start of %s failed", self._log_name)
            failure = await self.explain_failure(_why(error, self.lock_timeout))
            await self.discard()
            self.ended(failure.refusal.sentence, "failed", log_tail=failure.log_tail)
            raise failure from error
        finally:
            turn.end(answered=launch.done() and not launch.cancelled() and launch.exception() is None)
            self.progress_log.done = True
        attempts.worked(self.user.name)
        return result

    async def _discard_cancelled(self) -> None:
        await self.discard()
        self.never_came_up(ends.CANCELLED, "cancelled")

    async def _in_time(self, launch: asyncio.Future[Any], turn: Turn) -> Refusal | None:
        """Wait for the launch; why it must end, when its own work or all of it takes too long."""
        clock = asyncio.get_running_loop().time
        total = max(self.start_timeout - DISCARD_MARGIN_S, self.start_timeout * 0.8)
        own, began, lag = min(self.boot_timeout, total), clock(), watch()
        late = lag.behind
        while not launch.done():
            spent = clock() - began
            # What this process itself was late is no time of the session's.
            own_end = own + turn.waited + lag.behind - late
            if spent >= total and turn.waiting:
                return messages.turn_never_came(round(spent))
            if spent >= min(total, own_end):
                return messages.start_timeout(round(spent - turn.waited))
            # Time passes for the turn too, so a look that came too early only looks again.
            await asyncio.wait([launch], timeout=min(total, own_end) - spent)
        return None

    async def come_to_turn(self) -> None:
        """Return when it is this start's turn to boot; at once when it has come. Nothing runs yet."""
        turn = self._turn
        if turn is None or turn.came:
            return
        asked = turn.waited
        await turn.come()
        if turn.waited - asked > 1:
            self.progress_log.step("turn")

    def _tell_desk(self, before: int) -> None:
        message = f"{before} starts are before yours: requests are checked in the order in which they came"
        self.progress_log.step("checks", message, finished=False, fraction=1 / before)

    def _tell_turn(self, before: int) -> None:
        many = "1 start is" if before == 1 else f"{before} starts are"
        message = f"{many} before yours: the machine boots a few sessions at a time"
        self.progress_log.step("turn", message, finished=False, fraction=1 / (1 + before))

    async def or_queued(self, refusal: Refusal) -> Refusal:
        """A refusal, or the answer that its owner has a place in the queue instead."""
        if self.options is None:
            return refusal
        url = f"{self.service_url}queue"
        return await asyncio.to_thread(
            instead_of, self.site, self.person, self.options, self.name, refusal, self.clock(), url
        )

    async def _launch(self) -> Any:
        options = self.accept_options(self.user_options or {})
        if self._turn is not None:
            await self._turn.prepare()
        joined = await self.join_running()
        if joined is not None:
            return joined
        await self.check_rights(options)
        self.progress_log.step("checks")
        await self.prepare_image(options)
        self.progress_log.step("image")
        self.progress_log.step("workspace", await make_project(self, options))
        assert self.workspace is not None
        await self.fill_workspace(self.workspace)
        if options.gpu == "none":
            # Nothing to reserve, so its container is made when it may boot: sixty made at once would keep
            # the engine from booting the first.
            await self.come_to_turn()
        address = await super().start()
        self.progress_log.step("started")
        await self.wait_until_answering(address)
        self.progress_log.step("jupyter")
        return address

    async def check_rights(self, options: LaunchOptions) -> None:
        """Refuse early what the policy does not allow; the claim checks again, under its lock."""
        person, now, site = self.person, self.clock(), self.site

        def ask() -> LaunchPlan | Refusal:
            return entitle(read(site, person, now, placing=False), options, self.name)

        answer = await asyncio.to_thread(ask)
        if isinstance(answer, Refusal):
            raise Refused(answer)

    async def progress(self) -> Any:
        """The start's events, from the first, for every browser that asks."""
        async for event in self.progress_log.follow():
            yield event

    # --- what an engine adapter provides --------------------------------------------------------

    async def prepare_image(self, options: LaunchOptions) -> None:
        """Find the environment's immutable image, and fetch it where it is missing."""
        raise EngineError("no engine adapter")

    async def fetch_repository(self, source: GitSource, staged: Workspace) -> None:
        """Fetch a repository into the folder of a new project; `FetchFailed` says why not."""
        raise EngineError("no engine adapter")

    async def fill_workspace(self, workspace: Workspace) -> None:
        """Put into the project what the environment brings, such as a course's starter files."""

    async def join_running(self) -> Any:
        """The address of this very session where it runs and the hub had lost it, else None.

        Takes a leftover of ours out of the way, and refuses where a stranger has the name.
        """
        raise EngineError("no engine adapter")

    async def discard(self) -> None:
        """Remove what a start has made so far. Idempotent; touches nothing that is not this session's."""
        raise EngineError("no engine adapter")

    async def explain_failure(self, refusal: Any) -> SessionRefused:
        """A failure with the container's last log lines, where there are any."""
        return SessionRefused(refusal)

    async def wait_until_answering(self, address: Any) -> None:
        """Return when the single-user server answers; raise as soon as its container has ended."""
        raise EngineError("no engine adapter")

    def ended(self, reason: str, kind: str, *, log_tail: str = "") -> None:
        """Keep why a start ended, for its owner's next page. Never raises, never blocks."""
        if self.never_came_up(reason, kind, log_tail=log_tail):
            return
        self.site.endings.remember(
            user=self.user.name,
            server=self.name,
            project=self.options.project if self.options else "",
            at=self.clock(),
            reason=reason,
            kind=kind,
            log_tail=log_tail,
        )

    def never_came_up(self, reason: str, kind: str, *, log_tail: str = "") -> bool:
        """Report the end of a session that this start has made; False where it has made none."""
        labels = self.session_labels
        if labels is None or labels.session != self.session_id:
            return False
        ended = Ended(labels.session, self.clock(), kind, reason, log_tail=log_tail)
        self.site.endings.ended(ended, labels)
        self.session_labels = None
        return True


def _why(error: BaseException, lock_timeout: int) -> Refusal:
    """The sentence for a failure that is nobody's refusal."""
    if isinstance(error, LockError):
        return messages.lock_busy(lock_timeout)
    if isinstance(error, EngineError):
        return messages.engine_down(_plain(error))
    return messages.start_failed(_plain(error))


def _plain(error: BaseException) -> str:
    """A failure in one line for its owner, without anything from a traceback."""
    text = getattr(error, "explanation", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0][:300]
