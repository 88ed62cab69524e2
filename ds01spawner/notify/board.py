"""A person's notices for a page that is being rendered: read from the store, without waiting for it long.

Pages are rendered on the event loop, so a store that is slow must not hold up the hub. It is asked in a
thread; what it does not answer within a tenth of a second is shown by the next page.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError
from datetime import datetime
from typing import Any

from ..core.errors import StoreError
from ..store import Store
from ..store.rows import NoticeRow
from .channels import banner

WAIT_S = 0.1
MAX_KEPT = 2000
log = logging.getLogger(__name__)


class NoticeBoard:
    """Reads notices; one read at a time."""

    def __init__(
        self, store: Callable[[], Store], clock: Callable[[], datetime], wait: float = WAIT_S
    ) -> None:
        self._store, self._clock, self._wait = store, clock, wait
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="ds01-notices")
        self._known: OrderedDict[str, list[NoticeRow]] = OrderedDict()
        self._reading: Future[Any] | None = None

    def of(self, user: str) -> list[NoticeRow]:
        """What ``user`` should see now, most urgent first; what was known last while the store is slow."""
        if self._reading is None or self._reading.done():
            self._reading = self._reader.submit(self._read, user)
            try:
                self._reading.result(self._wait)
            except TimeoutError:
                log.warning("The store is slow; notices on pages may be late")
        return self._known.get(user, [])

    def _read(self, user: str) -> None:
        now = self._clock()
        try:
            found = banner(self._store(), user, now)
            for notice in found:
                if not notice.seen_at:
                    self._store().notices.see(notice.id, user, now)
        except StoreError:
            return
        except Exception:
            log.exception("Notices could not be read")
            return
        self._known[user] = found
        self._known.move_to_end(user)
        while len(self._known) > MAX_KEPT:
            self._known.popitem(last=False)
