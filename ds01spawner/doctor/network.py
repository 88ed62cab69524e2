"""The sessions' network."""

from __future__ import annotations

from collections.abc import Iterator

from ..engines.docker.findings import Finding
from ..engines.docker.network import ICC, unfit
from ..site import Site


def check_networks(site: Site) -> Iterator[Finding]:
    for network in site.engine.client.networks(filters={"label": "ds01.hub"}):
        inspected = site.engine.client.inspect_network(network["Id"])
        trouble = unfit(inspected)
        if trouble:
            mend = (
                f"remove it when no session runs (docker network rm {network['Name']}); the hub makes it anew"
            )
            yield Finding(
                "error", f"network {network['Name']}: {trouble}", f"{ICC} keeps sessions apart", mend
            )
        else:
            yield Finding("ok", f"network {network['Name']} keeps sessions apart")
