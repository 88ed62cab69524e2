"""Which tests stay together on one worker, and which groups begin first: those that take longest.

``tests/durations.json`` says about how many seconds each group takes; those that are not in it count by
their number of tests. It need not be exact; ``DS01_RECORD_DURATIONS=tests/durations.json`` writes it anew.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).resolve().parents[1] / "durations.json"
UNKNOWN_TEST_S = 1.0
WORTH_S = 2.0
"""Shorter groups are not written down: their order does not matter."""
ALONE = frozenset(
    f"tests/hub/test_{name}.py"
    for name in ("class", "ground", "people_hub", "queue_hub", "restarts", "retire_intents")
)
"""Files whose tests share no hub: each test is a group of its own. Elsewhere a file is one."""


def group_of(nodeid: str) -> str:
    """The tests that one worker runs one after the other, because they share what takes long to set up."""
    file = nodeid.partition("::")[0]
    return nodeid if file in ALONE else file


def longest_first(nodeids: Iterable[str], seconds: Mapping[str, float]) -> list[str]:
    """The groups of these tests, longest first."""
    tests = Counter(group_of(nodeid) for nodeid in nodeids)
    return sorted(tests, key=lambda group: (-seconds.get(group, UNKNOWN_TEST_S * tests[group]), group))


def known() -> dict[str, float]:
    """Seconds by group, as last measured."""
    return dict(json.loads(FILE.read_text())) if FILE.exists() else {}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Takes the place of xdist's own way for ``--dist loadfile``."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class LongestFirst(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

        def schedule(self) -> None:
            if self.collection is None and self.registered_collections:
                tests = next(iter(self.registered_collections.values()))
                self.workqueue.update((group, {}) for group in longest_first(tests, known()))
            super().schedule()

    config.option.loadscopereorder = False  # else it orders by numbers of tests; so our order stays
    return LongestFirst(config, log)


class Recorder:
    """Adds up what each group took; the process that talks to the terminal hears of every test."""

    def __init__(self, path: str) -> None:
        self._path, self._seconds = Path(path), Counter[str]()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Setup, call and teardown."""
        self._seconds[group_of(report.nodeid)] += report.duration  # type: ignore[assignment]

    def pytest_sessionfinish(self) -> None:
        """Write it down."""
        worth = {group: round(s, 1) for group, s in sorted(self._seconds.items()) if s >= WORTH_S}
        self._path.write_text(json.dumps(worth, indent=1) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    """Record where asked to, in one process only."""
    path = os.environ.get("DS01_RECORD_DURATIONS")
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(path), "ds01-durations")
