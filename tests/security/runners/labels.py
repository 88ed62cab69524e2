"""Labels of a container, held against the one test of what is a session of ours.

``does`` has ``labels``: ``typed`` (every label of a session of alice's, typed by hand), ``copied`` (with the
proof, from her running session), ``foreign`` (made by another installation), ``before`` (as versions
without proof wrote them) or ``none``; ``change`` with labels to write over them (null: left out); ``name``,
the container's, which is ``ds01--alice`` where it is left out. Returns ``standing``: ours, foreign, forged
or none, and ``session``, whose session it is taken for.
"""

from __future__ import annotations

from typing import Any

from support.ours import INSTALLATION as OURS
from support.ours import OTHER, signed

from ds01spawner.core.installation import session_of, standing
from ds01spawner.core.labels import SessionLabels

NAME = "ds01--alice"
ALICE = SessionLabels("alice", "", "thesis", "hub", "s1", "sha256:1", "lab", ("GPU-1",), 1.0, "2026-01-01")
KINDS = {
    "typed": {
        **ALICE.to_labels(),
        "ds01.installation": OURS.id,
        "ds01.container": NAME,
        "ds01.mac": "0" * 64,
    },
    "copied": signed(ALICE, NAME),
    "foreign": signed(ALICE, NAME, OTHER),
    "before": ALICE.to_labels(),
    "none": {},
}


def run(row: Any, stage: Any) -> dict[str, Any]:
    """Ask."""
    labels = {**KINDS[row.does["labels"]], **row.does.get("change", {})}
    labels = {k: v for k, v in labels.items() if v is not None}
    name = row.does.get("name", NAME)
    found, session = standing(OURS, labels, name), session_of(OURS, labels, name)
    return {"standing": found.value if found else "none", "session": session.user if session else ""}
