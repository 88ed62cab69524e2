"""A session's container on a second engine, made as the product makes it, that tries every GPU node."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from support.ours import INSTALLATION

from ds01spawner.core.labels import SessionLabels
from ds01spawner.engines.docker.attach import Attach, attach_kwargs, choose_attach, gpu_env
from ds01spawner.engines.docker.create import ContainerSpec, finalise
from ds01spawner.gpu.nvml import read_nvml
from ds01spawner.placement.devices import Inventory
from fakes.engine import SecondEngine
from fakes.nvidia import Node, Nodes, nodes_of, write_cdi
from fakes.nvml import A100, Machine

HOSTILE: dict[str, dict[str, str]] = {
    "plain": {},
    "all": {"NVIDIA_VISIBLE_DEVICES": "all"},
    "cuda": {"CUDA_VERSION": "12.4.1"},
    "mig": {
        "NVIDIA_VISIBLE_DEVICES": "0",
        "NVIDIA_MIG_CONFIG_DEVICES": "all",
        "NVIDIA_MIG_MONITOR_DEVICES": "all",
    },
}
"""Images by name, with the environment they bring along."""

ALLOWED, DENIED, ABSENT = "allowed", "denied", "absent"
MEANING = {
    "No such device or address": ALLOWED,  # the cgroup let the call through to a driver that is not there
    "Operation not permitted": DENIED,
    "no such file": ABSENT,
}


def two_cards(machine: Machine, generation: int = 0) -> Machine:
    """A whole card and one with three slices."""
    machine.clear().gpu(0, A100, mig=0, minor=1)
    return machine.gpu(1, A100, mig=1, minor=0).slices(
        1, "3g.40gb", "2g.20gb", "1g.10gb", generation=generation
    )


@dataclass(frozen=True)
class Seen:
    """What a container could do: each node by its path in /dev, and by one it made itself."""

    given: Mapping[Node, str]
    made: Mapping[Node, str]
    env: Mapping[str, str]

    @property
    def opened(self) -> frozenset[Node]:
        """Every node that could be opened in any way."""
        both = [*self.given.items(), *self.made.items()]
        return frozenset(node for node, result in both if result == ALLOWED)


@dataclass
class Rig:
    """A second engine with a fake machine."""

    engine: SecondEngine
    way: str
    machine: Machine
    library: Path
    specs: Path
    nodes_file: Path
    folder: Path
    read: dict[str, Inventory] = field(default_factory=dict)
    """What was read of each machine text; a layout is the same however often it is looked at."""

    def inventory(self) -> Inventory:
        """What our own reader says of the machine."""
        text = self.machine.path.read_text()
        if text not in self.read:
            self.read[text] = self._read()
        return self.read[text]

    def _read(self) -> Inventory:
        with mock.patch.dict(os.environ, self.machine.env(self.library)):
            found = read_nvml().inventory
        assert found.state == "ok", found.reason
        return found

    def nodes(self) -> Nodes:
        """The machine's device nodes."""
        return nodes_of(self.inventory())

    def publish(self) -> None:
        """Tell the engine's side about the machine, as ``nvidia-ctk cdi generate`` does."""
        nodes = self.nodes()
        nodes.write(self.nodes_file)
        if self.way == "cdi":
            write_cdi(self.specs, nodes)

    def attach(self) -> Attach:
        """How the product attaches devices here."""
        return choose_attach(self.engine.client.info(), self.inventory())

    def load(self, archive: bytes, image: str, images: Mapping[str, Mapping[str, str]]) -> None:
        """Load the base image and commit ``images`` with their environments on top."""
        self.engine.client.images.load(archive)
        base = self.engine.client.api.create_container(image, ["true"])
        for name, env in images.items():
            changes = [f"ENV {key}={value}" for key, value in env.items()]
            self.engine.client.api.commit(base, "probe", name, changes=changes)
        self.engine.client.api.remove_container(base)

    def arguments(
        self, image: str, uuids: list[str], environment: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """What the product passes to ``docker create`` for a session with ``uuids``."""
        attach = attach_kwargs(self.attach().mode, uuids)
        workspace = self.folder / "workspace"
        workspace.mkdir(exist_ok=True)
        labels = SessionLabels("alice", "", "thesis", "test-rig", uuid.uuid4().hex, gpu_uuids=tuple(uuids))
        spec = ContainerSpec(
            labels=labels,
            installation=INSTALLATION,
            image=f"probe:{image}",
            uid=1000,
            gid=1000,
            user_name="alice",
            home="/home/alice",
            workspace=str(workspace),
            env=gpu_env(tuple(uuids)),
            image_path="/bin",
            attach=attach,
        )
        given = {"environment": dict(environment or {}), "host_config": {"NetworkMode": "none"}}
        return finalise(given, spec)

    def session(
        self,
        image: str,
        uuids: list[str],
        as_root: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> Seen:
        """Run the probe in a session; ``as_root`` gives it more than any session has: root and MKNOD."""
        arguments = self.arguments(image, uuids, environment)
        if as_root:
            arguments["user"] = "0:0"
            arguments["host_config"] |= {"CapDrop": [], "SecurityOpt": []}
        return self.run(arguments)

    def run(self, arguments: Mapping[str, Any]) -> Seen:
        """Create, start and wait for a container that runs the probe."""
        nodes = sorted(self.nodes().all)
        api = self.engine.client.api
        container = api.create_container(**{**arguments, "command": ["sh", "-c", script(nodes)]})["Id"]
        try:
            api.start(container)
            api.wait(container, timeout=30)
            return parse(api.logs(container).decode(), nodes)
        finally:
            api.remove_container(container, force=True)


def script(nodes: list[Node]) -> str:
    """Shell text that tries each node by path and through a node of its own making."""
    lines = ['try() { e=$( { : < "$1"; } 2>&1 ); echo "$2 $3 ${e##*: }"; }', "cd /; umask 0"]
    for number, node in enumerate(nodes):
        lines.append(f"try {node.path} given {number}")
        lines.append(
            f"mknod /dev/n{number} c {node.major} {node.minor} 2>/dev/null; try /dev/n{number} made {number}"
        )
    return "\n".join([*lines, "env"])


def parse(output: str, nodes: list[Node]) -> Seen:
    """Read the probe's output."""
    given: dict[Node, str] = {}
    made: dict[Node, str] = {}
    env: dict[str, str] = {}
    for line in output.splitlines():
        word, _, rest = line.partition(" ")
        number, _, error = rest.partition(" ")
        if word in ("given", "made") and number.isdigit():
            assert error in MEANING, f"unexpected answer of the kernel: {line!r}"
            (given if word == "given" else made)[nodes[int(number)]] = MEANING[error]
        elif "=" in line:
            key, _, value = line.partition("=")
            env[key] = value
    assert len(given) == len(made) == len(nodes), output
    return Seen(given, made, env)
