"""One start of one server, from what was asked for to an address that answers. The same on every engine.

`Start._stages` reads from top to bottom; what each stage takes and gives are frozen values. `Start.run` says
what happens when one of them fails: however a start ends (done, refused, failed, late, cancelled), it leaves
either a running session or nothing.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from .. import messages
from ..admission.accounts import claim_keys
from ..admission.check import entitle
from ..admission.limit_requests import ask_url
from ..admission.situation import read
from ..core.ending import Ended
from ..core.errors import EngineError, LockError, Refusal, Refused
from ..core.lag import watch
from ..engines.base import Claimed, DeviceUnusable, EngineRefused
from ..engines.claiming import LaunchRequest
from ..engines.docker.fetching import FetchFailed
from ..messages import end_clauses, notes
from ..policy.plan import LaunchPlan
from ..queue.joining import addresses, instead_of
from ..queue.turns import Turn
from ..store import SessionRecord
from . import attempts, probing
from .http_errors import SessionRefused
from .image_stage import Chosen, choose_image
from .join import join_running
from .project_stage import Project, ProjectStage, copy_starter_files
from .retire import Retirement
from .server import Address, Server, Wish

DISCARD_MARGIN_S = 5
"""Seconds of the hub's start limit kept back for cleaning up and saying what went wrong."""
MAX_DEVICES_TRIED = 3


