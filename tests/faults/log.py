"""The campaign's record: one JSON line for everything done or seen, with the time it happened."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any


class Log:
    """Writes lines, and counts them by what they say. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w")
        self._lock = threading.Lock()
        self._began = time.time()
        self.aloud = False

    def say(self, what: str, **facts: Any) -> None:
        """Write one line."""
        now = time.time()
        line = json.dumps({"t": round(now, 3), "what": what, **facts}, default=str)
        with self._lock:
            self._file.write(line + "\n")
            self._file.flush()
            if self.aloud:
                said = " ".join(f"{k}={v}" for k, v in facts.items() if v is not None)
                print(f"{now - self._began:7.1f} {what} {said}", flush=True)
