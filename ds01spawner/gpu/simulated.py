"""A machine's GPUs from a YAML file: for demos, training and tests. No device is ever touched."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from ..core import yaml_reader
from ..core.errors import InventoryError
from ..placement.devices import WHOLE_GPU_SLICES
from .document import CardJson, DeviceJson, SliceJson
from .reading import GpuReading, from_raw

NAMESPACE = uuid.UUID("6f1c6e0a-8f0b-5d34-9d6e-2b6f1d0b51a1")
PROFILE = re.compile(r"(?:([1-7])c\.)?([1-7])g\.([0-9]{1,4})gb(?:\+[a-z.]{1,10})?")
SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(m|mib|g|gb|gib)?", re.IGNORECASE)
UUID_TEXT = re.compile(r"(?:GPU|MIG)-[A-Za-z0-9][A-Za-z0-9-]{0,79}")

CARD_KEYS = ("name", "memory", "uuid", "mig", "mig_pending", "state", "load", "used", "count")
SLICE_KEYS = ("profile", "memory", "uuid", "load", "used")
MAX_CARDS = 64
EXAMPLE = 'for example "cards: [{name: NVIDIA A100-SXM4-80GB, memory: 80g, mig: [3g.40gb, 4g.40gb]}]"'


def read_simulated(path: Path) -> GpuReading:
    """The reading the file describes; ``InventoryError`` names the file and the key that is wrong.

    The file is read anew each time, so an edit shows at the next reading.
    """
    try:
        data = yaml_reader.read(path, yaml_reader.OF_THE_SITE).data
    except yaml_reader.FileProblems as error:
        raise InventoryError(f"the GPU inventory cannot be used: {error}") from error
    return parse(data, str(path))


def parse(data: object, where: str = "inventory") -> GpuReading:
    """Like `read_simulated`, from parsed YAML; ``where`` names the file in errors."""
    check = _Check(where)
    top = check.mapping(data, "the file", ("version", "driver", "cards"), EXAMPLE)
    if top.get("version", 1) != 1:
        check.fail("version", "only version 1 is known")
    driver = top.get("driver", "simulated")
    if not isinstance(driver, str):
        check.fail("driver", "must be text")
    cards = top.get("cards")
    if not isinstance(cards, list):
        check.fail("cards", f"must be a list, {EXAMPLE}")
    raws: list[CardJson] = []
    for position, entry in enumerate(cards):
        key = f"cards[{position}]"
        card = check.mapping(entry, key, CARD_KEYS, EXAMPLE)
        for _ in range(check.integer(card.get("count", 1), f"{key}.count", 1, MAX_CARDS)):
            if len(raws) >= MAX_CARDS:
                check.fail(key, f"more than {MAX_CARDS} cards")
            raws.append(_card(check, card, key, len(raws)))
    reading = from_raw({"code": 0, "stable": True, "cards": raws, "driver": driver})
    inventory = reading.inventory
    simulated = type(inventory)(
        mode="simulated",
        devices=inventory.devices,
        cards=inventory.cards,
        blocks=inventory.blocks,
        driver=driver,
        reason="the GPUs are simulated: sessions get no real device",
    )
    return GpuReading(simulated, (), reading.health, reading.activity)


def _card(check: _Check, card: Mapping[str, object], key: str, index: int) -> CardJson:
    name = card.get("name")
    if not isinstance(name, str) or not name.strip():
        check.fail(f"{key}.name", "must be the card's name")
    if "uuid" in card and card.get("count", 1) != 1:
        check.fail(f"{key}.uuid", "cannot be set together with count")
    own = check.uuid(card.get("uuid"), f"{key}.uuid", "GPU-", f"card/{index}")
    memory = check.size(card.get("memory"), f"{key}.memory")
    raw: CardJson = {"index": index, "uuid": own, "name": name, "memory_mib": memory, "slices": []}
    if "mig" in card:
        raw["mig"] = [1, int(check.boolean(card.get("mig_pending", True), f"{key}.mig_pending"))]
        raw["slices"] = _slices(check, card["mig"], f"{key}.mig", own, name, memory)
    elif check.boolean(card.get("mig_pending", False), f"{key}.mig_pending"):
        raw["mig"] = [0, 1]
    state = card.get("state", "ok")
    if state not in ("ok", "lost", "unready"):
        check.fail(f"{key}.state", "must be ok, lost or unready")
    if state != "ok":
        raw["error"] = (15 if state == "lost" else 16, "the simulated card")
    _load(check, card, key, raw)
    return raw


def _slices(check: _Check, value: object, key: str, card: str, name: str, memory: int) -> list[SliceJson]:
    if not isinstance(value, list):
        check.fail(key, "must be a list of profiles such as [1g.10gb, 2g.20gb]; leave it out for a whole GPU")
    slices: list[SliceJson] = []
    sizes: list[tuple[int, int, int]] = []
    for position, entry in enumerate(value):
        at = f"{key}[{position}]"
        data = {"profile": entry} if isinstance(entry, str) else check.mapping(entry, at, SLICE_KEYS, "")
        profile = data.get("profile")
        match = PROFILE.fullmatch(profile) if isinstance(profile, str) else None
        if match is None:
            check.fail(f"{at}.profile", f'{profile!r} is not a slice profile such as "1g.10gb"')
        size = check.size(data.get("memory", f"{match[3]}g"), f"{at}.memory")
        gpu, compute = int(match[2]), int(match[1] or match[2])
        made: SliceJson = {
            "index": position,
            "uuid": check.uuid(data.get("uuid"), f"{at}.uuid", "MIG-", f"{card}/{position}/{profile}"),
            "name": f"{name} MIG {profile}",
            "memory_mib": size,
            "attributes": {"gpu_slices": gpu, "compute_slices": compute},
        }
        _load(check, data, at, made)
        slices.append(made)
        sizes.append((gpu, compute, size))
    used = sum(compute for _, compute, _ in sizes)
    if used > WHOLE_GPU_SLICES:
        check.fail(key, f"the slices have {used} compute slices together; a card has {WHOLE_GPU_SLICES}")
    total = sum(size for gpu, compute, size in sizes if gpu == compute)
    # Profile names round up: two 3g.40gb fit a card that reports a little under 80 GiB.
    if total > memory * 1.06:
        check.fail(key, f"the slices have {total} MiB together; the card has {memory}")
    return slices


def _load(check: _Check, data: Mapping[str, object], key: str, into: DeviceJson) -> None:
    """A simulated device does no work unless the file says so: here nothing is known to mean zero."""
    load = data.get("load", 0)
    if load is not None and (
        isinstance(load, bool) or not isinstance(load, int | float) or not 0 <= load <= 100
    ):
        check.fail(
            f"{key}.load", "must be a percentage from 0 to 100, or null for a load that cannot be known"
        )
    used = check.size(data["used"], f"{key}.used") if "used" in data else 0
    into["load"] = None if load is None else float(load)
    into["used_mib"], into["processes"] = used, []


class _Check:
    """Validation that names file and key."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.uuids: set[str] = set()

    def fail(self, key: str, why: str) -> NoReturn:
        raise InventoryError(f"the GPU inventory {self.where} is wrong at {key}: {why}")

    def mapping(self, value: object, key: str, known: tuple[str, ...], example: str) -> Mapping[str, object]:
        if not isinstance(value, Mapping):
            self.fail(key, f"must have the keys {', '.join(known)}" + (f"; {example}" if example else ""))
        for name in value:
            if name not in known:
                self.fail(f"{key}.{name}", f"is not a known key; known are {', '.join(known)}")
        return value

    def integer(self, value: object, key: str, low: int, high: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.fail(key, f"must be a whole number from {low} to {high}")
        return value

    def boolean(self, value: object, key: str) -> bool:
        if not isinstance(value, bool):
            self.fail(key, "must be true or false")
        return value

    def size(self, value: object, key: str) -> int:
        """MiB from ``80g``, ``9728m`` or a plain number of MiB."""
        match = (
            SIZE.fullmatch(str(value))
            if isinstance(value, str | int) and not isinstance(value, bool)
            else None
        )
        if match is None:
            self.fail(key, f"{value!r} is not a size such as 80g or 9728m")
        number = float(match[1]) * (1024 if (match[2] or "m").lower().startswith("g") else 1)
        if not 0 <= number <= 1 << 24:
            self.fail(key, "is out of range")
        return int(number)

    def uuid(self, value: object, key: str, prefix: str, seed: str) -> str:
        """The given UUID, or one that is the same at every reading."""
        text = prefix + str(uuid.uuid5(NAMESPACE, seed)) if value is None else value
        if not isinstance(text, str) or not UUID_TEXT.fullmatch(text) or not text.startswith(prefix):
            self.fail(key, f"must be a UUID that starts with {prefix}")
        if text in self.uuids:
            self.fail(key, f"{text} is there twice")
        self.uuids.add(text)
        return text
