"""A service that the hub started ends when that hub is gone, so that the next hub's has no rival.

JupyterHub ends its services in a good shutdown. After a crash they would live on, with a token that the next
hub does not know and with the port and the locks that its own services need.

The hub says which process it is (`variable`, written by `configure`), because a service that asks for its
parent only after the hub's death is given another one. The watch is a thread of its own that begins before
anything heavy is imported and before any lock is waited for. ``PR_SET_PDEATHSIG`` is not used: it fires at
the death of the *thread* that started the service, and whatever it does is lost on a service with a user of
its own.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress

from .process import Process

HUB_PROCESS = "DS01_HUB_PROCESS"
GRACE_S = 5.0
"""Seconds to end in good order. Work in threads (a build, say) may take far longer than anybody can wait."""


def variable() -> dict[str, str]:
    """What the hub's own process passes on to its services."""
    return {HUB_PROCESS: str(Process.this())}


def hub_process(env: Mapping[str, str]) -> Process | None:
    """The hub that started this service; None for a process that no hub started."""
    if not env.get("JUPYTERHUB_SERVICE_NAME"):
        return None
    # A service that an administrator lists by hand may lack the variable; its parent is the best there is.
    return Process.parse(env.get(HUB_PROCESS, "")) or Process.of(os.getppid())


def end_with_hub(
    env: Mapping[str, str] = os.environ, grace: float = GRACE_S, leave: Callable[[int], None] = os._exit
) -> None:
    """End this process when its hub ends: at once where that has happened, else from now on.

    It is asked first (SIGTERM) and has ``grace`` seconds. Nothing happens to one that no hub started.
    """
    hub = hub_process(env)
    if hub is None:
        return

    def watch() -> None:
        hub.wait_end()
        _say(f"The hub that started {env['JUPYTERHUB_SERVICE_NAME']} is gone, so it ends")
        os.kill(os.getpid(), signal.SIGTERM)
        ended.wait(grace)
        leave(0)

    ended = threading.Event()
    threading.Thread(target=watch, name="end-with-hub", daemon=True).start()


def _say(text: str) -> None:
    with suppress(OSError, ValueError):  # the log may have ended with the hub
        print(text, file=sys.stderr, flush=True)
