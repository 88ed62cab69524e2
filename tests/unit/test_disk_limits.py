"""Used space, the quota command, and when GPU-hours come back."""

from __future__ import annotations

import os
import threading
import time
from datetime import datetime, timedelta, timezone

import pytest

from ds01spawner.core.errors import StoreError
from ds01spawner.store import Store
from ds01spawner.store.accounting import falls_below, overlap_hours
from ds01spawner.workspace import used_space
from ds01spawner.workspace.quota import QuotaError, Quotas, run
from ds01spawner.workspace.used_space import Measured, UsedSpace, measure

NOW = datetime(2026, 3, 2, 12, tzinfo=timezone.utc)
KIB = 1024


def hours(n):
    return timedelta(hours=n)


# --- used space -----------------------------------------------------------------------------------


def test_space_is_that_on_disk_and_hard_links_count_once(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 64 * KIB)
    before = measure(tmp_path).bytes
    os.link(tmp_path / "a", tmp_path / "b")
    assert measure(tmp_path).bytes == before
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(10 * 1024 * KIB)
    assert measure(tmp_path).bytes < before + 64 * KIB


def test_a_link_is_never_followed(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/big").write_bytes(b"x" * 256 * KIB)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/link").symlink_to(tmp_path / "out")
    assert measure(tmp_path / "mine").bytes < 64 * KIB
    assert measure(tmp_path / "mine/link") is None


def test_what_is_not_there_holds_nothing(tmp_path):
    assert measure(tmp_path / "none") == Measured(0)


def test_depth_and_time_are_bounded_and_said(tmp_path, monkeypatch):
    deep = tmp_path
    for _ in range(30):
        deep = deep / "d"
    deep.mkdir(parents=True)
    assert measure(tmp_path).complete
    monkeypatch.setattr(used_space, "MAX_DEPTH", 10)
    assert not measure(tmp_path).complete
    monkeypatch.undo()
    assert not measure(tmp_path, budget=-1).complete
    before = len(os.listdir("/proc/self/fd"))
    measure(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_figure_is_remembered_and_renewed_behind_the_asking(tmp_path, monkeypatch):
    answers, gate, asked = [Measured(10), Measured(20)], threading.Event(), []

    def slow(path, budget):
        asked.append(path)
        if len(asked) > 1:
            gate.wait(5)
        return answers[len(asked) - 1]

    monkeypatch.setattr(used_space, "measure", slow)
    space = UsedSpace(max_age=0.05)
    assert space.of(tmp_path, enough=100) == 10
    assert space.of(tmp_path, enough=100) == 10
    assert len(asked) == 1
    time.sleep(0.06)
    began = time.monotonic()
    assert space.of(tmp_path, enough=100) == 10, "the old figure, at once"
    assert time.monotonic() - began < 1
    gate.set()
    deadline = time.monotonic() + 5
    while space.of(tmp_path, enough=100) != 20:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_slow_first_measurement_is_unknown_and_not_nothing(tmp_path, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr(used_space, "measure", lambda path, budget: gate.wait(5) and Measured(1))
    assert UsedSpace().of(tmp_path, enough=1, patience=0.01) is None
    gate.set()


@pytest.mark.parametrize(
    ("found", "told"),
    [(Measured(50), 50), (Measured(50, False), None), (Measured(150, False), 150), (None, None)],
)
def test_a_figure_that_is_not_complete_counts_only_when_it_is_enough(tmp_path, monkeypatch, found, told):
    monkeypatch.setattr(used_space, "measure", lambda path, budget: found)
    assert UsedSpace().of(tmp_path, enough=100) == told


# --- the quota command ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["sh", "-c", "echo one; echo 'no such project' >&2; exit 3"], "no such project"),
        (["sh", "-c", "exit 3"], "sh ended with code 3"),
        (["/no/such/program"], "/no/such/program could not be run"),
        (["a\0b"], "could not be run"),
    ],
)
def test_a_quota_command_that_fails_says_why(argv, said):
    with pytest.raises(QuotaError, match=said):
        run(argv)


def test_a_quota_command_that_hangs_is_ended():
    with pytest.raises(QuotaError, match=r"did not end within 0\.2 seconds"):
        run(["sleep", "30"], timeout=0.2)


def test_no_shell_reads_the_arguments(tmp_path):
    run(["touch", f"{tmp_path}/$(id) ; x"])
    assert [p.name for p in tmp_path.iterdir()] == ["$(id) ; x"]


def test_the_command_runs_once_for_each_quota_also_after_a_restart(tmp_path):
    store, ran = Store.open(f"sqlite:///{tmp_path}/s.sqlite"), []
    first = Quotas(lambda: store, ran.append)
    assert first.ensure("alice", ["q", "1"], NOW) is True
    assert first.ensure("alice", ["q", "1"], NOW) is False
    assert Quotas(lambda: store, ran.append).ensure("alice", ["q", "1"], NOW) is False
    assert first.ensure("alice", ["q", "2"], NOW) is True, "the quota was raised"
    assert first.ensure("bob", ["q", "1"], NOW) is True
    assert ran == [["q", "1"], ["q", "2"], ["q", "1"]]


def test_a_failed_command_is_run_again_and_a_lost_store_does_no_harm():
    def down():
        raise StoreError("down")

    failing = iter([QuotaError("busy"), None])

    def once(argv):
        if error := next(failing):
            raise error

    quotas = Quotas(down, once)
    with pytest.raises(QuotaError):
        quotas.ensure("alice", ["q"], NOW)
    assert quotas.ensure("alice", ["q"], NOW) is True
    assert quotas.ensure("alice", ["q"], NOW) is False


# --- GPU-hours ------------------------------------------------------------------------------------

DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("uses", "budget", "when"),
    [
        ([((NOW - hours(10), NOW - hours(6)), 1.0)], 4, NOW + hours(14) + timedelta(seconds=1)),
        ([((NOW - hours(10), NOW - hours(6)), 1.0)], 3, NOW + hours(15) + timedelta(seconds=1)),
        ([((NOW - hours(10), NOW - hours(6)), 0.5)], 1.5, NOW + hours(15) + timedelta(seconds=1)),
        (
            [((NOW - hours(10), NOW - hours(8)), 1.0), ((NOW - hours(4), NOW - hours(2)), 1.0)],
            1,
            NOW + hours(21) + timedelta(seconds=1),
        ),
        ([((NOW - hours(2), None), 1.0)], 1, None),
        ([((NOW - hours(2), NOW - hours(1)), 1.0)], 0, None),
        ([((NOW - hours(2), NOW), 1.0), ((NOW - hours(2), None), 0.0)], 1, NOW + hours(23, )
            + timedelta(seconds=1)),
    ],
)  # fmt: skip
def test_when_the_budget_comes_back(uses, budget, when):
    assert falls_below(uses, budget, DAY, NOW) == when


def test_the_time_told_is_the_time_from_which_a_start_works():
    uses = [
        ((NOW - hours(23), NOW - hours(20)), 3 / 7),
        ((NOW - hours(12), NOW - hours(3)), 1.0),
        ((NOW - hours(5), NOW - hours(1)), 2 / 7),
    ]

    def used(at):
        return sum(overlap_hours(interval, at - DAY, at) * weight for interval, weight in uses)

    for budget in (0.5, 1, 4, 8, 10):
        when = falls_below(uses, budget, DAY, NOW)
        assert used(when) < budget
        assert used(when - timedelta(minutes=1)) >= budget
