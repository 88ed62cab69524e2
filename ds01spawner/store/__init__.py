"""What Docker cannot tell, in SQL. Losing it loses history and places in a queue, never a device."""

from .history import SessionRecord
from .notices import EVERYBODY
from .store import Store

__all__ = ["EVERYBODY", "SessionRecord", "Store"]
