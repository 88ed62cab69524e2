"""From a launch to the arguments of ``docker create``. Pure: values in, values out.

`finalise` has the last word over everything the hub, DockerSpawner and the administrator's
``extra_*`` settings put together, because what it sets is what keeps sessions apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...core.installation import Installation
from ...core.labels import SessionLabels
from .answers import InfoJson
from .unlisted import INSTALLATION_ENV

WORKSPACE = "/workspace"
CPU_PERIOD_US = 100_000
VOID = "void"
LOG_SIZE, LOG_FILES = "10m", 2
"""How much of what a session prints is kept, where the engine writes it to files of its own."""

DROPPED_ENV = (
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_MIG_CONFIG_DEVICES",
    "NVIDIA_MIG_MONITOR_DEVICES",
    "NVIDIA_IMEX_CHANNELS",
    "DOCKER_RESOURCE_GPU",
)
"""Variables by which an image or a setting could ask the NVIDIA runtime for devices."""

FORBIDDEN_HOST_CONFIG = (
    "Privileged",
    "CapAdd",
    "Devices",
    "DeviceCgroupRules",
    "PidMode",
    "UTSMode",
    "UsernsMode",
    "VolumesFrom",
    "Annotations",
)
"""Parts of the host config that could open the container; taken out whatever put them there."""


@dataclass(frozen=True)
class Resources:
    """Limits of one session. Bytes, CPUs and counts; None means not limited."""

    cpus: float | None = None
    memory: int | None = None
    swap: int = 0
    shm: int | None = None
    pids: int | None = None
    ulimits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Soft and hard value by name."""
    cgroup_parent: str = ""
    io_weight: int | None = None
    """Block I/O weight, 10 to 1000; the engine drops it where the kernel has none."""


@dataclass(frozen=True)
class ContainerSpec:
    """Everything about one container that is ours to decide."""

    labels: SessionLabels
    installation: Installation
    image: str
    """Immutable id of the image."""
    uid: int
    gid: int
    user_name: str
    home: str
    workspace: str
    """Path of the project's folder as the engine sees it."""
    resources: Resources = Resources()
    env: Mapping[str, str] = field(default_factory=dict)
    image_path: str = ""
    """``PATH`` as the image sets it."""
    has_init: bool = False
    """Whether the image brings an init of its own that reaps zombies."""
    hostname: str = ""
    attach: Mapping[str, Any] = field(default_factory=dict)
    """Parts of the host config that give the devices; empty when there are none."""
    stop_timeout: int = 30
    """Seconds between asking and killing."""
    mounts: Sequence[Mapping[str, Any]] = ()
    """Further mounts of ours, such as read-only course data."""
    log_config: Mapping[str, Any] = field(default_factory=dict)
    """Bounds its log; empty keeps the engine's own way. What the administrator set comes first."""
    layer: int | None = None
    """Bytes of the container's own layer, on an engine whose storage can bound it."""


def finalise(kwargs: Mapping[str, Any], spec: ContainerSpec) -> dict[str, Any]:
    """The final ``create_container`` arguments: the given ones under ours."""
    final = dict(kwargs)
    final["image"] = spec.image
    final["user"] = f"{spec.uid}:{spec.gid}"
    final["working_dir"] = WORKSPACE
    final["hostname"] = spec.hostname
    final["stop_timeout"] = spec.stop_timeout
    # The container's name is signed too: copied by an image or another container, the labels are void.
    told = replace(spec.labels, container=str(kwargs.get("name") or ""))
    final["labels"] = {**_without_ours(kwargs.get("labels")), **spec.installation.sign(told.to_labels())}
    final["environment"] = _environment(kwargs.get("environment") or {}, spec)
    final["host_config"] = _host_config(kwargs.get("host_config") or {}, spec)
    # A healthcheck of the image would only burn CPU: the hub polls.
    final["healthcheck"] = {"test": ["NONE"]}
    return final


def log_bound(info: InfoJson) -> dict[str, Any]:
    """The log settings of a container of ours, by the engine's answer; empty where another driver is in use.

    ``json-file``, the engine's own choice, has no bound unless the site gave it one. Pure.
    """
    if info.get("LoggingDriver") != "json-file":
        return {}
    return {"Type": "json-file", "Config": {"max-size": LOG_SIZE, "max-file": str(LOG_FILES)}}


