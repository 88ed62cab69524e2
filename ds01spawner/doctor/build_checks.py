"""What the steps of people's builds can reach: seen at the last build, told here."""

from __future__ import annotations

from collections.abc import Iterator

from ..core.settings import Settings
from ..engines.base import Finding
from ..environments.builder.buildnetwork import Record, load

HINT = "let the service run as root on the engine's machine with iptables, or set DS01_BUILD_NETWORK=none"


def check_builds(settings: Settings) -> Iterator[Finding]:
    """Whether builds are kept from the hub, the service, the proxy and what else listens here."""
    record = load(settings.state_dir)
    if record is None:
        yield Finding("ok", "no environment was built yet; what builds reach is tried before the first")
    else:
        yield judge(record)


def judge(record: Record) -> Finding:
    """What a record comes to. Pure."""
    name = record.network
    if record.reached:
        return Finding(
            "error",
            f"builds reach this machine: {', '.join(record.reached)}",
            f"tried on the network {name} at {record.at}; its firewall rules are not in force",
            "look which other rules come first (iptables -S INPUT), or set DS01_BUILD_NETWORK=none",
        )
    if record.trouble:
        return Finding(
            "site",
            f"not enforced: builds are not kept from this machine ({record.trouble})",
            "a step of a Dockerfile can call the hub's API and whatever else listens here",
            HINT,
        )
    if name == "none":
        return Finding("ok", "builds have no network (DS01_BUILD_NETWORK)")
    if not name.endswith("-build"):
        return Finding(
            "site",
            f"not enforced: builds use the network {name!r}, which the site chose (DS01_BUILD_NETWORK)",
            "what a step of a Dockerfile reaches from there is not looked at",
            "leave it empty, so that builds get a network that is kept from this machine",
        )
    return Finding("ok", f"builds do not reach this machine (tried on {name} at {record.at})")
