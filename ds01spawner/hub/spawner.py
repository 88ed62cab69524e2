"""`DS01Spawner`: the session on Docker. Thin: DockerSpawner builds and starts, we claim and verify.

The one seam to the engine is `docker`: every call DockerSpawner makes goes through it, in a thread and
in order for its container. ``create_container`` is where a session is claimed: ledger, placement and
create happen in one piece under the claim lock, in `engines.docker.launch`.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable
from functools import partial
from typing import Any

import docker.errors
from dockerspawner import DockerSpawner
from traitlets import Float, Integer, default

from .. import messages
from ..adopting import SessionAdoption
from ..core.errors import DS01Error, EngineError, Refused
from ..core.names import dns_label
from ..core.settings import DEFAULT_IMAGE, Settings
from ..engines.docker import launch
from ..engines.docker.create import WORKSPACE
from ..fetching import fetch, spec_for, with_host
from ..images.catalogue import Environment
from ..images.coursefiles import copy_starter, data_mounts
from ..images.engine import ImageMissing, Resolved
from ..images.projectfiles import ProjectFiles
from ..images.pulling import Pulled
from ..messages import notes
from ..newproject import fetching
from ..policy.options import LaunchOptions
from ..policy.sources import GitSource
from ..queue.course import claim_keys
from ..retiring import ENGINE_FAILURES, SessionEndings
from ..store import SessionRecord
from ..workspace.projects import Workspace
from . import probing
from .form import launch_form
from .session import SessionMixin

MAX_DEVICES_TRIED = 3
NETWORK_SETTINGS = ("network_mode", "dns", "dns_search", "dns_opt", "extra_hosts")
ENDED_LOOK_S = 0.5
"""Seconds between looks whether a session that boots has ended instead."""


class DS01Spawner(SessionAdoption, SessionEndings, SessionMixin, DockerSpawner):  # type: ignore[misc]
    """Starts each server as a session: a claim, a container and a workspace mount."""

    retire_grace = Integer(
        30, min=1, max=60, help="Seconds a session's processes get to save their work when it is retired."
    ).tag(config=True)
    retire_patience = Integer(
        120,
        min=0,
        help="""Seconds that a retire goes on in the hub while the container engine does not answer. After
        that the server leaves the hub's list, and the session is retired as soon as the engine answers.""",
    ).tag(config=True)
    answer_interval = Float(0.05, help="Seconds between looks whether a new session answers yet.").tag(
        config=True
    )

    claimed: launch.Claimed
    resolved_image: Resolved
    course: dict[str, Any]
    course_mounts: tuple[dict[str, Any], ...]
    _configured_image: str = DEFAULT_IMAGE
    _create_kwargs: dict[str, Any]
    _avoid: set[str]

    # A session is running or removed; there is no third state to come back to.
    remove = True

    @default("image")
    def _default_image(self) -> str:
        return DEFAULT_IMAGE

    def site_settings(self) -> Settings:
        """The shared settings, with the image of a site that has no catalogue."""
        return super().site_settings().model_copy(update={"image": self.configured_image})

    @property
    def configured_image(self) -> str:
        """The image of a site without a catalogue; ``image`` itself becomes an id at the start."""
        if not self.image.startswith("sha256:"):
            self._configured_image = self.image
        return self._configured_image

    @default("cmd")
    def _default_cmd(self) -> list[str]:
        return ["jupyterhub-singleuser"]

    @default("notebook_dir")
    def _default_notebook_dir(self) -> str:
        return WORKSPACE

    @default("default_url")
    def _default_default_url(self) -> str:
        return "/lab"

    @default("http_timeout")
    def _default_http_timeout(self) -> int:
        return 120  # at a hub restart a busy session must not be taken for dead

    @default("object_name")
    def _object_name_default(self) -> str:
        parts = [self.prefix, self.user.name] + ([self.name] if self.name else [])
        return dns_label(*parts)

    @default("prefix")
    def _default_prefix(self) -> str:
        # Two hubs on one engine must not want the same names.
        return "ds01" if self.hub_id == "hub" else f"ds01-{self.hub_id}"

    @default("options_form")
    def _default_options_form(self) -> Any:
        return self._options_form

    async def _options_form(self, spawner: Any) -> str:
        return await launch_form(self)

    # --- the seam to the engine -----------------------------------------------------------------

    @property
    def client(self) -> Any:
        """The calling thread's client; its API version is known before the first use on the loop."""
        return self.site.engine.client

    def docker(self, method: str, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Call the engine in a thread, in order for this session's container."""
        if method == "create_container":
            return self._claim(kwargs)
        return self.site.engine.call(method, *args, key=self.object_name, **kwargs)

    async def _claim(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Create the container with its devices. The create is the claim; see `launch.claim`."""
        self._create_kwargs = kwargs
        assert self.options is not None
        assert self.workspace is not None
        request = launch.LaunchRequest(
            site=self.site,
            person=self.person,
            options=self.options,
            workspace=self.workspace,
            create_kwargs=kwargs,
            session=self.session_id,
            server=self.name,
            image=self.resolved_image,
            stop_timeout=self.retire_grace,
            clock=self.clock,
            lock_timeout=self.lock_timeout,
            avoid=frozenset(self._avoid),
            keys=self.claim_keys,
            mounts=self.course_mounts,
        )
        claimed = await self.site.engine.run(
            partial(launch.launch, request=request), pool="claim", key=self.object_name
        )
        self.claimed = claimed
        self.session_labels = claimed.spec.labels
        self.site.endings.started(
            SessionRecord.from_labels(claimed.spec.labels, self.clock(), claimed.groups)
        )
        self.progress_log.step("device", claimed.sentence)
        self.progress_log.step("container", notes.ends_at(claimed.plan.expires_at))
        return {"Id": claimed.container}

    @property
    def claim_keys(self) -> frozenset[str]:
        """What lifts blocks on devices for this start: the person, their groups, the course they start."""
        # Whoever may start a course's environment is on its roster, whatever its group is called.
        return claim_keys(self.person, self.resolved_image.environment.course)

    async def start_object(self) -> None:
        """Put the user's account into the container and start it; on a bad device, try the next one.

        Before, it waits until it is this start's turn to boot.
        """
        try:
            await self.come_to_turn()
            await self._start_claimed()
            verify = partial(launch.verify, container=self.container_id, claimed=self.claimed, site=self.site)
            await self.site.engine.run(verify, pool="read")
        finally:
            self.let_go()

    async def _start_claimed(self) -> None:
        while True:
            account = partial(launch.prepare, container=self.container_id, spec=self.claimed.spec)
            try:
                await self.site.engine.run(account, key=self.object_name)
                await self.docker("start", self.container_id)
                return
            except docker.errors.APIError as error:
                reason = str(error.explanation or error)
                uuids = self.claimed.uuids
                if not uuids or len(self._avoid) >= MAX_DEVICES_TRIED:
                    raise
            await asyncio.to_thread(self.site.device_failed, uuids, reason, self.clock())
            self._avoid |= set(uuids)
            self.log.warning("%s could not start on %s, trying another: %s", self._log_name, uuids, reason)
            await self._remove(self.container_id)
            self.let_go()
            self.object_id = (await self._claim(self._create_kwargs))["Id"]

    def let_go(self) -> None:
        """Let go of the folders of this start, after whatever its container still waits for."""
        claimed = getattr(self, "claimed", None)
        if claimed is not None and claimed.sources is not None:
            self.site.engine.executor.submit("mutate", self.object_name, claimed.sources.close)

    async def get_object(self, quick: bool = False) -> dict[str, Any] | None:
        """Inspect this session's container; None only when the engine says there is none of ours.

        ``quick`` waits some seconds for an engine that hangs, not a minute.
        """
        engine, name = self.site.engine, self.object_name
        try:
            if quick:
                found = await engine.run(lambda _: engine.quick.inspect_container(name), pool="read")
            else:
                found = await self.docker("inspect_container", name)
        except docker.errors.NotFound:
            found = None
        except ENGINE_FAILURES as error:
            raise EngineError(f"the container engine did not answer: {error}") from error
        if found is None or not self.is_mine(found):
            self.object_id = ""
            return None
        self.object_id = found["Id"]
        self.session_labels = self.site.engine.session_in(found)
        return dict(found)

    def is_mine(self, inspected: dict[str, Any]) -> bool:
        """Whether a container is this user's session on this server of this installation."""
        labels = self.site.engine.session_in(inspected)
        return labels is not None and (labels.user, labels.server) == (self.user.name, self.name)

    # --- start ----------------------------------------------------------------------------------

    async def prepare_image(self, options: LaunchOptions) -> None:
        """Resolve the environment to an immutable image id; fetch it first where it is missing."""
        site, person, now = self.site, self.person, self.clock()
        fallback = self.configured_image

        def choose() -> Any:
            limits = site.limits(person, now)
            return site.environments.choose(person, limits, options.environment, fallback)

        environment = await asyncio.to_thread(choose)
        self.keep_options(options, environment.name)
        try:
            resolved = await self._present(environment)
        except Refused as refused:
            if refused.refusal.code == "image-missing":
                # The list may be some seconds old: what was deleted meanwhile is refused as unknown.
                await asyncio.to_thread(site.environments.renew)
                await asyncio.to_thread(choose)
            raise
        images = site.environments.images
        if self.judges_images:
            await images.run(site.environments.refuse_unfit, resolved, options.gpu != "none")
        self.course = await images.run(site.environments.course, environment)
        self.course_mounts = await images.run(
            data_mounts, self.course.get("data") or (), site.settings.data_roots, environment.course
        )
        self.resolved_image = resolved
        self.image = resolved.image_id

    @property
    def judges_images(self) -> bool:
        """Whether an image is checked for the server it must have; not where the site starts another."""
        return bool(self.cmd) and self.cmd[0] == "jupyterhub-singleuser"

    async def fill_workspace(self, workspace: Workspace) -> None:
        """Copy a course's starter files into a new project; a start does not fail for want of them."""
        starter, course = self.course.get("starter_files"), self.resolved_image.environment.course
        if not starter:
            return
        root, identity = self.site.workspaces.root, workspace.identity
        files = ProjectFiles(root, workspace.path.relative_to(root).parts, identity.uid, identity.gid)
        archive = self.site.settings.courses / course / starter["archive"]
        try:
            if await asyncio.to_thread(copy_starter, archive, files, course):
                self.progress_log.step("workspace", "The course's starter files are in your project")
        except (DS01Error, OSError) as error:
            self.log.error("Starter files of %s for %s: %s", course, self._log_name, error)
            self.progress_log.step("workspace", f"The course's starter files could not be copied: {error}")

    async def fetch_repository(self, source: GitSource, staged: Workspace) -> None:
        """Fetch a repository in a container of this session's image, with its progress as the start's."""
        log, image = self.progress_log, self.resolved_image
        project = self.options.project if self.options else ""
        args = (self.site, self.person, project, source, staged, image, self.session_id, self.clock())
        spec = with_host(await asyncio.to_thread(spec_for, *args), await self._network(), self.get_env())
        if self._turn is not None:
            self._turn.aside()

        def tell(said: str, fraction: float) -> None:
            log.step("workspace", fetching(source, said), finished=False, fraction=fraction)

        tell("", 0.0)
        title = image.environment.name
        await fetch(self.site, spec, staged.path, tell, key=self.object_name, environment=title)

    async def _network(self) -> dict[str, Any]:
        """What of the administrator's host settings says how a session reaches the network."""
        extra = self._eval_if_callable(self.extra_host_config)
        if inspect.isawaitable(extra):
            extra = await extra
        extra = self._render_templates(extra)
        return {k: extra[k] for k in NETWORK_SETTINGS if k in extra}

    async def _present(self, environment: Environment) -> Resolved:
        """The environment's image on this machine, pulled with progress where it may be."""
        images = self.site.environments.images
        try:
            return await images.run(self.site.environments.resolve, environment, self.person)
        except Refused:
            if environment.pinned or environment.kind in ("mine", "shared") or self.pull_policy == "never":
                raise
        loop, log = asyncio.get_running_loop(), self.progress_log
        if self._turn is not None:
            self._turn.aside()

        told: set[int] = set()

        def tell(pulled: Pulled) -> None:
            if (percent := round(100 * pulled.fraction)) not in told:
                told.add(percent)
                line, part = f"Fetching {environment.image}: {pulled}", 0.1 + 0.8 * pulled.fraction
                loop.call_soon_threadsafe(partial(log.step, "image", line, finished=False, fraction=part))

        log.step("image", f"Fetching {environment.image}", finished=False, fraction=0.1)
        try:
            await self.site.engine.run(lambda _: images.pull(environment.image, tell), pool="pull")
        except (EngineError, ImageMissing) as error:
            raise Refused(
                messages.image_missing(environment.name, f"{environment.image} ({error})", own=False)
            ) from error
        return await images.run(self.site.environments.resolve, environment, self.person)

    async def pull_image(self, image: str) -> None:
        """Nothing to do: `prepare_image` made sure of it, and an id cannot be pulled."""

    async def wait_until_answering(self, address: Any) -> None:
        """Poll the server's API until it answers; a container that ends meanwhile is a failed start."""
        ip, port = address
        path = f"{self.server.base_url}api"
        loop, looked = asyncio.get_running_loop(), time.monotonic()
        while not await loop.run_in_executor(probing.threads(), probing.answers, ip, int(port), path):
            if time.monotonic() - looked > ENDED_LOOK_S:
                if (ended := await self.ended_early()) is not None:
                    raise await self.explain_failure(ended)
                looked = time.monotonic()
            # Looking costs the hub time that those who boot could use.
            await asyncio.sleep(self.answer_interval * max(1, self.turns.booting))
