"""No device is ever granted twice and none is ever lost, whatever crashes when; and this test bites."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import replace
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from machine_rules import Placing
from stepper import Killed
from support.ours import INSTALLATION

from ds01spawner.core.errors import Refused
from ds01spawner.engines.docker import claim as claim_module
from ds01spawner.engines.docker import claims, device_access, ledger
from ds01spawner.engines.docker.ledger import Ledger
from ds01spawner.engines.docker.lock import claim_lock
from ds01spawner.placement import place, standing
from ds01spawner.placement.place import refusal

STEPS = int(os.environ.get("DS01_STEPS", "5200"))
EXAMPLES, LENGTH = 60, 60
MUTANT_TRIES = 40
COMMON = {
    "stateful_step_count": LENGTH,
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}
HAPPENS = {
    "granted": 50,
    "Refused": 50,
    "LockError": 20,
    "EngineError": 5,
    "Killed when locked": 2,
    "Killed when read": 2,
    "Killed when chosen": 2,
    "Killed when created": 2,
    "stranger": 50,
    "cut": 20,
    "cut under a living container": 2,
    "compared": 1000,
    "compared with something free and something taken": 300,
}
"""How often each thing must have happened, at the least, for the run to mean anything."""


def explore(machine: type[Placing], number: int, **more) -> None:
    """Some examples with a fixed seed: the same acts each time."""

    @seed(number)
    class Seeded(machine):
        pass

    Seeded.acts = 0
    try:
        with machine.planted():
            run_state_machine_as_test(Seeded, settings=settings(max_examples=EXAMPLES, **COMMON, **more))
    finally:
        machine.acts += Seeded.acts


@pytest.mark.timeout(max(300, STEPS // 20))
def test_nothing_is_granted_twice_and_nothing_leaks():
    first = int(os.environ.get("DS01_SEED", "0"))
    Placing.acts, number = 0, first
    Placing.seen.clear()
    while Placing.acts < STEPS or (rare() and Placing.acts < 4 * STEPS):
        explore(Placing, number)
        number += 1
    assert not rare(), f"hardly ever happened: {rare()}"


def rare() -> dict[str, int]:
    """What happened too seldom so far."""
    return {what: Placing.seen[what] for what, least in HAPPENS.items() if Placing.seen[what] < least}


class NoLock(Placing):
    """Nobody waits for anybody."""

    @staticmethod
    def planted():
        return mock.patch.object(claim_module, "claim_lock", side_effect=lambda *a: nullcontext())


class LockFreedBeforeCreate(Placing):
    """The lock covers the choice only."""

    def claim(self, path, ledger, gpus, blocks, request, create, keys, timeout):
        with claim_lock(path, timeout):
            reading = gpus()
            snapshot = ledger.read(reading.inventory, reading.processes, reading.former)
            placement = place(request, reading.inventory, snapshot.holdings, blocks(), keys=keys)
        if not placement.ok:
            raise Refused(refusal(request, placement))
        return placement, create(placement)


class Doctored(Placing):
    """A ledger that is told less than the truth."""

    def ledger(self):
        return Ledger(lambda: self, installation=lambda: INSTALLATION)

    def containers(self, all):
        return self.host.containers(all)

    def inspect_container(self, ident):
        return self.host.inspect_container(ident)

    def top(self, ident, ps_args):
        return self.host.top(ident, ps_args)


class IgnoreCount(Doctored):
    """A request by count is no request."""

    def inspect_container(self, ident):
        inspect = super().inspect_container(ident)
        requests = [{**r, "Count": 0} for r in inspect["HostConfig"].get("DeviceRequests") or ()]
        return {**inspect, "HostConfig": {**inspect["HostConfig"], "DeviceRequests": requests}}


class FirstRequestOnly(Doctored):
    """Only the first device request is read."""

    def inspect_container(self, ident):
        inspect = super().inspect_container(ident)
        requests = (inspect["HostConfig"].get("DeviceRequests") or [])[:1]
        return {**inspect, "HostConfig": {**inspect["HostConfig"], "DeviceRequests": requests}}


class ExitedFrees(Doctored):
    """A stopped container holds nothing."""

    def containers(self, all):
        return [c for c in super().containers(all) if c["State"] != "exited"]


class IgnoreProcesses(Placing):
    """Nobody looks at what the driver says is running."""

    def ledger(self):
        class Blind(Ledger):
            def read(self, inventory, processes=(), former=None):
                return super().read(inventory, (), former)

        return Blind(lambda: self.host)


class IgnoreHealth(Placing):
    """Lost cards, drains and reservations do not matter."""

    def claim(self, path, ledger, gpus, blocks, *args, **kwargs):
        def healthy():
            reading = gpus()
            cards = tuple(replace(c, state="ok") for c in reading.inventory.cards)
            return replace(reading, inventory=replace(reading.inventory, blocks={}, cards=cards))

        return super().claim(path, ledger, healthy, lambda: blocks() and {}, *args, **kwargs)


class IgnoreStaleSlices(Placing):
    """A slice that is gone holds nothing, even while its container lives."""

    def ledger(self):
        class Forgetful(Ledger):
            def read(self, inventory, processes=(), former=None):
                with mock.patch.object(claims.Resolver, "_unknown", return_value=frozenset()):
                    return super().read(inventory, processes, {})

        return Forgetful(lambda: self.host)


class ParentNotExclusive(Placing):
    """A card and its slices are strangers to each other."""

    @staticmethod
    def planted():
        whole = standing.standings

        def own_only(inventory, holdings=(), blocks=None, keys=frozenset()):
            flat = replace(inventory, devices=tuple(replace(d, parent=None) for d in inventory.devices))
            real = inventory.by_uuid()
            return tuple(replace(s, device=real[s.device.uuid]) for s in whole(flat, holdings, blocks, keys))

        return mock.patch.dict(place.__globals__, standings=own_only)


MUTANTS = [
    NoLock,
    LockFreedBeforeCreate,
    IgnoreCount,
    FirstRequestOnly,
    ExitedFrees,
    IgnoreProcesses,
    IgnoreHealth,
    IgnoreStaleSlices,
    ParentNotExclusive,
]


SYMPTOMS = ("double grant", "two sessions reach one device", "may not be used", "but not free")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.__name__)
def test_a_planted_defect_is_found(mutant):
    found = ""
    for number in range(MUTANT_TRIES):
        try:
            explore(mutant, number, phases=[Phase.generate], report_multiple_bugs=False)
        except AssertionError as error:
            found = str(error)
            break
    assert any(words in found for words in SYMPTOMS), found or "the defect was not found"
    assert mutant.acts > 0


def test_the_parts_that_the_mutants_replace_exist():
    """A renamed part would leave a mutant without its defect, and this file without its proof."""
    assert callable(claims.Resolver._unknown)
    assert callable(claim_module.claim_lock)
    assert "standings" in place.__globals__
    assert callable(device_access.evidence_of)
    assert callable(ledger.container_holdings)
    assert issubclass(Killed, BaseException)
    assert not issubclass(Killed, Exception)
