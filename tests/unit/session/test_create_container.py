"""The arguments of ``docker create``: ours stand whatever the administrator's or DockerSpawner's say."""

from __future__ import annotations

import io
import tarfile

import pytest
from support.ours import INSTALLATION, signed

from ds01spawner.core.labels import SessionLabels
from ds01spawner.engines.docker.account import ImageAccounts, account_archive
from ds01spawner.engines.docker.create import ContainerSpec, Resources, finalise

LABELS = SessionLabels(
    "alice", "", "thesis", "hub", "s1", image="sha256:1", gpu_uuids=("MIG-1",), gpu_equivalents=1 / 7
)
SPEC = ContainerSpec(
    labels=LABELS,
    installation=INSTALLATION,
    image="sha256:1",
    uid=20000,
    gid=20001,
    user_name="alice",
    home="/home/alice",
    workspace="/srv/ws/alice/thesis",
    resources=Resources(
        cpus=1.5,
        memory=1024,
        swap=0,
        shm=64,
        pids=100,
        io_weight=300,
        ulimits={"nofile": (1, 2)},
        cgroup_parent="/p",
    ),
    env={"DS01_GPU_UUIDS": "MIG-1"},
    image_path="/opt/bin:/bin",
    hostname="thesis",
)


def test_everything_that_is_ours():
    final = finalise({"name": "n", "command": ["c"], "host_config": {"NetworkMode": "ds01"}}, SPEC)
    host = final.pop("host_config")
    env = final.pop("environment")
    labels = final.pop("labels")
    assert final == {
        "name": "n",
        "command": ["c"],
        "image": "sha256:1",
        "user": "20000:20001",
        "working_dir": "/workspace",
        "hostname": "thesis",
        "stop_timeout": 30,
        "healthcheck": {"test": ["NONE"]},
    }
    assert {k: v for k, v in env.items() if k != "DOCKER_RESOURCE_GPU" and not k.startswith("NVIDIA_")} == {
        "HOME": "/home/alice",
        "USER": "alice",
        "LOGNAME": "alice",
        "DS01_PROJECT": "thesis",
        "DS01_SESSION": "s1",
        "DS01_INSTALLATION": INSTALLATION.id,
        "DS01_GPU_UUIDS": "MIG-1",
        "PATH": "/home/alice/.local/bin:/opt/bin:/bin",
    }
    assert env["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert labels == signed(LABELS, "n")
    assert host == {
        "NetworkMode": "ds01",
        "Privileged": False,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "AutoRemove": False,
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "Init": True,
        "Binds": [],
        "Mounts": [
            {"Type": "bind", "Source": "/srv/ws/alice/thesis", "Target": "/workspace", "ReadOnly": False}
        ],
        "CpuPeriod": 100000,
        "CpuQuota": 150000,
        "Memory": 1024,
        "MemorySwap": 1024,
        "ShmSize": 64,
        "PidsLimit": 100,
        "BlkioWeight": 300,
        "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}],
        "CgroupParent": "/p",
    }


HOSTILE = {
    "Privileged": True,
    "CapAdd": ["SYS_ADMIN"],
    "CapDrop": [],
    "SecurityOpt": ["seccomp=unconfined", "apparmor=unconfined", "no-new-privileges:false"],
    "Devices": [{"PathOnHost": "/dev/nvidia0"}],
    "DeviceCgroupRules": ["c 195:* rwm"],
    "DeviceRequests": [{"Count": -1, "Capabilities": [["gpu"]]}],
    "PidMode": "host",
    "IpcMode": "host",
    "UTSMode": "host",
    "UsernsMode": "host",
    "NetworkMode": "host",
    "VolumesFrom": ["other"],
    "Annotations": {"cdi.k8s.io/x": "nvidia.com/gpu=all"},
    "Binds": ["/var/run/docker.sock:/var/run/docker.sock", "/data:/data:ro"],
    "Mounts": [{"Type": "bind", "Source": "/run/docker.sock", "Target": "/s"}],
    "RestartPolicy": {"Name": "always"},
    "AutoRemove": True,
}


def test_nothing_that_opens_the_container_stays():
    host = finalise({"host_config": HOSTILE}, SPEC)["host_config"]
    for gone in (
        "CapAdd",
        "Devices",
        "DeviceCgroupRules",
        "DeviceRequests",
        "PidMode",
        "UTSMode",
        "UsernsMode",
    ):
        assert gone not in host
    assert "VolumesFrom" not in host
    assert "Annotations" not in host
    assert host["Privileged"] is False
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["NetworkMode"] == "bridge"
    assert host["IpcMode"] == "private"
    assert host["Binds"] == ["/data:/data:ro"]
    assert [m["Target"] for m in host["Mounts"]] == ["/workspace"]
    assert host["AutoRemove"] is False


@pytest.mark.parametrize(
    "environment",
    [
        {
            "NVIDIA_VISIBLE_DEVICES": "all",
            "NVIDIA_MIG_CONFIG_DEVICES": "all",
            "DS01_SESSION": "forged",
            "A": "1",
        },
        ["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_MIG_CONFIG_DEVICES=all", "DS01_SESSION=forged", "A=1"],
    ],
)
def test_no_variable_brings_a_gpu(environment):
    env = finalise({"environment": environment}, SPEC)["environment"]
    assert env["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert env["NVIDIA_MIG_CONFIG_DEVICES"] == ""
    assert env["DS01_SESSION"] == "s1"
    assert env["A"] == "1"
    assert list(env).index("NVIDIA_VISIBLE_DEVICES") > list(env).index("A")


def test_labels_of_ours_cannot_be_given_from_outside():
    labels = finalise({"labels": {"ds01.user": "root", "ds01.extra": "x", "site": "y"}}, SPEC)["labels"]
    assert labels["ds01.user"] == "alice"
    assert "ds01.extra" not in labels
    assert labels["site"] == "y"


def test_labels_come_back_as_they_went():
    assert SessionLabels.from_labels(LABELS.to_labels()) == SessionLabels(
        **{**vars(LABELS), "gpu_equivalents": 0.1429}
    )
    assert SessionLabels.from_labels({"ds01.managed": "true"}) is None


def test_the_account_in_the_container():
    accounts = ImageAccounts(
        "root:x:0:0::/root:/bin/sh\nubuntu:x:20000:20000::/home/ubuntu:/bin/sh\n", "root:x:0:", "/bin/bash"
    )
    with tarfile.open(fileobj=io.BytesIO(account_archive(accounts, SPEC))) as tar:
        files = {m.name: (m.uid, m.gid, m.mode) for m in tar}
        read = {n: tar.extractfile(n).read().decode() for n in files if not tar.getmember(n).isdir()}
    assert (
        read["etc/passwd"] == "root:x:0:0::/root:/bin/sh\nalice:x:20000:20001:alice:/home/alice:/bin/bash\n"
    )
    assert read["etc/group"] == "root:x:0:\nalice:x:20001:\n"
    assert files["home/alice"] == (20000, 20001, 0o750)
    assert files["etc/passwd"] == (0, 0, 0o644)
    assert r"\u@thesis:\w" in read["home/alice/.bashrc"]
