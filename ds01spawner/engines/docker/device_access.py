"""What a container could touch, as the engine's inspect tells it. Pure: an inspect in, tokens out.

Tokens are names, not devices: they stay true for the life of the container and can be cached, while
what they stand for depends on the inventory of the moment (`claims` resolves them). Everything that
could open a GPU counts, whether it works today or not: device requests by id, index or count, CDI
names, device nodes and cgroup rules, privileged mode, and the environment that an NVIDIA runtime or
hook obeys, which images bring along.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from ...core.installation import Installation, Standing, standing
from ...core.labels import SessionLabels
from .answers import ConfigJson, ContainerJson, DeviceRequestJson, HostConfigJson

Kind = Literal["all", "uuid", "index", "count", "minor", "label"]
Token = tuple[Kind, str]
ALL: Token = ("all", "")

PLAIN_RUNTIMES = frozenset({"", "runc", "crun", "io.containerd.runc.v2", "io.containerd.runtime.v1.linux"})
"""Runtimes known to ignore the NVIDIA environment; any other one may obey it."""
OTHER_VENDORS = ("amd.com", "intel.com", "habana.ai", "gpu.intel.com")
NOT_DEVICES = frozenset({"", "void", "none"})
NVIDIA_MAJOR = "195"
CONTROL_MINORS = frozenset({"254", "255"})
"""Minors of the modeset and control nodes, which give no GPU by themselves."""
VOLUME_ROOT = "/var/run/nvidia-container-devices/"

_INDEX = re.compile(r"(?:gpu|mig)?([0-9]+)(?:[:.][0-9]+)?", re.IGNORECASE)
_NODE = re.compile(r"/dev/(?:nvidia|char/195:)([0-9]+)")
_CDI = re.compile(r"([a-z0-9][a-z0-9.-]*)/([A-Za-z0-9][A-Za-z0-9._-]*)=(\S+)")
_RULE = re.compile(r"([abc])\s+([0-9]+|\*):([0-9]+|\*)\s+[rwm]+")


@dataclass(frozen=True)
class Evidence:
    """What one container could touch, whatever its state; constant for the life of its id."""

    container: str
    tokens: tuple[Token, ...]
    labels: Mapping[str, str]
    claim: SessionLabels | None
    """The session that its labels tell of, true or not."""
    standing: Standing | None = None
    """Whose session it really is, where it says that it is one."""
    created: str = ""

    @property
    def session(self) -> SessionLabels | None:
        """The session of this installation that it is."""
        return self.claim if self.standing is Standing.OURS else None


def evidence_of(inspect: ContainerJson, installation: Installation | None = None) -> Evidence:
    """Read ``GET /containers/{id}/json``. Missing parts mean what the engine means by leaving them out.

    Devices that labels name count only in a session of this installation: anybody can write a label.
    """
    config = inspect.get("Config") or ConfigJson()
    host = inspect.get("HostConfig") or HostConfigJson()
    labels = {str(k): str(v) for k, v in (config.get("Labels") or {}).items()}
    container = str(inspect.get("Id") or "")
    claim = SessionLabels.from_labels(labels)
    whose = standing(installation, labels, str(inspect.get("Name") or "").lstrip("/"), container)
    told = claim.gpu_uuids if claim is not None and whose is Standing.OURS else ()
    own: list[Token] = [("label", uuid) for uuid in told]
    tokens = dict.fromkeys((*_host_tokens(host), *_environment_tokens(config, host), *own))
    return Evidence(
        container=container,
        tokens=(ALL,) if ALL in tokens else tuple(tokens),
        labels=labels,
        claim=claim,
        standing=whose,
        created=str(inspect.get("Created") or ""),
    )


def unknown_evidence(
    container: str,
    labels: Mapping[str, str] | None,
    name: str = "",
    installation: Installation | None = None,
) -> Evidence:
    """What a container counts as while the engine does not tell about it: it could touch everything."""
    known = {str(k): str(v) for k, v in (labels or {}).items()}
    whose = standing(installation, known, name, container)
    return Evidence(container, (ALL,), known, SessionLabels.from_labels(known), whose)


def named(name: str) -> Iterator[Token]:
    """The token for a device as NVIDIA's tools take it: ``all``, an index, ``gpu0``, ``1:0`` or a UUID."""
    name = name.strip()
    if name.lower() in NOT_DEVICES:
        return
    index = _INDEX.fullmatch(name)
    if name.lower() == "all":
        yield ALL
    elif index:
        yield ("index", index[1])
    else:
        yield ("uuid", name)


