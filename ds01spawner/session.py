"""The session part of the spawner, the same for every engine: validate, plan, apply, explain.

``start`` turns options into a `LaunchPlan` or a refusal before the engine is asked for anything; the
engine adapter (`DS01Spawner` for Docker) says how a plan becomes a container. Every way a start can
end (done, refused, failed, timed out, cancelled) leaves either a running session or nothing.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from traitlets import Callable, Dict, Instance, Integer, List, Unicode, default

from . import attempts, messages
from .asking import ask_url
from .errors import DS01Error, EngineError, LockError, Refusal, Refused
from .hub_errors import OpenForm, SessionRefused
from .options import LaunchOptions, from_form, parse_options
from .pages.keys import load_secret, sign
from .policy.plan import LaunchPlan, plan
from .policy.resolve import Person
from .progress import Progress
from .queue.api import addresses, instead_of
from .queue.turns import Turn, Turns
from .settings import Settings
from .site import Site
from .workspace.projects import Workspace, WorkspaceError

START_TIMEOUT_S = 900
BOOT_TIMEOUT_S = 300
DISCARD_MARGIN_S = 5
"""Seconds of the hub's start limit kept back for cleaning up and saying what went wrong."""

if TYPE_CHECKING:
    from jupyterhub.spawner import Spawner as _Spawner
else:
    from traitlets.config import LoggingConfigurable as _Spawner

SETTINGS_TRAITS = {
    "state_dir": "state_dir",
    "policy_file": "policy",
    "store_url": "store_url",
    "workspace_root": "workspace_root",
    "workspace_host_root": "workspace_host_root",
    "devices": "devices",
    "inventory_file": "inventory",
    "attach": "attach",
    "strategy": "strategy",
    "environments_file": "environments",
    "data_roots": "data_roots",
    "hub_id": "hub_id",
    "identity": "identity",
    "start_timeout": "start_timeout",
    "extra_settings": "",
}
"""Traits that every process of the site must agree on, and their field in `Settings`."""


def settings_from(traits: Mapping[str, Any]) -> Settings:
    """Settings from the values of `SETTINGS_TRAITS`; empty text means the field's default."""
    fields = {SETTINGS_TRAITS[k]: v for k, v in traits.items() if SETTINGS_TRAITS[k] and v != ""}
    return Settings.model_validate({**fields, **traits.get("extra_settings", {})})


