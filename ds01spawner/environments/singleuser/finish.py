"""The last step of every build: write down what is installed, and see that a kernel really runs.

Runs on the layer's Python. A kernel that does not answer fails the build here, where its owner reads
why, instead of at the next start.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

LAYER = Path("/opt/ds01")
LOCK = LAYER / "lock.json"
TIMEOUT_S = 90
_LIST = """
import json, platform
from importlib import metadata
named = [(d.metadata["Name"], d.version) for d in metadata.distributions() if d.metadata["Name"]]
found = sorted({"==".join(pair) for pair in named}, key=str.lower)
print(json.dumps({"python": platform.python_version(), "pip": found}))
"""


def lock(user_python: str) -> dict[str, object]:
    """Everything installed: the user's Python packages, the layer's, and Debian's."""
    own = json.loads(
        subprocess.run([user_python, "-c", _LIST], check=True, capture_output=True, cwd="/").stdout
    )
    layer = sorted(f"{d.metadata['Name']}=={d.version}" for d in metadata.distributions())
    debian: list[str] = []
    if shutil.which("dpkg-query"):
        command = ["dpkg-query", "-W", "-f", "${Package}=${Version}\\n"]
        debian = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return {**own, "layer": layer, "apt": debian}


def kernel_prefix() -> str:
    """Start the kernel as a session does, and ask where its Python is."""
    from jupyter_client.manager import KernelManager

    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd="/")
    client = manager.blocking_client()
    client.start_channels()
    said: list[str] = []
    try:
        client.wait_for_ready(timeout=TIMEOUT_S)

        def hear(message: dict[str, dict[str, str]]) -> None:
            said.append(str(message["content"].get("text") or message["content"].get("evalue") or ""))

        client.execute_interactive("import sys; print(sys.prefix)", timeout=TIMEOUT_S, output_hook=hear)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    return "".join(said).strip()


def main(argv: list[str]) -> int:
    """Check, then write; with ``--print`` only print what was written."""
    if argv == ["--print"]:
        print(LOCK.read_text())
        return 0
    user_python = (LAYER / "layer" / "user_python").read_text().strip()
    wanted = argv[0] if argv else ""
    found = lock(user_python)
    if wanted and not str(found["python"]).startswith(wanted + "."):
        print(
            f"ds01: refused: the recipe asks for Python {wanted}, this base has {found['python']}",
            file=sys.stderr,
        )
        return 65
    with tempfile.TemporaryDirectory() as home:
        os.environ.update({"HOME": home, "JUPYTER_RUNTIME_DIR": home, "IPYTHONDIR": home})
        try:
            prefix = kernel_prefix()
        except (RuntimeError, TimeoutError, OSError) as error:
            print(f"ds01: refused: a kernel on its Python did not start: {error}", file=sys.stderr)
            return 65
    code = "import sys; print(sys.prefix)"
    own = subprocess.run([user_python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    if prefix != own:
        print(f"ds01: refused: the kernel does not run on {own}: {prefix[:300]}", file=sys.stderr)
        return 65
    subprocess.run([user_python, "-B", str(LAYER / "layer" / "open.py")], check=True)
    LOCK.write_text(json.dumps(found) + "\n")
    LOCK.chmod(0o644)
    print(f"ds01: a kernel ran on {own}, {len(list(found['pip']))} packages written down")  # type: ignore[call-overload]
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
