"""One service of its kind for an installation: a lock whose file names its holder.

A newer hub takes over. A service outlives its hub only where it could not notice (stopped by a signal, say),
and then the next hub's would wait for it for ever, or find its port taken. So the one that waits reads who
holds the lock, asks it to end, and after a while kills it, when all of this is certain: the file names a
process of this installation, that very process still runs and has this very file open, and its hub is gone
or older. Anything else is waited for.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import IO

from .installation import load
from .orphan_watch import hub_process
from .process import Process

ASK_S = 5.0
"""Seconds to end after being asked, before a proven former holder is killed; a wait for JupyterHub, too,
which gives a service ten seconds to answer."""
RETRY_S = 0.5
MAX_RECORD = 4096

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Holder:
    """Who holds a lock: the process, the hub that started it, and whose it is."""

    process: Process
    hub: Process | None
    installation: str

    @classmethod
    def this(cls, state_dir: Path) -> Holder:
        """The calling process, for the installation with this state folder."""
        installation = load(state_dir)
        # Before the hub's set-up made one, the folder itself says which it is.
        return cls(
            Process.this(),
            hub_process(os.environ),
            installation.id if installation else str(state_dir.resolve()),
        )

    def dump(self) -> str:
        """As it is written into the file."""
        hub = str(self.hub) if self.hub else ""
        return json.dumps({"process": str(self.process), "hub": hub, "installation": self.installation})

    @classmethod
    def parse(cls, text: str) -> Holder | None:
        """What `dump` wrote, or None where it is anything else."""
        try:
            found = json.loads(text)
            process = Process.parse(found["process"])
            return cls(process, Process.parse(found["hub"]), found["installation"]) if process else None
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def gives_way(holder: Holder, mine: Holder, hub_alive: bool) -> bool:
    """Whether a holder must make room for this process: its hub is gone, or older than ours. Pure."""
    if holder.installation != mine.installation or holder.process == mine.process:
        return False
    if holder.hub is None or mine.hub is None or holder.hub == mine.hub:
        return False  # started by hand, or two of one hub: nothing says which is right
    return not hub_alive or (holder.hub.started, holder.hub.pid) < (mine.hub.started, mine.hub.pid)


@contextmanager
def only_one(
    path: Path,
    mine: Holder,
    *,
    ask: float = ASK_S,
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Hold the lock for the block; blocks until no other process does this for the installation."""
    for attempt in count():
        file = path.open("a+")
        try:
            if _take(file, path):
                _write(file, mine)
                yield
                return
            holder = Holder.parse(_read(file))
        finally:
            file.close()
        alive = bool(holder and holder.hub and holder.hub.alive)
        if holder is not None and _holds(holder, path) and gives_way(holder, mine, alive):
            replace(holder, path, ask)
            continue
        if attempt == 0:
            log.warning("%s is held by %s; this one waits for its end", path, _who(holder))
        wait(RETRY_S)


def replace(holder: Holder, path: Path, ask: float = ASK_S) -> None:
    """Make a proven holder end: asked, then killed."""
    log.warning("Process %s of a former hub holds %s: it is asked to end", holder.process.pid, path)
    try:
        holder.process.signal(SIGTERM)
        if holder.process.wait_end(ask) or not _holds(holder, path):
            return
        log.warning("Process %s did not end within %g s: it is killed", holder.process.pid, ask)
        holder.process.signal(SIGKILL)
        holder.process.wait_end(ask)
    except PermissionError as error:
        log.error("Process %s cannot be ended by this one: %s", holder.process.pid, error)
        time.sleep(ask)


def _take(file: IO[str], path: Path) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    # Deleted meanwhile, another process may hold a new file of this name.
    return _same(os.fstat(file.fileno()), path)


def _same(mine: os.stat_result, path: Path | str) -> bool:
    try:
        other = os.stat(path)
    except OSError:
        return False
    return (mine.st_dev, mine.st_ino) == (other.st_dev, other.st_ino)


def _holds(holder: Holder, path: Path) -> bool:
    """Whether that very process runs and has the lock's file open, as the kernel tells."""
    folder = Path(f"/proc/{holder.process.pid}/fd")
    try:
        mine = path.stat()
        opened = any(_same(mine, f"{folder}/{name}") for name in os.listdir(folder))
    except OSError:
        return False
    return opened and holder.process.alive


def _write(file: IO[str], mine: Holder) -> None:
    file.truncate(0)
    file.write(mine.dump())
    file.flush()


def _read(file: IO[str]) -> str:
    file.seek(0)
    return file.read(MAX_RECORD)


def _who(holder: Holder | None) -> str:
    return f"process {holder.process.pid}" if holder else "another process"
