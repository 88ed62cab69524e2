"""Which device a session gets, or why none. Pure: plain data in, decision and reason out."""

from .place import describe, place, refusal
from .standing import merge_blocks
from .status import availability, status
from .strategies import DEFAULT_STRATEGY, STRATEGIES

__all__ = [
    "DEFAULT_STRATEGY",
    "STRATEGIES",
    "availability",
    "describe",
    "merge_blocks",
    "place",
    "refusal",
    "status",
]
