"""Recipe in, build context out: a Dockerfile and its files. Pure.

Package names never stand in a shell line: they are in files that pip, apt and conda read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from .. import layer
from .recipe import Recipe


@dataclass(frozen=True)
class SiteBuild:
    """What a site adds to every build: files (a certificate authority, a pip.conf) and build arguments.

    ``files`` maps a path in the image to its content. ``args`` are set while the layer and the packages
    are installed; they can be read in the image's history, so no secret belongs there.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    args: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """A context to send: its Dockerfile and further files by path, both as they go into the tar."""

    dockerfile: str
    files: dict[str, bytes]
    shared: int = 0
    """How many of the first steps are the same for everybody who builds on this base."""


def plan(
    recipe: Recipe,
    base: str,
    hub_version: str,
    *,
    site: SiteBuild | None = None,
    requirements: tuple[str, ...] = (),
    conda: tuple[str, ...] = (),
    channels: tuple[str, ...] = (),
    constraints: tuple[str, ...] = (),
    has_layer: bool = False,
) -> Plan:
    """The context for ``recipe`` on ``base`` (a reference that is pinned to one image).

    ``requirements``, ``conda`` and ``channels`` are what the recipe's files in the project say, checked
    already; ``constraints`` are versions of an earlier build to hold to. The layer goes first, where no
    package can change the user's Python under it: then it is built once for each base.
    """
    site = site or SiteBuild()
    pip = (*recipe.pip, *requirements)
    conda = (*recipe.conda, *conda)
    channels = (*recipe.channels, *channels)
    files = {f"{layer.FOLDER}/{name}": content for name, content in layer.files().items()}
    files[f"{layer.FOLDER}/requirements.txt"] = layer.requirements(hub_version).encode()
    lines = [f"FROM {base}", "USER root", 'SHELL ["/bin/sh", "-c"]', *_site(site, files)]
    session = [] if has_layer else _layer()
    lines += [_run(f"{_TOOL} >/dev/null")] if conda else session
    shared = len(lines)
    if recipe.apt:
        files["ds01-recipe/apt.txt"] = _list(recipe.apt)
        lines += ["COPY ds01-recipe/apt.txt /opt/ds01-recipe/apt.txt", _run(_APT)]
    if conda:
        files["ds01-recipe/conda.txt"] = _list(conda)
        lines += ["COPY ds01-recipe/conda.txt /opt/ds01-recipe/conda.txt", _run(_conda(channels))]
        lines += session
    if pip:
        files["ds01-recipe/requirements.txt"] = _list(pip)
        files["ds01-recipe/constraints.txt"] = _list(constraints)
        lines += ["COPY ds01-recipe/*.txt /opt/ds01-recipe/", _run(_PIP)]
    lines += _end(recipe)
    return Plan("\n".join(lines) + "\n", files, shared)


_APT = (
    "export DEBIAN_FRONTEND=noninteractive; apt-get update -qq"
    " && xargs -r -a /opt/ds01-recipe/apt.txt apt-get install -y --no-install-recommends --"
    " && rm -rf /var/lib/apt/lists/*"
)
_PIP = (
    "PIP_ROOT_USER_ACTION=ignore $(cat /opt/ds01/layer/user_python) -m pip install --no-cache-dir"
    " --disable-pip-version-check"
    " -c /opt/ds01-recipe/constraints.txt -r /opt/ds01-recipe/requirements.txt"
)


# Asked before anything is installed, so that a base without conda is refused at once.
_TOOL = (
    "{ command -v mamba || command -v micromamba || command -v conda"
    " || { echo 'ds01: refused: this base has no conda; choose one that has, or use pip' >&2; exit 65; }; }"
)


def _conda(channels: tuple[str, ...]) -> str:
    # Channel names have letters, digits, dots, dashes and underscores only: see recipe.py.
    wanted = "".join(f" -c {name}" for name in dict.fromkeys(channels))
    return (
        f"tool=$({_TOOL}) || exit 65;"
        f' "$tool" install -y -q{wanted} --file /opt/ds01-recipe/conda.txt && "$tool" clean -afy >/dev/null'
    )


def _run(command: str) -> str:
    # The exec form keeps the line the same whatever SHELL the base has set.
    return "RUN " + json.dumps(["/bin/sh", "-c", command])


def _list(items: tuple[str, ...]) -> bytes:
    return "".join(f"{item}\n" for item in dict.fromkeys(items)).encode()


def _site(site: SiteBuild, files: dict[str, bytes]) -> list[str]:
    lines = []
    for number, (target, content) in enumerate(sorted(site.files.items())):
        name = f"ds01-site/{number}"
        files[name] = content
        lines.append("COPY " + json.dumps([name, target]))
    return lines + [f"ARG {name}" for name in sorted(site.args)]


def _layer() -> list[str]:
    # pip in a session installs into the home of the moment, also where Debian marks its Python as managed.
    return [
        f"COPY {layer.FOLDER} /opt/ds01/layer",
        _run("sh /opt/ds01/layer/install.sh"),
        f"ENV PATH={layer.PATH} PIP_BREAK_SYSTEM_PACKAGES=1 PIP_DISABLE_PIP_VERSION_CHECK=1",
    ]


def _end(recipe: Recipe) -> list[str]:
    finish = ["/opt/ds01/bin/python", "-I", "/opt/ds01/layer/finish.py"]
    return [
        "RUN " + json.dumps([*finish, *([recipe.python] if recipe.python else [])]),
        "WORKDIR /workspace",
        "ENTRYPOINT []",
        'CMD ["jupyterhub-singleuser"]',
    ]
