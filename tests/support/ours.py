"""Installations for tests without a state folder, and containers' labels with their proof."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from ds01spawner.core.installation import Installation
from ds01spawner.core.labels import SessionLabels


def installation_of(hub_id: str) -> Installation:
    """One of its own for each hub id, so that tests side by side on an engine do not see each other."""
    digest = hashlib.sha256(hub_id.encode())
    return Installation(digest.hexdigest()[:16], digest.digest())


INSTALLATION = installation_of("ours")
OTHER = installation_of("another")


def signed(labels: SessionLabels, name: str, by: Installation = INSTALLATION) -> dict[str, str]:
    """The labels of a session's container called ``name``."""
    return by.sign(replace(labels, container=name).to_labels())
