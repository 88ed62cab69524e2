"""Whose fault a start is that failed: words as engines, runc and NVIDIA's tools really say them."""

from __future__ import annotations

import pytest

from ds01spawner.engines.docker.start_faults import Fault, fault

RUNC = "failed to create shim task: OCI runtime create failed: runc create failed: "


@pytest.mark.parametrize(
    ("status", "message", "wanted"),
    [
        (500, 'could not select device driver "" with capabilities: [[gpu]]', Fault.DEVICE),
        (500, "nvidia-container-cli: device error: MIG-1: unknown device: unknown", Fault.DEVICE),
        (
            500,
            RUNC + "nvidia-container-cli: nvml error: driver not loaded",
            Fault.DEVICE,
        ),
        (500, "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=MIG-1", Fault.DEVICE),
        (400, "could not resolve CDI device: unresolvable CDI devices nvidia.com/gpu=0", Fault.DEVICE),
        (
            500,
            'error gathering device information while adding custom device "/dev/nvidia0": no such file',
            Fault.DEVICE,
        ),
        (500, "what was that? GPU-7", Fault.DEVICE),
        (500, "mkdir /var/lib/docker/overlay2/x: no space left on device", Fault.ENGINE),
        (500, "nvidia-container-cli: ldcache: write: no space left on device", Fault.ENGINE),
        (500, RUNC + "unable to apply cgroup configuration: cannot allocate memory", Fault.ENGINE),
        (500, "network ds01 not found", Fault.ENGINE),
        (500, "error while creating mount source path '/ws/a': read-only file system", Fault.ENGINE),
        (400, RUNC + 'exec: "start": executable file not found in $PATH: unknown', Fault.ENGINE),
        (500, "connection error: desc = transport: Error while dialing: connection refused", Fault.ENGINE),
        (
            500,
            "fork/exec containerd-shim: resource temporarily unavailable",
            Fault.ENGINE,
        ),
        (404, "No such container: GPU-7", Fault.ENGINE),
        (409, "removal of container is already in progress", Fault.ENGINE),
        (500, "write sysctl key net.ipv4.none: no such file or directory", Fault.UNKNOWN),
        (500, "something odd happened", Fault.UNKNOWN),
    ],
)
def test_the_engines_words_say_whose_fault_it_is(status, message, wanted):
    assert fault(status, message, ("GPU-7",)) is wanted


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        ("error while creating mount source path '/ws/ann/nvidia': file exists", Fault.ENGINE),
        ("error while creating mount source path '/ws/mig/p': read-only file system", Fault.ENGINE),
        (
            RUNC + 'error mounting "/ws/ann/cuda-lab" to rootfs at "/workspace": not a directory',
            Fault.UNKNOWN,
        ),
        ("nvidia-container-cli: device error: MIG-1: unknown device: unknown", Fault.DEVICE),
        ("mount source path '/ws/ann/x': GPU-7 is lost", Fault.DEVICE),
    ],
)
def test_a_name_that_a_person_chose_blames_no_device(message, wanted):
    assert fault(500, message, ("GPU-7",), ("mig", "nvidia", "cuda-lab", "x", "")) is wanted
