"""What a waiting ticket is told, as the store keeps it and everything shows it. Pure types."""

from __future__ import annotations

from typing import TypedDict

AheadJson = TypedDict("AheadJson", {"class": str, "count": int})
"""How many of one class are ahead."""


class EstimateJson(TypedDict):
    """When half and when 90 % of such waits are over, in seconds, and what that is concluded from."""

    p50_s: int
    p90_s: int
    basis: str


class FirstJson(TypedDict):
    """The first estimate: what was told, and what the model said before its calibration, in seconds."""

    p90_s: int
    model90_s: float


class ShownJson(TypedDict, total=False):
    """What the person is shown; empty before the first pass of the queue."""

    position: int
    reason: str
    code: str
    ahead: list[AheadJson]
    estimate: EstimateJson | None
    first: FirstJson | None
