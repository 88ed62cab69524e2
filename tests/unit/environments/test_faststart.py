"""The session server's way out: what must be kept is kept, the interpreter is not taken apart."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ds01spawner.environments.layer import files

PROGRAM = """
import atexit, sys, threading, time
import ds01_faststart

class Late:
    def __del__(self):
        print("taken apart")

def save():
    time.sleep(0.2)
    print("thread saved")

late = Late()
atexit.register(print, "exit function ran")
threading.Thread(target=save).start()
sys.stdout.write("said before; ")
ds01_faststart.leave()
print("not reached")
"""


def run(tmp_path: Path, program: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "ds01_faststart.py").write_bytes(files()["ds01_faststart.py"])
    return subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )


def test_threads_and_exit_functions_finish_and_output_is_written(tmp_path):
    ended = run(tmp_path, PROGRAM)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "said before; thread saved\nexit function ran\n"


def test_a_python_without_the_hooks_ends_as_always(tmp_path):
    ended = run(tmp_path, "import atexit\ndel atexit._run_exitfuncs\n" + PROGRAM)
    assert "not reached" in ended.stdout
    assert "taken apart" in ended.stdout
