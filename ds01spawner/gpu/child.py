"""Ask NVML once and print what it said as one JSON document. Run by path, never imported by the product.

The product runs this file in a process of its own, because a driver can hang a call for ever, because an
open NVML handle stands in the way of MIG changes and GPU resets, and because a fresh ``nvmlInit`` makes
every question about re-initialisation moot. It imports nothing but the standard library and pynvml.

The document holds facts and error codes only; `reading.py` turns them into devices and sentences.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the types of the document; at run time there is no package around this file
    from .document import (
        CardJson,
        DeviceJson,
        HealthJson,
        MemoryJson,
        ProcessJson,
        ReadingJson,
        SliceJson,
    )

SUCCESS = 0
INVALID_ARGUMENT = 2
NOT_SUPPORTED = 3
NOT_FOUND = 6
FUNCTION_NOT_FOUND = 13
NO_MODULE = -1
NOT_NVIDIA_ML_PY = -2

LONGEST_S = 30
"""Seconds after which the kernel ends this process, twice what the product waits; where the product was
killed meanwhile, nothing else would."""
ATTEMPTS = 8
"""How often the layout is read before giving up on two readings that agree."""
GPM_WINDOW = 0.12
"""Seconds between two GPM samples; NVML asks for at least 100 ms."""
GPM_METRICS = 1
GPM_GRAPHICS_UTIL = 1
FIELD_RECOVERY_ACTION = 230
UNCORRECTED, VOLATILE = 1, 0
NO_INSTANCE = 0xFFFFFFFF


class Nvml:
    """pynvml as questions that answer ``(value, code)`` and never raise; ``value`` is None on any code."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def ask(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, int]:
        """Call one function of pynvml."""
        function = getattr(self.module, name, None)
        if function is None:
            return None, FUNCTION_NOT_FOUND
        try:
            value = function(*args, **kwargs)
        except self.module.NVMLError as error:
            # pynvml raises code 0 where the driver says "success, nothing to tell".
            return None, int(error.value) or NOT_SUPPORTED
        except getattr(self.module, "NVMLLibraryMismatchError", ()):
            return None, FUNCTION_NOT_FOUND  # a driver too old for any version of this function
        return (value.decode(errors="replace") if isinstance(value, bytes) else value), SUCCESS

    def memory(self, handle: Any) -> tuple[MemoryJson | None, int]:
        """Total and used memory in MiB; version 2 keeps the driver's own reserve out of ``used``."""
        value, code = self.ask(
            "nvmlDeviceGetMemoryInfo", handle, version=getattr(self.module, "nvmlMemory_v2", None)
        )
        if code in (FUNCTION_NOT_FOUND, NOT_SUPPORTED, INVALID_ARGUMENT, 25):
            value, code = self.ask("nvmlDeviceGetMemoryInfo", handle)
        if code:
            return None, code
        return {"total": int(value.total) >> 20, "used": int(value.used) >> 20}, SUCCESS

    def processes(self, handle: Any) -> tuple[list[ProcessJson] | None, int]:
        """Compute processes and MPS clients of a device; a display server does not compute."""
        found: dict[tuple[int, int, int], ProcessJson] = {}
        listed, code = self.ask("nvmlDeviceGetComputeRunningProcesses", handle)
        if code:
            return None, code
        extra, _ = self.ask("nvmlDeviceGetMPSComputeRunningProcesses", handle)
        for process in [*listed, *(extra or [])]:
            gi = instance(getattr(process, "gpuInstanceId", None))
            ci = instance(getattr(process, "computeInstanceId", None))
            used = process.usedGpuMemory
            found[(int(process.pid), gi, ci)] = {
                "pid": int(process.pid),
                "gi": gi,
                "ci": ci,
                "used": -1 if used is None else int(used) >> 20,
            }
        return [found[key] for key in sorted(found)], SUCCESS


def instance(value: Any) -> int:
    """An instance id, or -1 where the driver names none."""
    return -1 if value is None or int(value) == NO_INSTANCE else int(value)


def read_layout(nvml: Nvml) -> tuple[list[CardJson], dict[tuple[int, ...], Any], int]:
    """Cards and slices with fresh handles: (data, handles by index path, error code of the count).

    The data holds only what must not change between two readings of one layout.
    """
    count, code = nvml.ask("nvmlDeviceGetCount")
    if code:
        return [], {}, code
    cards: list[CardJson] = []
    handles: dict[tuple[int, ...], Any] = {}
    for index in range(count):
        cards.append(read_card(nvml, index, handles))
    return cards, handles, SUCCESS


