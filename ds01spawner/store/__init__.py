"""What Docker cannot tell, in SQL. Losing it loses history and places in a queue, never a device."""

from .notices import EVERYBODY
from .session_record import SessionRecord
from .store import Store

__all__ = ["EVERYBODY", "SessionRecord", "Store"]
