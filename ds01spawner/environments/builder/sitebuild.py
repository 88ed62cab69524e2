"""What the site says about builds: settings of the environment, the machine, the bases people may use.

``DS01_BUILD_ARGS`` (``NAME=value NAME=value``) are build arguments, ``DS01_BUILD_FILES``
(``/host/file:/image/file …``) files that go into every image, such as the certificate authority of an
inspecting proxy or a pip.conf; ``DS01_BUILD_NETWORK`` is the network mode of the build's steps.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path

from ... import messages
from ...core.errors import DS01Error, Refused
from ...core.installation import load as load_installation
from ...core.settings import Settings
from ...engines.docker.image_store import Images
from ..catalogue import Environment, Listed
from ..preflight import Host
from ..registries import PUBLIC, Registries
from ..resolver import NotReadable
from .builds import Site
from .dockerfile import SiteBuild
from .recipe import Recipe


def site_build(environ: Mapping[str, str] | None = None) -> SiteBuild:
    """Files and arguments for every build; a file that is not there is an error, never left out."""
    given = os.environ if environ is None else environ
    files: dict[str, bytes] = {}
    for pair in shlex.split(given.get("DS01_BUILD_FILES", "")):
        source, colon, target = pair.partition(":")
        if not colon or not target.startswith("/"):
            raise DS01Error(f"DS01_BUILD_FILES: {pair!r} is not /host/file:/image/file")
        try:
            files[target] = Path(source).read_bytes()
        except OSError as error:
            raise DS01Error(f"DS01_BUILD_FILES: {source} cannot be read: {error.strerror}") from error
    args: dict[str, str] = {}
    for pair in shlex.split(given.get("DS01_BUILD_ARGS", "")):
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise DS01Error(f"DS01_BUILD_ARGS: {pair!r} is not NAME=value")
        args[name] = value
    return SiteBuild(files, args)


def site_images(settings: Settings) -> Images:
    """The images of this installation on the site's engine."""
    return Images(settings.docker_host, installation=lambda: load_installation(settings.state_dir))


def hub_version() -> str:
    """The version of JupyterHub beside us: what the session layer must fit."""
    return metadata.version("jupyterhub")


def build_site(
    images: Images,
    *,
    cuda: str = "",
    minimum_free: int = 2 * 2**30,
    engine_root: str = "",
    ready: Callable[[], str] = lambda: "",
    listed: Callable[[], Iterable[Environment]] = tuple,
    environ: Mapping[str, str] | None = None,
    registries: Iterable[str] = (PUBLIC,),
) -> Site:
    """What a `BuildRunner` needs; ``cuda`` is what the driver takes, ``engine_root`` the engine's folder."""
    given = os.environ if environ is None else environ
    return Site(
        host=Host(images.engine().architecture, hub_version(), cuda),
        build=site_build(given),
        network=given.get("DS01_BUILD_NETWORK", ""),
        listed=listed,
        ready=ready,
        registries=Registries(tuple(registries)),
        runtime=images.plain_runtime(),
        free_bytes=_free(engine_root),
        minimum_free=minimum_free,
    )


def _free(root: str) -> Callable[[], int | None]:
    def free() -> int | None:
        try:
            return shutil.disk_usage(root).free if root else None
        except OSError:
            return None

    return free


def base_for(recipe: Recipe, listed: Iterable[Listed], check: Callable[[str], None]) -> str:
    """The image a recipe starts from: an environment the person may start, or an image they may read.

    ``check`` raises `NotReadable` for one they may not. Empty for a Dockerfile. `Refused` for an
    environment that is not theirs, or not allowed.
    """
    if recipe.dockerfile:
        return ""
    startable = [item for item in listed if item.allowed]
    if not recipe.base:
        lab = [i.environment for i in startable if i.environment.kind == "lab"]
        chosen = [e for e in lab if e.default] or lab
        if not chosen:
            raise Refused(messages.no_base("", "the site has no default environment to start from"))
        return chosen[0].pinned or chosen[0].image
    for item in startable:
        if item.environment.id == recipe.base:
            return item.environment.pinned or item.environment.image
    try:
        check(recipe.base)
    except NotReadable as error:
        raise Refused(messages.no_base(recipe.base, str(error))) from None
    return recipe.base
