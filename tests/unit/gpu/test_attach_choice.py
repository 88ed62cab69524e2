"""How devices are attached, with what arguments, and what the check says about a host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ds01spawner.core.errors import EngineError
from ds01spawner.core.settings import Settings
from ds01spawner.engines.docker.attach import (
    attach_kwargs,
    cdi_problems,
    choose_attach,
    gpu_env,
    stale_names,
)
from ds01spawner.engines.docker.cdi import cdi_names, names_in
from ds01spawner.engines.docker.findings import check_gpus, gpu_findings
from ds01spawner.placement.devices import Block, Card, Device, Inventory

WHOLE = Device("GPU-0", "A100", "full", 81920)
SLICE = Device("MIG-a", "A100 MIG 1g.10gb", "1g.10gb", 9728, 1, "GPU-1", 101)
CARDS = (Card("GPU-0", "A100", 81920), Card("GPU-1", "A100", 81920, True, index=1))
REAL = Inventory("nvml", (WHOLE, SLICE), CARDS)
ALL_NAMES = frozenset({"nvidia.com/gpu=GPU-0", "nvidia.com/gpu=MIG-a"})
BY_INDEX = frozenset({"nvidia.com/gpu=0", "nvidia.com/gpu=1:0", "nvidia.com/gpu=all"})


@pytest.mark.parametrize(
    ("inventory", "wanted", "names", "mode", "blocked"),
    [
        (REAL, "auto", ALL_NAMES, "cdi", set()),
        (REAL, "auto", {"nvidia.com/gpu=GPU-0"}, "cdi", {"MIG-a"}),
        (REAL, "auto", BY_INDEX, "nvidia", set()),
        (REAL, "auto", frozenset(), "nvidia", set()),
        (REAL, "nvidia", ALL_NAMES, "nvidia", set()),
        (REAL, "cdi", frozenset(), "cdi", {"GPU-0", "MIG-a"}),
        (REAL, "none", ALL_NAMES, "none", set()),
        (REAL, "simulated", ALL_NAMES, "simulated", set()),
        (Inventory("simulated", (WHOLE,)), "auto", ALL_NAMES, "simulated", set()),
        (Inventory("simulated", (WHOLE,)), "cdi", ALL_NAMES, "simulated", set()),
        (Inventory("none"), "auto", ALL_NAMES, "none", set()),
    ],
)
def test_the_choice(inventory: Inventory, wanted: str, names: set[str], mode: str, blocked: set[str]) -> None:
    attach = choose_attach({}, inventory, wanted, names)
    assert (attach.mode, set(attach.blocks)) == (mode, blocked)
    assert attach.reason


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(EngineError, match="attach = 'magic' is not known"):
        choose_attach({}, REAL, "magic", frozenset())


def test_the_engines_own_list_wins_over_its_folders(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"kind": "nvidia.com/gpu", "devices": [{"name": "GPU-0"}]}))
    found = [
        {"Source": "cdi", "ID": "nvidia.com/gpu=MIG-a"},
        {"Source": "other", "ID": "nvidia.com/gpu=GPU-0"},
    ]
    assert cdi_names({"DiscoveredDevices": found, "CDISpecDirs": [str(tmp_path)]}) == {"nvidia.com/gpu=MIG-a"}
    assert cdi_names({"DiscoveredDevices": [], "CDISpecDirs": [str(tmp_path)]}) == frozenset()
    assert cdi_names({"CDISpecDirs": [str(tmp_path)]}) == {"nvidia.com/gpu=GPU-0"}
    assert cdi_names({}) == frozenset()


def test_specification_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "cdiVersion: 0.6.0\nkind: nvidia.com/gpu\ndevices: [{name: GPU-0}, {name: MIG-a}]"
    )
    (tmp_path / "b.json").write_text('{"kind": "vendor.com/net", "devices": [{"name": "x"}]}')
    (tmp_path / "c.yaml").write_text("kind: [")
    (tmp_path / "d.json").write_text("[]")
    (tmp_path / "e.txt").write_text("kind: nvidia.com/gpu\ndevices: [{name: GPU-9}]")
    (tmp_path / "f.yaml").write_text("devices: 3")
    assert names_in([tmp_path, tmp_path / "none"]) == {*ALL_NAMES, "vendor.com/net=x"}


def test_a_rewritten_specification_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    for name in ("MIG-a", "MIG-b"):
        path.write_text(f"kind: nvidia.com/gpu\ndevices: [{{name: {name}}}]")
        assert names_in([tmp_path]) == {f"nvidia.com/gpu={name}"}
    path.unlink()
    assert names_in([tmp_path]) == frozenset()


def test_one_request_that_is_never_empty() -> None:
    assert attach_kwargs("cdi", ["MIG-a", "GPU-0"]) == {
        "DeviceRequests": [
            {
                "Driver": "cdi",
                "Count": 0,
                "DeviceIDs": ["nvidia.com/gpu=MIG-a", "nvidia.com/gpu=GPU-0"],
                "Capabilities": [],
                "Options": {},
            }
        ]
    }
    assert attach_kwargs("nvidia", ["MIG-a"]) == {
        "DeviceRequests": [
            {"Driver": "", "Count": 0, "DeviceIDs": ["MIG-a"], "Capabilities": [["gpu"]], "Options": {}}
        ]
    }
    for mode in ("cdi", "nvidia", "simulated", "none"):
        assert attach_kwargs(mode, []) == {}
    assert attach_kwargs("simulated", ["MIG-a"]) == {}


@pytest.mark.parametrize(
    "uuid", ["all", "0", "GPU-a,GPU-b", "GPU a", "", "-1", "GPU-a\n", "nvidia.com/gpu=all"]
)
def test_only_a_uuid_is_attached(uuid: str) -> None:
    for mode in ("cdi", "nvidia"):
        with pytest.raises(EngineError):
            attach_kwargs(mode, ["GPU-0", uuid])


def test_an_unknown_mode_attaches_nothing() -> None:
    with pytest.raises(EngineError):
        attach_kwargs("auto", ["GPU-0"])


def test_void_is_last() -> None:
    assert list(gpu_env(["MIG-a", "MIG-b"]).items()) == [
        ("DS01_GPU_UUIDS", "MIG-a,MIG-b"),
        ("NVIDIA_VISIBLE_DEVICES", "void"),
    ]
    assert gpu_env([]) == {"DS01_GPU_UUIDS": "", "NVIDIA_VISIBLE_DEVICES": "void"}


def test_devices_in_one_list_only() -> None:
    names = {"nvidia.com/gpu=GPU-0", "nvidia.com/gpu=GPU-1", "nvidia.com/gpu=MIG-old", *BY_INDEX}
    problems = cdi_problems(REAL, names)
    assert problems == {
        "MIG-a": Block(
            "unready",
            "the engine has no CDI device for it; refresh the list: "
            "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",
        )
    }
    assert stale_names(REAL, names) == ["nvidia.com/gpu=MIG-old"]


NVIDIA = {"Runtimes": {"runc": {}, "nvidia": {}}, "DefaultRuntime": "runc", "CgroupDriver": "cgroupfs"}
ACCEPT = "accept-nvidia-visible-devices-envvar-when-unprivileged"


@pytest.mark.parametrize(
    ("info", "names", "toolkit", "expected"),
    [
        (NVIDIA, ALL_NAMES, f"{ACCEPT} = false", []),
        (NVIDIA, ALL_NAMES, None, [("warning", "past the hub")]),
        (NVIDIA, ALL_NAMES, f"#{ACCEPT} = false", [("warning", "past the hub")]),
        (
            NVIDIA,
            ALL_NAMES | {"nvidia.com/gpu=MIG-x"},
            f"{ACCEPT} = false",
            [("warning", "1 devices that are gone")],
        ),
        (NVIDIA, {"nvidia.com/gpu=GPU-0"}, f"{ACCEPT} = false", [("error", "1 of 2 devices are missing")]),
        (NVIDIA, frozenset(), None, []),
        (NVIDIA, frozenset(), f"{ACCEPT} = true # as installed", []),
        (NVIDIA, frozenset(), f"{ACCEPT}=false", [("error", "ignore the devices")]),
        (NVIDIA | {"CgroupDriver": "systemd"}, frozenset(), None, [("warning", "daemon-reload")]),
        (NVIDIA | {"CgroupDriver": "systemd"}, ALL_NAMES, f"{ACCEPT} = false", []),
        ({}, frozenset(), None, [("warning", "neither CDI devices nor the NVIDIA runtime")]),
        (
            NVIDIA | {"DefaultRuntime": "nvidia"},
            ALL_NAMES,
            f"{ACCEPT} = false",
            [("warning", "default runtime is nvidia")],
        ),
        (NVIDIA, frozenset(), 'swarm-resource = "DOCKER_RESOURCE_GPU"', [("error", "DOCKER_RESOURCE_GPU")]),
        (NVIDIA, frozenset(), '#swarm-resource = "DOCKER_RESOURCE_GPU"', []),
    ],
)
def test_findings_of_a_host(
    info: dict, names: set[str], toolkit: str | None, expected: list[tuple[str, str]]
) -> None:
    found = [f for f in gpu_findings(info, REAL, "auto", names, toolkit) if f.level != "ok"]
    assert len(found) == len(expected), found
    for finding, (level, words) in zip(found, expected, strict=True):
        assert finding.level == level
        assert words in finding.what
        assert finding.why
        assert finding.mend


def test_a_wrong_setting_is_a_finding() -> None:
    found = gpu_findings(NVIDIA, REAL, "magic", frozenset())
    assert [(f.level, f.what) for f in found] == [("error", "no device can be attached")]
    assert "'magic' is not known" in found[0].why


def test_a_kernel_log_that_cannot_be_read() -> None:
    found = gpu_findings(NVIDIA, REAL, "nvidia", frozenset(), None, xids_readable=False)
    assert [f.level for f in found] == ["ok", "warning"]
    assert "Xid" in found[1].what


def test_check_of_a_simulated_host(tmp_path: Path) -> None:
    path = tmp_path / "gpus.yaml"
    path.write_text("cards: [{name: A100, memory: 80g}, {name: A100, memory: 80g, state: lost}]")
    settings = Settings(state_dir=tmp_path, devices="simulated", inventory=path)
    assert [(f.level, f.what) for f in check_gpus(settings, NVIDIA)] == [
        ("ok", "devices: simulated, attach: simulated"),
        ("error", "card 1 (A100) is lost"),
    ]
    path.write_text("cards: 3")
    assert [f.level for f in check_gpus(settings, NVIDIA)] == ["error"]


def test_findings_about_the_driver_and_cards() -> None:
    broken = gpu_findings({}, Inventory("nvml", state="version-mismatch", reason="reboot"))
    assert [(f.level, f.why) for f in broken] == [("error", "reboot")]
    lost = Inventory("nvml", (WHOLE,), (Card("GPU-0", "A100", 1, state="lost", reason="fell off"),))
    found = gpu_findings(NVIDIA, lost, "nvidia", frozenset())
    assert ("error", "card 0 (A100) is lost", "fell off") in [(f.level, f.what, f.why) for f in found]
    assert [f.level for f in gpu_findings({}, Inventory("none", reason="no driver"))] == ["ok"]
