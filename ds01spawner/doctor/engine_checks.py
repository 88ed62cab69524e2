"""The container engine, what it can enforce, and the GPUs that it hands out."""

from __future__ import annotations

from collections.abc import Iterator

from ..core.settings import Settings
from ..engines.base import Finding
from ..engines.docker.engine import docker_of
from ..engines.docker.findings import check_gpus
from ..policy.load import Policy
from ..site import Site


def check_engine(settings: Settings) -> Iterator[Finding]:
    site = Site(settings)
    info = docker_of(site.engine).info()
    cgroup = f"cgroup v{info.get('CgroupVersion', '1')} ({info.get('CgroupDriver', 'unknown driver')})"
    yield Finding("ok", f"Docker {info.get('ServerVersion', '?')}, {info.get('Driver', '?')}, {cgroup}")
    for flag, what in (
        ("MemoryLimit", "memory limits"),
        ("SwapLimit", "swap limits"),
        ("PidsLimit", "limits on the number of processes"),
        ("CpuCfsQuota", "CPU limits"),
    ):
        if info.get(flag) is False:
            yield Finding(
                "error",
                f"the engine cannot enforce {what}",
                "one session could take what all need",
                "switch the cgroup controller on in the kernel's command line, then reboot",
            )
    for warning in info.get("Warnings") or []:
        yield Finding("warning", str(warning))
    yield from docker_of(site.engine).ledger.unlisted()
    if why := site.engine.capabilities().reasons.get("aggregate", ""):
        yield Finding(
            "warning" if _has_ceiling(site.policy.current()) else "ok",
            f"a ceiling over all sessions of a person (aggregate) is not enforced here: {why}",
            "several sessions of one person together may take what each may take",
            "run the hub as root on the machine itself, or mount /sys/fs/cgroup into its container, writable",
        )


def _has_ceiling(policy: Policy) -> bool:
    """Whether any layer of the policy sets a ceiling that a cgroup must hold."""
    layers = [policy.defaults, *(g.layer for g in policy.groups), *(o.layer for o in policy.users.values())]
    keys = {f"aggregate.{k}" for k in ("cpus", "memory", "memory_high", "pids")}
    return any(k in keys and v.value is not None for layer in layers for k, v in layer.items())


def check_devices(settings: Settings) -> Iterator[Finding]:
    site = Site(settings)
    yield from check_gpus(settings, docker_of(site.engine).info())
