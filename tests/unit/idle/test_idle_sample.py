"""Counters into activity: the meter, command lines, a made-up ``/proc``, the engine's answers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ds01spawner.engines.docker.engine_reader import _from_engine, _seconds
from ds01spawner.idle.procs import HostSampler
from ds01spawner.idle.sample import Meter, Process, Sample, classify

ID = "ab" * 32
TICKS = os.sysconf("SC_CLK_TCK")

# command line, name, kind
COMMANDS = [
    (["/opt/venv/bin/python", "/opt/venv/bin/jupyterhub-singleuser"], "notebook server", "server"),
    (["tini", "--", "jupyter-labhub", "--port=8888"], "notebook server", "server"),
    (["python", "-m", "ipykernel_launcher", "-f", "/x/kernel-1.json"], "kernel", "kernel"),
    (["julia", "-i", "k.jl", "/run/kernel-0f0f0f0f-1234.json"], "kernel", "kernel"),
    (["-bash"], "bash", "shell"),
    (["/bin/bash", "-l"], "bash", "shell"),
    (["watch", "-n1", "date"], "watch", "tool"),
    (["sleep", "99999"], "sleep", "tool"),
    (["/usr/bin/vim", "a.py"], "vim", "tool"),
    (["python3", "train.py", "--lr", "1"], "python3 train.py", "work"),
    (["nohup", "python3.11", "-u", "/workspace/train.py"], "python3.11 train.py", "work"),
    (["pip", "install", "torch"], "pip", "work"),
    (["./simulate"], "simulate", "work"),
    ([""], "", "work"),
]


@pytest.mark.parametrize(("argv", "name", "kind"), COMMANDS)
def test_command_lines(argv, name, kind):
    assert classify(argv) == (name, kind)


def sample(cpu=0.0, network=0, *processes, missing=""):
    return Sample(cpu, network, processes, missing=missing)


def test_one_look_tells_nothing():
    meter = Meter(60)
    assert meter.cpu("s").status == "failed"
    meter.add("s", 0, sample(5.0, 100))
    for reading in (meter.cpu("s"), meter.network("s"), meter.work("s")):
        assert (reading.status, reading.reason) == ("failed", "looked at once only; the next look tells")


def test_rates_over_the_window():
    meter = Meter(60)
    for at, cpu, network in ((0, 0.0, 0), (30, 30.0, 3000), (60, 30.0, 3000), (90, 30.0, 3000)):
        meter.add("s", at, sample(cpu, network))
    assert meter.cpu("s").value == 0.0
    assert meter.network("s").value == 0.0
    meter.add("s", 120, sample(60.0, 9000))
    assert meter.cpu("s").value == pytest.approx(0.5)
    assert meter.network("s").value == pytest.approx(100)


def test_a_counter_that_goes_back_or_is_missing_is_a_failure():
    meter = Meter(60)
    meter.add("s", 0, sample(9.0, 9))
    meter.add("s", 60, sample(1.0, 9))
    assert (meter.cpu("s").status, meter.network("s").value) == ("failed", 0.0)
    meter.add("s", 120, Sample(None, None, None, missing="its processes are not visible"))
    for reading in (meter.cpu("s"), meter.network("s"), meter.work("s")):
        assert (reading.status, reading.reason) == ("failed", "its processes are not visible")
    meter.keep_only([])
    assert meter.cpu("s").reason == "not looked at"


def test_programs_at_work_are_those_that_compute():
    train = Process(10, 1, "python train.py", "work", 50.0)
    board = Process(11, 1, "tensorboard", "work", 5.0)
    shell = Process(12, 1, "bash", "shell", 1.0)
    meter = Meter(60)
    meter.add("s", 0, sample(0, 0, train, board, shell))
    after = [Process(10, 1, "python train.py", "work", 51.0), board, Process(12, 1, "bash", "shell", 9.0)]
    meter.add("s", 60, sample(0, 0, *after, Process(10, 2, "make", "work", 0.5)))
    assert meter.work("s").value.running == ("python train.py", "make")


def fake_container(proc: Path, cgroup: Path, version: int) -> None:
    """A container of two processes; the second one is a zombie."""
    where = {1: f"4:cpu,cpuacct:/docker/{ID}\n1:name=systemd:/docker/{ID}\n0::/docker/{ID}\n"}
    where[2] = f"0::/system.slice/docker-{ID}.scope\n"
    rest = " ".join(["0"] * 8 + ["150", "50"] + ["0"] * 6 + ["777"] + ["0"] * 20)
    for pid, state, argv in ((41, "S", b"python3\0train.py\0"), (42, "Z", b"")):
        folder = proc / str(pid)
        (folder / "net").mkdir(parents=True)
        (folder / "cgroup").write_text(where[version])
        (folder / "stat").write_text(f"{pid} (a) b (c) {state} 1 1 {rest}\n")
        (folder / "cmdline").write_bytes(argv)
        (folder / "net/dev").write_text("h\nh\n  lo: 9 1 0 0 0 0 0 0 9 1\neth0: 100 1 0 0 0 0 0 0 50 1\n")
    if version == 1:
        (cgroup / f"cpu,cpuacct/docker/{ID}").mkdir(parents=True)
        (cgroup / f"cpu,cpuacct/docker/{ID}/cpuacct.usage").write_text("2500000000\n")
    else:
        (cgroup / f"system.slice/docker-{ID}.scope").mkdir(parents=True)
        (cgroup / f"system.slice/docker-{ID}.scope/cpu.stat").write_text("usage_usec 2500000\nuser_usec 1\n")


@pytest.mark.parametrize("version", [1, 2])
def test_the_hosts_files(tmp_path, version):
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    fake_container(proc, cgroup, version)
    (proc / "self").mkdir()
    (proc / "7").mkdir()
    (proc / "7/cgroup").write_text("0::/init.scope\n")
    found = HostSampler(proc, cgroup).sample([ID, "cd" * 32])
    assert set(found) == {ID}
    assert (found[ID].cpu, found[ID].network, found[ID].missing) == (2.5, 150, "")
    assert found[ID].processes == (Process(41, 777, "python3 train.py", "work", 200 / TICKS),)


def test_files_that_cannot_be_read_are_missing_not_zero(tmp_path):
    fake_container(tmp_path / "proc", tmp_path / "cgroup", 2)
    found = HostSampler(tmp_path / "proc", tmp_path / "nothing").sample([ID])
    assert (found[ID].cpu, found[ID].missing) == (None, "its counters are unreadable")
    assert HostSampler(tmp_path / "nothing", tmp_path / "cgroup").sample([ID]) == {}


def test_the_engines_answers():
    stats = {
        "cpu_stats": {"cpu_usage": {"total_usage": 1_500_000_000}},
        "networks": {"eth0": {"rx_bytes": 1, "tx_bytes": 2}, "eth1": {"rx_bytes": 3, "tx_bytes": 4}},
    }
    top = {"Titles": ["PID", "TIME", "COMMAND"], "Processes": [["5", "00:01:02", "python3 a.py"]]}
    got = _from_engine(stats, top)
    assert (got.cpu, got.network) == (1.5, 10)
    assert got.processes == (Process(5, 0, "python3 a.py", "work", 62.0),)
    del stats["networks"]
    assert _from_engine(stats, top).network is None
    with pytest.raises(KeyError):
        _from_engine({}, top)


@pytest.mark.parametrize(
    ("text", "seconds"), [("00:00:07", 7), ("1-02:00:00", 93600), ("03:05", 185), ("100:00:00", 360000)]
)
def test_cpu_times(text, seconds):
    assert _seconds(text) == seconds


def test_an_odd_cpu_time():
    with pytest.raises(ValueError, match="no CPU time"):
        _seconds("soon")
