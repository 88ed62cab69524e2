"""What is read of the Docker engine's answers. Pure types: a key is absent where the engine leaves it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict


class DiscoveredJson(TypedDict, total=False):
    """A device that the engine found by itself."""

    Source: str
    ID: str


class InfoJson(TypedDict, total=False):
    """``GET /info``: what the engine says about itself."""

    CDISpecDirs: Sequence[str] | None
    CgroupDriver: str
    CgroupVersion: str
    CpuCfsQuota: bool
    DefaultRuntime: str
    DiscoveredDevices: Sequence[DiscoveredJson] | None
    DockerRootDir: str
    Driver: str
    DriverStatus: Sequence[Sequence[str]] | None
    LiveRestoreEnabled: bool
    LoggingDriver: str
    MemoryLimit: bool
    NCPU: int
    PidsLimit: bool
    Runtimes: Mapping[str, object] | None
    SecurityOptions: Sequence[str] | None
    SwapLimit: bool
    Warnings: Sequence[str] | None


class StateJson(TypedDict, total=False):
    """``State`` of an inspected container."""

    Running: bool
    Status: str
    ExitCode: int | None
    FinishedAt: str
    OOMKilled: bool
    Error: str


class ActorJson(TypedDict, total=False):
    """What an event is about."""

    ID: str
    Attributes: Mapping[str, str] | None


class EventJson(TypedDict, total=False):
    """One line of ``GET /events``; older engines say ``status`` for ``Action``."""

    Action: str
    status: str
    Actor: ActorJson | None
    time: int
    timeNano: int


class DeviceRequestJson(TypedDict, total=False):
    """A request for devices by a driver; a ``Count`` of -1 asks for all."""

    DeviceIDs: Sequence[str] | None
    Count: int | None


class DeviceJson(TypedDict, total=False):
    """A device node that is given to a container."""

    PathOnHost: str


class MountJson(TypedDict, total=False):
    """A mount that a container was made with."""

    Target: str


class HostConfigJson(TypedDict, total=False):
    """``HostConfig`` of an inspected container: what it has of the machine."""

    Annotations: Mapping[str, str] | None
    Binds: Sequence[str] | None
    DeviceCgroupRules: Sequence[str] | None
    DeviceRequests: Sequence[DeviceRequestJson] | None
    Devices: Sequence[DeviceJson] | None
    Mounts: Sequence[MountJson] | None
    Privileged: bool
    Runtime: str


class ConfigJson(TypedDict, total=False):
    """``Config`` of an inspected container."""

    Env: Sequence[str] | None
    Labels: Mapping[str, str] | None


class ContainerJson(TypedDict, total=False):
    """``GET /containers/{id}/json``."""

    Id: str
    Name: str
    Created: str
    Config: ConfigJson | None
    HostConfig: HostConfigJson | None


class AddressesJson(TypedDict, total=False):
    """One range of a network's addresses."""

    Gateway: str
    Subnet: str


class IpamJson(TypedDict, total=False):
    """The addresses of a network."""

    Config: Sequence[AddressesJson] | None


class _NetworkJson(TypedDict):
    Id: str
    Name: str


class NetworkJson(_NetworkJson, total=False):
    """An inspected network."""

    Driver: str
    Options: Mapping[str, str] | None
    IPAM: IpamJson | None
    Containers: Mapping[str, object] | None
    Labels: Mapping[str, str] | None