class Start:
    """See the module's text. Made for one start; `run` it once."""

    def __init__(self, server: Server, retirement: Retirement) -> None:
        self.server, self.retirement = server, retirement
        self.session = uuid.uuid4().hex
        self.turn = server.turns.draw(self._say_before_boot, self._say_before_checks)
        self.discarding: asyncio.Task[None] | None = None
        """Removes what a cancelled start has made, after the hub was answered."""
        self.avoid: frozenset[str] = frozenset()
        """Devices on which this start has failed already."""
        self._wish: Wish | None = None
        self._projects = ProjectStage(server, self.turn)
        self._claimed: Claimed | None = None

    async def run(self) -> Address:
        """Start it; raises `SessionRefused` with what its owner is told, and then nothing of it is left."""
        server = self.server
        attempts.tried(server.user.name, server.name, server.user_options or {})
        work = asyncio.ensure_future(self._stages())
        try:
            late = await in_time(work, self.turn, server.boot_timeout, server.start_timeout)
            if late is not None:
                work.cancel()
                raise await self._explained(late)
            address = work.result()
        except asyncio.CancelledError:
            # The hub gives a cancelled start one second, so the clean-up must not be awaited here.
            # It queues behind whatever engine call is still in flight.
            work.cancel()
            self.discarding = asyncio.ensure_future(self._discard_cancelled())
            raise
        except Exception as error:
            failure = await self._failed(error)
            if failure is error:
                raise
            raise failure from (None if isinstance(error, Refused) else error)
        finally:
            self.turn.end(answered=work.done() and not work.cancelled() and work.exception() is None)
            server.progress_log.finish()
        attempts.worked(server.user.name)
        return address

    # --- the stages -----------------------------------------------------------------------------

    async def _stages(self) -> Address:
        server, say = self.server, self.server.progress_log.step
        wish = self._validated()
        await self.turn.prepare()
        joined = await join_running(server, self.retirement)
        if joined is not None:
            return joined
        await self._entitled(wish)
        say("checks")
        chosen = await choose_image(server, self.turn, wish)
        server.image = chosen.image.image_id
        say("image")
        project = await self._projects.prepare(wish, chosen)
        say("workspace", f"Project {wish.options.project} ready at /workspace{project.note}")
        await copy_starter_files(server, chosen, project)
        if wish.options.gpu == "none":
            # Nothing to reserve, so its container is made when it may boot: sixty made at once would keep
            # the engine from booting the first.
            await self._come_to_turn()
        address = await self._booted(wish, chosen, project)
        say("started")
        await self._answering(address)
        say("jupyter")
        return address

    def _validated(self) -> Wish:
        server = self.server
        options = server.kept.accept(server.user_options or {})
        self._wish = Wish(server.person, server.name, self.session, options)
        return self._wish

    async def _entitled(self, wish: Wish) -> LaunchPlan:
        """Refuse early what the policy does not allow; the claim checks again, under its lock."""
        now, site = self.server.clock(), self.server.site

        def ask() -> LaunchPlan | Refusal:
            return entitle(read(site, wish.person, now, placing=False), wish.options, wish.server)

        answer = await asyncio.to_thread(ask)
        if isinstance(answer, Refusal):
            raise Refused(answer)
        return answer

    async def _booted(self, wish: Wish, chosen: Chosen, project: Project) -> Address:
        """Claim devices and create the session, wait for its turn, boot it; on a bad device, try the next.

        A device is blamed where the engine's words are about it, or where another one does. What fails on
        each in the same way, in words about something else, is the engine's or the site's own fault.
        """
        unsure: list[DeviceUnusable] = []
        server, on_engine = self.server, self.server.on_engine
        native = await server.native()
        claimed = await self._claim(wish, chosen, project, native)
        try:
            await self._come_to_turn()
            while True:
                try:
                    await on_engine.start(claimed)
                    break
                except DeviceUnusable as error:
                    if len(self.avoid) >= MAX_DEVICES_TRIED:
                        raise
                    failed = error
                if failed.sure:
                    await self._blame(failed)
                else:
                    unsure.append(failed)
                self.avoid |= set(failed.devices)
                server.log.warning(
                    "%s could not start on %s, trying another: %s", server._log_name, failed.devices, failed
                )
                await on_engine.discard(self.session)
                on_engine.let_go(claimed)
                claimed = await self._claim(wish, chosen, project, native)
            for failed in unsure:
                await self._blame(failed)
        finally:
            self._let_go()
        return await server.came_up()

    async def _blame(self, failed: DeviceUnusable) -> None:
        server = self.server
        await asyncio.to_thread(server.site.device_failed, failed.devices, str(failed), server.clock())

    async def _claim(self, wish: Wish, chosen: Chosen, project: Project, native: Any) -> Claimed:
        server, site = self.server, self.server.site
        request = LaunchRequest(
            site=site,
            person=wish.person,
            options=wish.options,
            workspace=project.workspace,
            create_kwargs=native,
            session=wish.session,
            server=wish.server,
            image=chosen.image,
            stop_timeout=server.retire_grace,
            clock=server.clock,
            lock_timeout=server.lock_timeout,
            avoid=self.avoid,
            # Whoever may start a course's environment is on its roster, whatever its group is called.
            keys=claim_keys(wish.person, chosen.image.environment.course),
            mounts=chosen.mounts,
        )
        self._claimed = claimed = await server.on_engine.claim(request)
        labels = claimed.labels
        server.object_id, server.session_labels = claimed.container, labels
        site.endings.started(SessionRecord.from_labels(labels, server.clock(), labels.groups))
        server.progress_log.step("device", claimed.sentence)
        server.progress_log.step("container", notes.ends_at(claimed.claim.plan.expires_at))
        return claimed

    async def _come_to_turn(self) -> None:
        """Return when it is this start's turn to boot; at once when it has come. Nothing runs yet."""
        if self.turn.came:
            return
        asked = self.turn.waited
        await self.turn.come()
        if self.turn.waited - asked > 1:
            self.server.progress_log.step("turn")

    async def _answering(self, address: Address) -> None:
        """Return when the single-user server answers; a container that ends meanwhile is a failed start."""
        server = self.server

        async def pause() -> None:
            # Looking costs the hub time that those who boot could use.
            await asyncio.sleep(server.answer_interval * max(1, server.turns.booting))

        async def check() -> None:
            if (ended := await self.retirement.ended_early()) is not None:
                raise await self._explained(ended)

        await probing.until_it_answers(address, f"{server.server.base_url}api", pause, check)

    # --- what a start that fails leaves -----------------------------------------------------------

    async def _failed(self, error: Exception) -> SessionRefused:
        """Remove what was made, keep why for its owner, and return what the hub is told."""
        server, now = self.server, self.server.clock()
        if isinstance(error, (SessionRefused, FetchFailed)):
            await self.discard()
            self._ended(error.refusal.sentence, "refused", error.log_tail)
            if isinstance(error, SessionRefused):
                return error
            attempts.refused(server.user.name, server.name, error.refusal, now)
            return SessionRefused(error.refusal, log_tail=error.log_tail, to_form=True)
        if isinstance(error, Refused):
            await self.discard()
            self._never_came_up(error.refusal.sentence, "refused")
            answer = await self._or_queued(error.refusal)
            if not answer.ticket:
                attempts.refused(server.user.name, server.name, answer, now)
            ask, headers = ask_url(server.service_url, answer), addresses(answer, server.service_url)
            return SessionRefused(answer, ask_url=ask, headers=headers, to_form=not answer.ticket)
        server.log.error("Start of %s failed", server._log_name, exc_info=error)
        failure = await self._explained(_why(error, server.lock_timeout))
        await self.discard()
        self._ended(failure.refusal.sentence, "failed", failure.log_tail)
        return failure

    async def _explained(self, refusal: Refusal) -> SessionRefused:
        """A refusal with the last lines of the session's log, where there are any."""
        tail = await self.server.on_engine.log_tail(self.server.object_id)
        return SessionRefused(refusal, log_tail=tail)

    async def _or_queued(self, refusal: Refusal) -> Refusal:
        """A refusal, or the answer that its owner has a place in the queue instead."""
        wish, server = self._wish, self.server
        if wish is None:
            return refusal
        who, options, url = wish.person, wish.options, f"{server.service_url}queue"
        args = (server.site, who, options, wish.server, refusal, server.clock(), url)
        return await asyncio.to_thread(instead_of, *args)

    async def discard(self) -> None:
        """Remove whatever this start made; queued behind any call that is still in flight."""
        server = self.server
        try:
            await server.on_engine.discard(self.session)
        except EngineError as error:
            await self.retirement.leave_behind(self.session, "", "failed", error)
        if self._wish is not None:
            await self._projects.undo(self._wish)
        self._let_go()
        server.object_id = ""

    async def _discard_cancelled(self) -> None:
        await self.discard()
        self._never_came_up(end_clauses.CANCELLED, "cancelled")

    def _let_go(self) -> None:
        if self._claimed is not None:
            self.server.on_engine.let_go(self._claimed)

    def _ended(self, reason: str, kind: str, log_tail: str = "") -> None:
        """Keep why a start ended, for its owner's next page. Never raises, never blocks."""
        if self._never_came_up(reason, kind, log_tail):
            return
        server, wish = self.server, self._wish
        server.site.endings.remember(
            user=server.user.name,
            server=server.name,
            project=wish.options.project if wish else "",
            at=server.clock(),
            reason=reason,
            kind=kind,
            log_tail=log_tail,
        )

    def _never_came_up(self, reason: str, kind: str, log_tail: str = "") -> bool:
        """Report the end of a session that this start has made; False where it has made none."""
        server, labels = self.server, self.server.session_labels
        if labels is None or labels.session != self.session:
            return False
        ended = Ended(labels.session, server.clock(), kind, reason, log_tail=log_tail)
        server.site.endings.ended(ended, labels)
        server.session_labels = None
        return True

    # --- what is said while it waits --------------------------------------------------------------

    def _say_before_checks(self, before: int) -> None:
        message = f"{before} starts are before yours: requests are checked in the order in which they came"
        self.server.progress_log.step("checks", message, finished=False, fraction=1 / before)

    def _say_before_boot(self, before: int) -> None:
        many = "1 start is" if before == 1 else f"{before} starts are"
        message = f"{many} before yours: the machine boots a few sessions at a time"
        self.server.progress_log.step("turn", message, finished=False, fraction=1 / (1 + before))


