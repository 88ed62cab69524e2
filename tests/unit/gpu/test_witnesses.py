"""The fake library against clients that are not ours: it must look to them as it looks to us."""

from __future__ import annotations

import json
import subprocess
import sys

from fakes.nvml import Machine, card_uuid, four_a100, slice_uuid

from ds01spawner.gpu.nvml import read_nvml

NVITOP = """
import json
from nvitop import Device, MigDevice
out = {}
for card in Device.all():
    slices = [s for s in card.mig_devices()]
    out[card.uuid()] = {
        "name": card.name(), "mib": card.memory_total() >> 20, "mig": card.is_mig_mode_enabled(),
        "slices": {s.uuid(): [s.name(), s.memory_total() >> 20, s.gpu_instance_id()] for s in slices},
        "pids": sorted(card.processes()),
    }
print(json.dumps(out))
"""
GPUSTAT = (
    "import gpustat, json; print(json.dumps([[g.uuid, g.name, g.memory_total] for g in gpustat.new_query()]))"
)
EVENTS = """
import pynvml as n
n.nvmlInit(); s = n.nvmlEventSetCreate(); h = n.nvmlDeviceGetHandleByIndex(1)
n.nvmlDeviceRegisterEvents(h, n.nvmlDeviceGetSupportedEventTypes(h) & n.nvmlEventTypeXidCriticalError, s)
e = n.nvmlEventSetWait_v2(s, 100); print(n.nvmlDeviceGetUUID(e.device), e.eventType, e.eventData)
try: n.nvmlEventSetWait_v2(s, 20)
except n.NVMLError_Timeout: print("timeout")
"""
REUSE = """
import os, sys, pynvml as n
n.nvmlInit(); card = n.nvmlDeviceGetHandleByIndex(0)
first, second = (n.nvmlDeviceGetMigDeviceHandleByIndex(card, i) for i in (0, 1))
print(n.nvmlDeviceGetUUID(first)); os.replace(sys.argv[1], os.environ["FAKE_NVML_INVENTORY"])
print(n.nvmlDeviceGetUUID(first))
try: n.nvmlDeviceGetUUID(second)
except n.NVMLError_InvalidArgument: print("invalid")
"""


def ask(code: str, *args: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nvitop_sees_the_machine_we_see(machine: Machine) -> None:
    four_a100(machine).write()
    seen = json.loads(ask(NVITOP))
    inventory = read_nvml().inventory
    assert {u: (c["name"], c["mib"], c["mig"]) for u, c in seen.items()} == {
        c.uuid: (c.name, c.memory_mib, c.mig_enabled) for c in inventory.cards
    }
    theirs = {
        u: (name, mib, parent) for parent, c in seen.items() for u, (name, mib, _) in c["slices"].items()
    }
    assert theirs == {d.uuid: (d.name, d.memory_mib, d.parent) for d in inventory.devices if d.parent}
    assert len(theirs) == 13


def test_gpustat_sees_the_cards(machine: Machine) -> None:
    four_a100(machine).write()
    seen = [tuple(row) for row in json.loads(ask(GPUSTAT))]
    assert seen == [(c.uuid, c.name, c.memory_mib) for c in read_nvml().inventory.cards]


def test_events_are_delivered_once(machine: Machine) -> None:
    machine.gpu(0).gpu(1).line("event 1 8 79").write()
    assert ask(EVENTS).split("\n")[:2] == [f"{card_uuid(1)} 8 79", "timeout"]


def test_an_old_handle_answers_for_another_slice(machine: Machine) -> None:
    """The hazard that nvml.h warns of is there, so the tests of our reader mean something."""
    later = Machine(machine.path.with_name("later"))
    later.gpu(0, mig=1).slices(0, "3g.40gb", generation=1).write()
    machine.gpu(0, mig=1).slices(0, "1g.10gb", "1g.10gb").write()
    assert ask(REUSE, str(later.path)).split() == [slice_uuid(0, 0), slice_uuid(0, 0, 1), "invalid"]
