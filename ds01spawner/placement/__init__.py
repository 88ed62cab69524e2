"""Which device a session gets, or why none. Pure: plain data in, decision and reason out."""

from .place import describe, place, refusal
from .status import availability, status
from .strategies import DEFAULT_STRATEGY, STRATEGIES

__all__ = ["DEFAULT_STRATEGY", "STRATEGIES", "availability", "describe", "place", "refusal", "status"]
