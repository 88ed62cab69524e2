"""The order in which sufficient devices are preferred. Pure; one registry for `place` and the simulator.

A strategy is a sort key: the candidate with the smallest key is taken. It sees the device, the compute
slices in use on its card, and the device's position in the stable order of the inventory.
"""

from __future__ import annotations

from collections.abc import Callable

from .devices import Device

Key = Callable[[Device, int, int], tuple[int, ...]]
"""``(device, compute slices in use on its card, position) -> key``; smallest key wins."""


def best_fit(device: Device, used: int, position: int) -> tuple[int, ...]:
    """Smallest sufficient device, then the fullest card, then stable order: keeps whole cards whole."""
    return (device.memory_mib, device.compute_slices, -used, position)


def first_fit(device: Device, used: int, position: int) -> tuple[int, ...]:
    """The first sufficient device in stable order, whatever its size."""
    return (position,)


def spread(device: Device, used: int, position: int) -> tuple[int, ...]:
    """Worst fit: the largest free device, then the emptiest card. Evens out heat, and breaks up cards."""
    return (-device.memory_mib, -device.compute_slices, used, position)


STRATEGIES: dict[str, Key] = {"best-fit": best_fit, "first-fit": first_fit, "spread": spread}
DEFAULT_STRATEGY = "best-fit"


def strategy_named(name: str) -> Key:
    """The strategy of that name; ``ValueError`` lists the known ones."""
    try:
        return STRATEGIES[name]
    except KeyError:
        known = ", ".join(sorted(STRATEGIES))
        raise ValueError(f"there is no placement strategy {name!r}; known are {known}") from None