def read_card(nvml: Nvml, index: int, handles: dict[tuple[int, ...], Any]) -> CardJson:
    """One card; the first error ends its reading and stays on this card."""
    card: CardJson = {"index": index, "slices": []}
    handle, code = nvml.ask("nvmlDeviceGetHandleByIndex", index)
    if code:
        return {**card, "error": (code, "nvmlDeviceGetHandleByIndex")}
    card["uuid"], code = nvml.ask("nvmlDeviceGetUUID", handle)
    if code:
        return {**card, "error": (code, "nvmlDeviceGetUUID")}
    card["name"], code = nvml.ask("nvmlDeviceGetName", handle)
    if code:
        return {**card, "error": (code, "nvmlDeviceGetName")}
    handles[(index,)] = handle
    pci, code = nvml.ask("nvmlDeviceGetPciInfo", handle)
    if not code:
        bus = pci.busId
        card["pci"] = bus.decode() if isinstance(bus, bytes) else str(bus)
    card["minor"], _ = nvml.ask("nvmlDeviceGetMinorNumber", handle)
    memory, code = nvml.memory(handle)
    if memory is None:
        return {**card, "error": (code, "nvmlDeviceGetMemoryInfo")}
    card["memory_mib"] = memory["total"]
    mode, code = nvml.ask("nvmlDeviceGetMigMode", handle)
    if code in (NOT_SUPPORTED, FUNCTION_NOT_FOUND):
        return card
    if code:
        return {**card, "error": (code, "nvmlDeviceGetMigMode")}
    card["mig"] = [int(mode[0]), int(mode[1])]
    if card["mig"][0]:
        card["slices"], code = read_slices(nvml, index, handle, handles)
        if code:
            card["error"] = (code, "nvmlDeviceGetMaxMigDeviceCount")
    return card


def read_slices(
    nvml: Nvml, index: int, parent: Any, handles: dict[tuple[int, ...], Any]
) -> tuple[list[SliceJson], int]:
    """The MIG devices of a card. Their indices have holes, so every index up to the maximum is asked."""
    slices: list[SliceJson] = []
    count, code = nvml.ask("nvmlDeviceGetMaxMigDeviceCount", parent)
    if code:
        return slices, code
    for position in range(count):
        handle, code = nvml.ask("nvmlDeviceGetMigDeviceHandleByIndex", parent, position)
        if code in (NOT_FOUND, INVALID_ARGUMENT):
            continue
        entry: SliceJson = {"index": position}
        if code:
            slices.append({**entry, "error": (code, "nvmlDeviceGetMigDeviceHandleByIndex")})
            continue
        slices.append(read_slice(nvml, handle, entry))
        handles[(index, position)] = handle
    return slices, SUCCESS


def read_slice(nvml: Nvml, handle: Any, entry: SliceJson) -> SliceJson:
    """One slice. A name without a profile is normal on some drivers; a slice without a UUID is not."""
    entry["uuid"], code = nvml.ask("nvmlDeviceGetUUID", handle)
    if code:
        return {**entry, "error": (code, "nvmlDeviceGetUUID")}
    entry["name"], _ = nvml.ask("nvmlDeviceGetName", handle)
    entry["gi"], _ = nvml.ask("nvmlDeviceGetGpuInstanceId", handle)
    entry["ci"], _ = nvml.ask("nvmlDeviceGetComputeInstanceId", handle)
    memory, code = nvml.memory(handle)
    if memory is None:
        return {**entry, "error": (code, "nvmlDeviceGetMemoryInfo")}
    entry["memory_mib"] = memory["total"]
    attributes, code = nvml.ask("nvmlDeviceGetAttributes_v2", handle)
    if attributes is None:
        attributes, code = nvml.ask("nvmlDeviceGetAttributes", handle)
    if attributes is not None:
        entry["attributes"] = {
            "gpu_slices": int(attributes.gpuInstanceSliceCount),
            "compute_slices": int(attributes.computeInstanceSliceCount),
            "memory_mib": int(attributes.memorySizeMB),
        }
    return entry


def read_health(nvml: Nvml, handle: Any) -> HealthJson:
    """What the card says about itself; a fact it cannot tell is left out, a failed question is listed."""
    health: HealthJson = {"errors": []}

    def keep(name: str, code: int) -> None:
        if code not in (SUCCESS, NOT_SUPPORTED, FUNCTION_NOT_FOUND):
            health["errors"].append((code, name))

    rows, code = nvml.ask("nvmlDeviceGetRemappedRows", handle)
    keep("nvmlDeviceGetRemappedRows", code)
    if rows is not None:
        health["remap_pending"], health["remap_failed"] = bool(rows[2]), bool(rows[3])
    ecc, code = nvml.ask("nvmlDeviceGetTotalEccErrors", handle, UNCORRECTED, VOLATILE)
    keep("nvmlDeviceGetTotalEccErrors", code)
    if ecc is not None:
        health["ecc_uncorrected"] = int(ecc)
    fields, code = nvml.ask("nvmlDeviceGetFieldValues", handle, [FIELD_RECOVERY_ACTION])
    keep("nvmlDeviceGetFieldValues", code)
    if fields is not None and fields[0].nvmlReturn == SUCCESS:
        health["recovery_action"] = int(fields[0].value.uiVal)
    return health