def _host_tokens(host: HostConfigJson) -> Iterator[Token]:
    if host.get("Privileged"):
        yield ALL
    for request in host.get("DeviceRequests") or ():
        yield from _request_tokens(request)
    for device in host.get("Devices") or ():
        yield from _path_tokens(str(device.get("PathOnHost") or ""))
    for rule in host.get("DeviceCgroupRules") or ():
        yield from _rule_tokens(str(rule))
    for key, value in (host.get("Annotations") or {}).items():
        if str(key).startswith("cdi.k8s.io/"):
            for name in str(value).split(","):
                yield from _cdi_tokens(name.strip())


def _request_tokens(request: DeviceRequestJson) -> Iterator[Token]:
    """One device request. Which driver really serves it is the engine's affair; all count."""
    ids = [str(i) for i in request.get("DeviceIDs") or ()]
    for name in ids:
        cdi = _CDI.fullmatch(name)
        yield from _cdi_tokens(name) if cdi else named(name)
    count = int(request.get("Count") or 0)
    if count < 0:
        yield ALL
    elif count:
        yield ("count", str(count))


def _cdi_tokens(name: str) -> Iterator[Token]:
    """A CDI name ``vendor/class=id``. Kinds that are surely no NVIDIA GPU give nothing."""
    match = _CDI.fullmatch(name)
    if not match or match[1].lower() in OTHER_VENDORS:
        return
    vendor, kind, device = match[1].lower(), match[2].lower(), match[3]
    if "nvidia" in vendor or "gpu" in kind or "mig" in kind:
        yield from named(device)
    elif device.upper().startswith(("GPU-", "MIG-")):
        yield ("uuid", device)


def _path_tokens(path: str) -> Iterator[Token]:
    node = _NODE.fullmatch(path)
    if path.rstrip("/") in ("/dev", "/dev/char"):
        yield ALL
    elif node and node[1] not in CONTROL_MINORS:
        yield ("minor", node[1])
    else:
        yield from _cdi_tokens(path)


def _rule_tokens(rule: str) -> Iterator[Token]:
    match = _RULE.fullmatch(rule.strip())
    if not match or match[1] == "b" or match[2] not in ("*", NVIDIA_MAJOR):
        return
    if match[2] == "*" or match[3] == "*":
        yield ALL
    elif match[3] not in CONTROL_MINORS:
        yield ("minor", match[3])


def _environment_tokens(config: ConfigJson, host: HostConfigJson) -> Iterator[Token]:
    """What the environment asks an NVIDIA runtime or hook for; the last value of a name counts.

    The hook also runs for a request without ids, and then obeys the environment with plain runc.
    """
    requests = host.get("DeviceRequests") or ()
    empty_request = any(not r.get("DeviceIDs") and not r.get("Count") for r in requests)
    if str(host.get("Runtime") or "") in PLAIN_RUNTIMES and not empty_request:
        return
    env = dict(str(e).partition("=")[::2] for e in config.get("Env") or ())
    visible = env.get("NVIDIA_VISIBLE_DEVICES")
    if visible is None and "CUDA_VERSION" in env:
        yield ALL
    resources = [v for k, v in env.items() if k.startswith("DOCKER_RESOURCE_")]
    for value in (visible or "", *resources):
        for name in value.split(","):
            yield from named(name)
    for target in _mount_targets(host):
        if target.startswith(VOLUME_ROOT):
            yield from named(target[len(VOLUME_ROOT) :])


def _mount_targets(host: HostConfigJson) -> Iterator[str]:
    for bind in host.get("Binds") or ():
        yield str(bind).partition(":")[2].partition(":")[0]
    for mount in host.get("Mounts") or ():
        yield str(mount.get("Target") or "")
