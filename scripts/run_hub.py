"""Run the demo hub in the foreground until Ctrl-C: ``PORT=8000 run_hub.py``.

Checks the ports, makes a password once, starts JupyterHub with its log in ``.cache/hub/hub.log``,
and prints address and accounts when it answers. Sessions outlive the hub.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from ds01spawner.demo import ACCOUNTS

ROOT = Path(__file__).resolve().parent.parent
STATE = Path(os.environ.get("DS01_STATE_DIR") or ROOT / ".cache" / "hub").absolute()
CONFIG = ROOT / "hub_config" / "jupyterhub_config.py"
READY_WITHIN_S = 120
STOP_WITHIN_S = 60


class CannotRun(Exception):
    """The hub cannot be started; the text says why and what to do."""


def main() -> int:
    """Run the hub; 0 after Ctrl-C, 1 with a sentence when it could not start or ended by itself."""
    try:
        STATE.mkdir(parents=True, exist_ok=True)
        STATE.chmod(0o700)
        port = parse_port(os.environ.get("PORT") or "8000")
        with (STATE / "running").open("a+") as lock:
            take(lock, port)
            stop_old_proxy()
            check_ports(port)
            return run(port, demo_password(), lock.fileno())
    except CannotRun as error:
        print(f"!! {error}", file=sys.stderr)
        return 1


def parse_port(text: str) -> int:
    """The port people open; the others are derived from it."""
    if not text.isdigit() or not 1024 <= int(text) <= 65000:
        raise CannotRun(f"PORT={text} is not a port from 1024 to 65000")
    return int(text)


def take(lock, port: int) -> None:
    """Make sure that only one demo hub runs from this checkout."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        raise CannotRun(f"the hub of this checkout runs already at {lock.read().strip()}") from None
    lock.truncate(0)
    lock.write(address(port))
    lock.flush()


def stop_old_proxy() -> None:
    """End the proxy that a killed hub of ours left behind; JupyterHub wrote its process id."""
    pid_file = STATE / "jupyterhub-proxy.pid"
    try:
        pid = int(pid_file.read_text().splitlines()[0])
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError, IndexError):
        return
    if b"configurable-http-proxy" in command:
        os.kill(pid, signal.SIGTERM)
        time.sleep(1)
    pid_file.unlink(missing_ok=True)


def check_ports(port: int) -> None:
    """The ports of the hub are free, or a sentence names the one that is not."""
    uses = {port: "the hub", port + 1: "the proxy's API", port + 2: "the service", port + 81: "the hub's API"}
    for number, use in uses.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", number))  # free on every address: the hub listens at a bridge
            except OSError:
                raise CannotRun(
                    f"port {number} ({use}) is taken by another program; choose another with "
                    f"PORT={port + 1000} make hub"
                ) from None


def demo_password() -> str:
    """The shared password of the demo accounts; made once and kept for this user's eyes."""
    path = STATE / "password"
    given = os.environ.get("DS01_DEMO_PASSWORD")
    if given:
        return given
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as stream:
            stream.write(f"{secrets.token_hex(2)}-{secrets.token_hex(2)}\n")
    return path.read_text().strip()


def environment(port: int, password: str) -> dict[str, str]:
    """What ``jupyterhub_config.py`` reads."""
    workspaces = STATE / "workspaces"
    workspaces.mkdir(exist_ok=True)
    return {
        **os.environ,
        "PORT": str(port),
        "DS01_SERVICE_PORT": str(port + 2),
        "DS01_STATE_DIR": str(STATE),
        "DS01_WORKSPACE_ROOT": str(workspaces),
        "DS01_HUB_ID": os.environ.get("DS01_HUB_ID") or "demo",
        "DS01_DEVICES": devices(),
        "DS01_DEMO_PASSWORD": password,
    }


def devices() -> str:
    """Real GPUs where the driver shows any, else simulated ones; ``DS01_DEVICES`` decides otherwise."""
    real = Path("/proc/driver/nvidia/gpus")
    return os.environ.get("DS01_DEVICES") or (
        "nvml" if real.is_dir() and any(real.iterdir()) else "simulated"
    )


def run(port: int, password: str, lock: int) -> int:
    """Start JupyterHub, say when it is ready, wait for its end.

    The hub has a process group of its own, so that Ctrl-C reaches it once, through us, and it inherits
    the lock, so that it is not started twice even if we are killed.
    """
    log_path = STATE / "hub.log"
    with log_path.open("ab") as log:
        hub = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub", "-f", str(CONFIG)],
            cwd=STATE, env=environment(port, password), stdout=log, stderr=log,
            start_new_session=True, pass_fds=(lock,),
        )  # fmt: skip
    signal.signal(signal.SIGTERM, lambda *_: hub.terminate())
    try:
        if not wait_ready(hub, port):
            hub.terminate()
            hub.wait(STOP_WITHIN_S)
            print(
                "".join(log_path.read_text(errors="replace").splitlines(keepends=True)[-25:]), file=sys.stderr
            )
            raise CannotRun(f"the hub did not start; the end of its log is above, the whole in {log_path}")
        print(welcome(port, password), flush=True)
        status = hub.wait()
    except KeyboardInterrupt:
        status = stop(hub)
    print("The hub has stopped. Sessions keep running; 'make hub' finds them again.", flush=True)
    return 0 if status in (0, -signal.SIGINT, -signal.SIGTERM) else 1


def stop(hub: subprocess.Popen) -> int:
    """After Ctrl-C: ask the hub to end, wait, then insist."""
    try:
        hub.send_signal(signal.SIGTERM)
        hub.wait(STOP_WITHIN_S)
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        hub.kill()
        hub.wait()
    return 0


def wait_ready(hub: subprocess.Popen, port: int) -> bool:
    """Whether the hub answers through its proxy before it ends or the time is over."""
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline and hub.poll() is None:
        try:
            with urllib.request.urlopen(f"{address(port)}/hub/health", timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    return False


def address(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def shown(path: Path) -> str:
    """A path as short as it can be said from here."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def welcome(port: int, password: str) -> str:
    """What the person at the terminal needs now."""
    people = "\n".join(f"    {name:<9} {kind}" for name, kind in ACCOUNTS.items())
    simulated = "\n  The GPUs are simulated: this machine shows none." if devices() == "simulated" else ""
    return f"""
  The hub runs at {address(port)}

  Accounts, all with the password {password}
{people}
{simulated}
  Log: {shown(STATE / "hub.log")}   Workspaces: {shown(STATE / "workspaces")}
  Ctrl-C stops the hub; sessions keep running until they are retired.
"""


if __name__ == "__main__":
    sys.exit(main())
