"""May this start, now, for this person? One answer for form, start, claim, queue and `ds01 why`."""

from __future__ import annotations

from .check import Admission, check, entitle
from .situation import Situation

__all__ = ["Admission", "Situation", "check", "entitle"]
