"""How far a pull is, in bytes, out of what the engine says of each layer. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..core.text import size

_FETCHED = ("Verifying Checksum", "Download complete", "Extracting", "Pull complete")
_DONE = ("Pull complete", "Already exists")
_LAYER = ("Pulling fs layer", "Waiting", "Downloading", *_FETCHED, *_DONE)


@dataclass(frozen=True)
class Pulled:
    """How far a pull is. ``current`` and ``total`` are bytes of the layers that were not here before."""

    current: int = 0
    total: int = 0
    """Grows while ``sized`` is false: the engine says how large a layer is when it begins to fetch it."""
    layers: int = 0
    done: int = 0
    """Layers that are here, unpacked."""
    sized: bool = False
    """Whether the size of every layer is known."""

    @property
    def fraction(self) -> float:
        """The fetched part, 0 to 1; 0 while nothing is known."""
        return min(1.0, self.current / self.total) if self.total else 0.0

    @property
    def unpacking(self) -> bool:
        """Whether everything is fetched and what is left is to unpack it."""
        return self.sized and self.current >= self.total and self.done < self.layers

    def __str__(self) -> str:
        """One line for people."""
        if not self.layers:
            return "asking the registry"
        layers = f"{self.done} of {self.layers} layers done"
        if self.unpacking:
            return f"{size(self.total)} fetched, unpacking; {layers}"
        if not self.total:
            return layers
        least = "" if self.sized else "at least "
        return f"{size(self.current)} of {least}{size(self.total)}; {layers}"


class Layers:
    """Sums the engine's messages of one pull."""

    def __init__(self) -> None:
        self._current: dict[str, int] = {}
        self._total: dict[str, int | None] = {}
        self._done: set[str] = set()

    def feed(self, message: Mapping[str, Any]) -> Pulled:
        """Take one message into account; what is not about a layer changes nothing."""
        layer, status = message.get("id"), str(message.get("status", ""))
        if isinstance(layer, str) and status in _LAYER:
            self._take(layer, status, message.get("progressDetail") or {})
        return self.now()

    def now(self) -> Pulled:
        """How far it is."""
        known = [t for t in self._total.values() if t is not None]
        return Pulled(
            sum(self._current.values()),
            sum(known),
            len(self._total),
            len(self._done),
            bool(self._total) and len(known) == len(self._total),
        )

    def _take(self, layer: str, status: str, detail: Mapping[str, Any]) -> None:
        self._total.setdefault(layer, None)
        current, total = detail.get("current"), detail.get("total")
        if status == "Downloading" and isinstance(current, int) and "units" not in detail:
            # An engine that does not know the size says so with 0 or -1.
            self._total[layer] = total if isinstance(total, int) and total > 0 else self._total[layer]
            self._current[layer] = max(0, current)
        elif status in _FETCHED:
            # A small layer is fetched before the engine ever said how large it is: its bytes are not counted.
            self._total[layer] = self._total[layer] or self._current.get(layer, 0)
            self._current[layer] = self._total[layer] or 0
        if status == "Already exists":
            self._total[layer] = self._current[layer] = 0
        if status in _DONE:
            self._done.add(layer)
