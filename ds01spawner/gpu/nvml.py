"""Runs the NVML child process and takes its answer, or gives up on it in time."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from .reading import GpuReading, failed, from_raw

CHILD = Path(__file__).with_name("child.py")
TIMEOUT = 15.0
"""Seconds for one reading; without persistence mode a driver may take some to wake up."""
REAP = 0.5
QUIET = 20.0
"""Seconds after a reading that timed out in which no other one is tried."""

_lock = threading.Lock()
_stuck: list[subprocess.Popen[str]] = []
_quiet = {"until": 0.0}


def read_nvml(
    activity: bool = False,
    timeout: float = TIMEOUT,
    child: Path = CHILD,
    clock: Callable[[], float] = time.monotonic,
) -> GpuReading:
    """Read all GPUs in a child process; never raises. A reading takes ``timeout`` + 0.5 s at most.

    A child that hangs inside the driver cannot even be killed. It is left behind, and until it ends no
    further one is started: every reading meanwhile is an error that says so. After a reading that timed
    out none is tried for a while, so that those who waited for their turn are answered at once.
    """
    with _lock:
        if clock() < _quiet["until"]:
            return failed("the NVIDIA driver did not answer in time a moment ago; it is asked again soon")
        _stuck[:] = [p for p in _stuck if p.poll() is None]
        if _stuck:
            return failed(
                f"the NVIDIA driver does not answer: process {_stuck[0].pid} has hung in it since the last "
                "reading; the machine probably needs a reboot"
            )
        command = [sys.executable, str(child)] + (["--activity"] if activity else [])
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        except OSError as error:
            return failed(f"the process that reads the GPUs cannot be started: {error}")
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            _abandon(process)
            _quiet["until"] = clock() + QUIET
            return failed(f"the NVIDIA driver did not answer within {timeout:g} seconds")
    return _parse(process.returncode, output, errors)


def _abandon(process: subprocess.Popen[str]) -> None:
    process.kill()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(REAP)
    except subprocess.TimeoutExpired:
        _stuck.append(process)


def _parse(code: int, output: str, errors: str) -> GpuReading:
    if code != 0:
        last = (errors.strip().splitlines() or ["it said nothing"])[-1][:200]
        ended = f"died of signal {-code}" if code < 0 else f"ended with status {code}"
        return failed(f"the process that reads the GPUs {ended}: {last}")
    try:
        return from_raw(json.loads(output))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return failed(f"the process that reads the GPUs gave an answer that cannot be understood: {error!r}")