def read_details(nvml: Nvml, cards: list[CardJson], handles: dict[tuple[int, ...], Any]) -> None:
    """Add health, processes, memory use and load; all of it may change between two readings."""
    for card in cards:
        index = card["index"]
        devices: list[tuple[DeviceJson, tuple[int, ...]]] = [(card, (index,))]
        devices += [(s, (index, s["index"])) for s in card["slices"]]
        for entry, key in devices:
            handle = handles.get(key)
            if handle is None or "error" in entry:
                continue
            memory, _ = nvml.memory(handle)
            entry["used_mib"] = memory["used"] if memory else None
            entry["processes"], entry["processes_code"] = nvml.processes(handle)
            if entry is card:
                card["health"] = read_health(nvml, handle)
                if not (card.get("mig") or [0])[0]:
                    load, code = nvml.ask("nvmlDeviceGetUtilizationRates", handle)
                    entry["load"] = None if code else float(load.gpu)


class Gpm:
    """Load of MIG slices by GPU performance monitoring, where the card has it (Hopper and later)."""

    def __init__(self, nvml: Nvml, cards: list[CardJson], handles: dict[tuple[int, ...], Any]) -> None:
        self.nvml = nvml
        self.wanted: list[tuple[SliceJson, Any, Any, Any]] = []
        for card in cards:
            parent = handles.get((card["index"],))
            support, _ = (
                nvml.ask("nvmlGpmQueryDeviceSupport", parent) if card["slices"] else (None, NOT_SUPPORTED)
            )
            if support is None or not support.isSupportedDevice:
                continue
            for entry in card["slices"]:
                if "error" not in entry and entry.get("gi") is not None:
                    first, second = nvml.ask("nvmlGpmSampleAlloc")[0], nvml.ask("nvmlGpmSampleAlloc")[0]
                    if not nvml.ask("nvmlGpmMigSampleGet", parent, entry["gi"], first)[1]:
                        self.wanted.append((entry, parent, first, second))

    def finish(self) -> None:
        """Take the second samples and write each slice's load in percent."""
        if self.wanted:
            time.sleep(GPM_WINDOW)
        for entry, parent, first, second in self.wanted:
            if not self.nvml.ask("nvmlGpmMigSampleGet", parent, entry["gi"], second)[1]:
                entry["load"] = self.load(first, second)
            for sample in (first, second):
                self.nvml.ask("nvmlGpmSampleFree", sample)

    def load(self, first: Any, second: Any) -> float | None:
        """Graphics engine activity between two samples, or None where it cannot be told."""
        query = self.nvml.module.c_nvmlGpmMetricsGet_t()
        query.version, query.numMetrics = GPM_METRICS, 1
        query.sample1, query.sample2 = first, second
        query.metrics[0].metricId = GPM_GRAPHICS_UTIL
        _, code = self.nvml.ask("nvmlGpmMetricsGet", query)
        metric = query.metrics[0]
        return None if code or metric.nvmlReturn else float(metric.value)


def read_stable(nvml: Nvml, activity: bool) -> ReadingJson:
    """Layout, details, layout again; accepted only when both layouts agree.

    A MIG handle may silently answer for another slice while slices are re-made, so the details taken
    between two unequal layouts are thrown away.
    """
    for _ in range(ATTEMPTS):
        cards, handles, code = read_layout(nvml)
        if code:
            return {"code": code}
        seen = json.dumps(cards)
        gpm = Gpm(nvml, cards, handles) if activity else None
        read_details(nvml, cards, handles)
        if gpm is not None:
            gpm.finish()
        again, _, code = read_layout(nvml)
        if not code and json.dumps(again) == seen:
            return {"code": SUCCESS, "stable": True, "cards": cards}
        time.sleep(0.02)
    return {"code": SUCCESS, "stable": False, "cards": []}


def read(activity: bool) -> ReadingJson:
    """Everything: driver state, versions, cards."""
    try:
        import pynvml
    except ImportError:
        return {"code": NO_MODULE}
    if not hasattr(pynvml, "_nvmlGetFunctionPointer"):
        return {"code": NOT_NVIDIA_ML_PY}
    nvml = Nvml(pynvml)
    _, code = nvml.ask("nvmlInit")
    if code:
        return {"code": code}
    try:
        answer = read_stable(nvml, activity)
        answer["driver"] = nvml.ask("nvmlSystemGetDriverVersion")[0] or ""
        answer["cuda"] = nvml.ask("nvmlSystemGetCudaDriverVersion")[0] or 0
        return answer
    finally:
        nvml.ask("nvmlShutdown")


def main() -> None:
    """Print the document; ``--activity`` adds the load of slices, which takes a little longer."""
    signal.alarm(LONGEST_S)
    # This file's own folder must not answer for modules of the standard library.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [p for p in sys.path if os.path.abspath(p or ".") != here]
    json.dump(read("--activity" in sys.argv[1:]), sys.stdout)


if __name__ == "__main__":
    main()