async def in_time(
    work: asyncio.Future[Any], turn: Turn, boot_timeout: float, start_timeout: float
) -> Refusal | None:
    """Wait for a start; why it must end, when its own work or all of it takes too long."""
    clock = asyncio.get_running_loop().time
    total = max(start_timeout - DISCARD_MARGIN_S, start_timeout * 0.8)
    own, began, lag = min(boot_timeout, total), clock(), watch()
    late = lag.behind
    while not work.done():
        spent = clock() - began
        # What this process itself was late is no time of the session's.
        own_end = own + turn.waited + lag.behind - late
        if spent >= total and turn.waiting:
            return messages.turn_never_came(round(spent))
        if spent >= min(total, own_end):
            return messages.start_timeout(round(spent - turn.waited))
        # Time passes for the turn too, so a look that came too early only looks again.
        await asyncio.wait([work], timeout=min(total, own_end) - spent)
    return None


def _why(error: BaseException, lock_timeout: int) -> Refusal:
    """The sentence for a failure that is no refusal."""
    if isinstance(error, LockError):
        return messages.lock_busy(lock_timeout)
    if isinstance(error, EngineError) and not isinstance(error, EngineRefused):
        return messages.engine_down(_plain(error))
    return messages.start_failed(_plain(error))


def _plain(error: BaseException) -> str:
    """A failure in one line for its owner, without anything from a traceback."""
    text = getattr(error, "explanation", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0][:300]