def _without_ours(labels: Any) -> dict[str, str]:
    if isinstance(labels, Mapping):
        return {k: v for k, v in labels.items() if not k.startswith("ds01.")}
    return dict.fromkeys((x for x in labels or () if not x.startswith("ds01.")), "")


def _environment(given: Any, spec: ContainerSpec) -> dict[str, str]:
    if not isinstance(given, Mapping):
        given = dict(item.split("=", 1) for item in given if "=" in item)
    env = {k: v for k, v in given.items() if k not in DROPPED_ENV}
    path = env.get("PATH") or spec.image_path
    env |= {
        "HOME": spec.home,
        "USER": spec.user_name,
        "LOGNAME": spec.user_name,
        "DS01_PROJECT": spec.labels.project,
        "DS01_SESSION": spec.labels.session,
        INSTALLATION_ENV: spec.installation.id,
        "DS01_GPU_UUIDS": ",".join(spec.labels.gpu_uuids),
        **spec.env,
    }
    if path:
        env["PATH"] = f"{spec.home}/.local/bin:{path}"
    # Last and always: without it an image that says NVIDIA_VISIBLE_DEVICES=all, or merely sets
    # CUDA_VERSION, is given every GPU by some engines. Empty would count as unset.
    env["NVIDIA_VISIBLE_DEVICES"] = VOID
    for name in DROPPED_ENV[1:]:
        # Empty, never void: NVIDIA's hook refuses to start a container with a value in the MIG ones.
        env[name] = ""
    return env


def _host_config(given: Mapping[str, Any], spec: ContainerSpec) -> dict[str, Any]:
    host = {k: v for k, v in given.items() if k not in FORBIDDEN_HOST_CONFIG}
    host["Privileged"] = False
    host["CapDrop"] = ["ALL"]
    kept = [o for o in host.get("SecurityOpt") or [] if "unconfined" not in o and "no-new-priv" not in o]
    host["SecurityOpt"] = ["no-new-privileges", *kept]
    host["AutoRemove"] = False  # crash logs are read before we remove it ourselves
    host["RestartPolicy"] = {"Name": "no", "MaximumRetryCount": 0}
    host["Init"] = not spec.has_init
    if str(host.get("NetworkMode", "")).startswith(("host", "container:")):
        host["NetworkMode"] = "bridge"
    if str(host.get("IpcMode", "")) not in ("", "none", "private"):
        host["IpcMode"] = "private"
    host["Binds"] = [b for b in host.get("Binds") or [] if not _reaches_engine(b.split(":")[0])]
    host["Mounts"] = [
        *(m for m in host.get("Mounts") or [] if not _reaches_engine(str(m.get("Source", "")))),
        {"Type": "bind", "Source": spec.workspace, "Target": WORKSPACE, "ReadOnly": False},
        *(dict(m) for m in spec.mounts),
    ]
    host |= _limits(spec.resources)
    if spec.log_config and not (host.get("LogConfig") or {}).get("Type"):
        host["LogConfig"] = dict(spec.log_config)
    if spec.layer is not None:
        host["StorageOpt"] = {**(host.get("StorageOpt") or {}), "size": str(spec.layer)}
    # DeviceRequests of any other origin could name devices that are not this session's.
    host["DeviceRequests"] = []
    host |= dict(spec.attach)
    if not host["DeviceRequests"]:
        del host["DeviceRequests"]
    return host


def _reaches_engine(source: str) -> bool:
    return source.endswith("docker.sock") or source.startswith("/var/run/nvidia-container-devices")


def _limits(resources: Resources) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    if resources.cpus is not None:
        limits["CpuPeriod"] = CPU_PERIOD_US
        limits["CpuQuota"] = int(resources.cpus * CPU_PERIOD_US)
    if resources.memory is not None:
        limits["Memory"] = resources.memory
        # Docker counts memory and swap together; equal means no swap at all.
        limits["MemorySwap"] = resources.memory + resources.swap
    if resources.shm is not None:
        limits["ShmSize"] = resources.shm
    if resources.pids is not None:
        limits["PidsLimit"] = resources.pids
    if resources.io_weight is not None:
        limits["BlkioWeight"] = resources.io_weight
    if resources.ulimits:
        limits["Ulimits"] = [
            {"Name": n, "Soft": soft, "Hard": hard} for n, (soft, hard) in resources.ulimits.items()
        ]
    if resources.cgroup_parent:
        limits["CgroupParent"] = resources.cgroup_parent
    return limits
