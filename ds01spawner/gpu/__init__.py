"""What GPUs this machine has and how they are. The only package that calls NVML.

`read_gpu` and `read_inventory` take one reading and block for its time (some 0.1 s with NVML);
`GpuReader` is for event loops: it reads in a thread, caches, and never waits longer than its timeout.
"""

from __future__ import annotations

from .reading import Activity, CardHealth, GpuProcess, GpuReading, XidEvent
from .source import GpuReader, read_gpu, read_inventory

__all__ = [
    "Activity",
    "CardHealth",
    "GpuProcess",
    "GpuReader",
    "GpuReading",
    "XidEvent",
    "read_gpu",
    "read_inventory",
]