class SessionMixin(_Spawner):  # type: ignore[misc]
    """What a session does on any engine. Mix in before the engine's spawner class."""

    state_dir = Unicode(
        "/var/lib/ds01", help="Folder for the claim lock, the store and the settings other processes read."
    ).tag(config=True)
    policy_file = Unicode("", help="The policy file; empty means the built-in defaults.").tag(config=True)
    store_url = Unicode("", help="SQLAlchemy URL of the store; empty means SQLite in ``state_dir``.").tag(
        config=True
    )
    workspace_root = Unicode(
        "/srv/ds01/workspaces",
        help="Folder that holds every user's projects, as this process sees it. It must exist.",
    ).tag(config=True)
    workspace_host_root = Unicode(
        "",
        help="The same folder as the engine sees it; set it where the hub itself runs in a container.",
    ).tag(config=True)
    identity = Unicode(
        "range",
        help="""Who sessions run as: ``range`` or ``range:FIRST-LAST`` (a uid for each user, remembered by
        the owner of the user's folder), ``system`` (the host account of that name), or ``UID:GID``.""",
    ).tag(config=True)
    devices = Unicode(
        "auto", help="Where GPUs are read from: ``auto``, ``nvml``, ``simulated`` or ``none``."
    ).tag(config=True)
    inventory_file = Unicode("", help="YAML inventory for ``devices = 'simulated'``.").tag(config=True)
    attach = Unicode(
        "auto", help="How devices reach a container: ``auto``, ``cdi``, ``nvidia``, ``simulated``, ``none``."
    ).tag(config=True)
    strategy = Unicode("best-fit", help="Placement strategy: ``best-fit``, ``first-fit`` or ``spread``.").tag(
        config=True
    )
    environments_file = Unicode("", help="YAML catalogue of environments.").tag(config=True)
    data_roots = List(
        Unicode(),
        help="""Folders of the server below which a course's data may lie, as this process and the engine
        see them. They are mounted read-only, and nothing outside them ever is.""",
    ).tag(config=True)
    hub_id = Unicode("hub", help="Name of this hub, unique among the hubs of one engine.").tag(config=True)
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
    extra_settings = Dict(help="Further fields of `ds01spawner.settings.Settings`.").tag(config=True)
    clock = Callable(lambda: datetime.now(timezone.utc), help="Returns the time, with a zone. For tests.")

    options = Instance(LaunchOptions, allow_none=True)
    workspace = Instance(Workspace, allow_none=True)
    session_id = Unicode()

    _site: Site | None = None
    _turn: Turn | None = None
    _discarding: asyncio.Task[None] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.progress_log = Progress()

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
        """Public path of the service, with a trailing slash."""
        return f"{self.hub.base_url.removesuffix('hub/')}services/ds01/"

    def fragment_key(self) -> str:
        """The signed key with which this person's page refreshes its live parts."""
        return sign(load_secret(self.site.settings.state_dir), self.user.name, self.clock())

    # --- options --------------------------------------------------------------------------------

    @default("options_from_form")
    def _default_options_from_form(self) -> Any:
        return from_form

    @default("apply_user_options")
    def _default_apply_user_options(self) -> Any:
        def apply(spawner: SessionMixin, raw: dict[str, Any]) -> None:
            spawner.accept_options(raw)

        return apply

    def accept_options(self, raw: object) -> LaunchOptions:
        """Validate options from any source and keep them; raises `SessionRefused` (400)."""
        try:
            self.options = parse_options(raw)
        except Refused as refused:
            raise SessionRefused(refused.refusal) from None
        self.keep_options(self.options)
        return self.options

    def keep_options(self, options: LaunchOptions, environment: str = "") -> None:
        """Keep options as the hub does, summed up with the environment's title once that is known."""
        self.user_options = options.stored(environment)
        orm = getattr(self, "orm_spawner", None)
        if orm is not None and orm.user_options != self.user_options:
            # The hub's pages show the readable summary; a later start without options reuses these.
            orm.user_options = self.user_options

    def options_from_query(self, query: dict[str, Any]) -> Any:
        """A link never starts anything: the form opens, filled in, and waits for a click."""
        raise OpenForm()

    # --- start ----------------------------------------------------------------------------------

    async def start(self) -> Any:
        """Launch the session; see the module's text for what every ending leaves behind."""
        self.progress_log = Progress()
        self.session_id = uuid.uuid4().hex
        attempts.tried(self.user.name, self.name, self.user_options or {})
        turn = self._turn = self.turns.draw(self._tell_turn)
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
            self._discarding = asyncio.ensure_future(self.discard())
            raise
        except SessionRefused as refused:
            await self.discard()
            self.ended(refused.refusal.sentence, "refused", log_tail=refused.log_tail)
            raise
        except Refused as refused:
            await self.discard()
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

    async def _in_time(self, launch: asyncio.Future[Any], turn: Turn) -> Refusal | None:
        """Wait for the launch; why it must end, when its own work or all of it takes too long."""
        clock = asyncio.get_running_loop().time
        total = max(self.start_timeout - DISCARD_MARGIN_S, self.start_timeout * 0.8)
        own, began = min(self.boot_timeout, total), clock()
        while not launch.done():
            spent = clock() - began
            if spent >= total and turn.waiting:
                return messages.turn_never_came(round(spent))
            if spent >= min(total, own + turn.waited):
                return messages.start_timeout(round(spent - turn.waited))
            # Time passes for the turn too, so a look that came too early only looks again.
            await asyncio.wait([launch], timeout=min(total, own + turn.waited) - spent)
        return None

    async def come_to_turn(self) -> None:
        """Return when it is this start's turn to boot. Call it with the claim made and nothing running."""
        if self._turn is not None:
            await self._turn.come()
            if self._turn.waited > 1:
                self.progress_log.step("turn")

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
        try:
            self.workspace = await asyncio.to_thread(
                self.site.workspaces.prepare, self.user.name, options.project
            )
        except WorkspaceError as error:
            refusal = messages.workspace_unusable(options.project, str(error))
            raise Refused(replace(refusal, status=error.status)) from error
        except DS01Error as error:
            raise Refused(messages.workspace_unusable(options.project, str(error))) from error
        await asyncio.to_thread(self.site.give_quota, self.person, self.workspace, self.clock())
        self.progress_log.step("workspace", f"Project {options.project} ready at /workspace")
        await self.fill_workspace(self.workspace)
        if options.gpu == "none":
            # Nothing to reserve, so its container is made when it may boot: sixty made at once would keep
            # the engine from booting the first.
            await self.come_to_turn()
        address = await super().start()
        self.progress_log.step("started")
        await self.wait_until_answering(address)
        self.progress_log.step("jupyter")
        self.started()
        return address

    async def check_rights(self, options: LaunchOptions) -> None:
        """Refuse early what the policy does not allow; the claim checks again, under its lock."""
        person, now, site = self.person, self.clock(), self.site

        def check() -> LaunchPlan | Refusal:
            limits = site.limits(person, now)
            closed = site.maintenance.refusal(now, limits.idle.lifetime_lead)
            if closed is not None:
                return closed
            usage = site.usage_of(person, site.holdings(), now, limits)
            return plan(person, limits, options, usage, now, server=self.name)

        answer = await asyncio.to_thread(check)
        if not isinstance(answer, LaunchPlan):
            raise Refused(answer)

    async def progress(self) -> Any:
        """The start's events, from the first, for every browser that asks."""
        async for event in self.progress_log.follow():
            yield event

    # --- what an engine adapter provides --------------------------------------------------------

    async def prepare_image(self, options: LaunchOptions) -> None:
        """Find the environment's immutable image, and fetch it where it is missing."""
        raise EngineError("no engine adapter")

    async def fill_workspace(self, workspace: Workspace) -> None:
        """Put into the project what the environment brings, such as a course's starter files."""

    async def join_running(self) -> Any:
        """The address of this very session where it runs and the hub had lost it, else None.

        Takes a leftover of ours out of the way, and refuses where a stranger has the name.
        """
        raise EngineError("no engine adapter")

    def started(self) -> None:
        """Called once the session answers."""

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
        """Keep when and why this session ended, for its owner's next page. Never raises, never blocks."""
        self.site.endings.remember(
            user=self.user.name,
            server=self.name,
            project=self.options.project if self.options else "",
            at=self.clock(),
            reason=reason,
            kind=kind,
            log_tail=log_tail,
        )


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
