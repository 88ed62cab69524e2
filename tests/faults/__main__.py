"""``python -m tests.faults --seed 1 --minutes 5``: one campaign; exits 1 when it finds a violation."""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests")]
os.environ["PATH"] = f"{ROOT / '.cache/node/node_modules/.bin'}{os.pathsep}{os.environ['PATH']}"

from . import namespace, plan  # noqa: E402


def main() -> int:
    """Outside: enter the namespaces. Inside: run."""
    arguments = parse(sys.argv[1:])
    if namespace.inside():
        return campaign(arguments)
    if arguments.plan:
        print(plan.show(plan.make(arguments.seed, arguments.minutes, arguments.rate, tuple(arguments.only))))
        return 0
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ds01f", dir="/tmp") as folder:
        return namespace.enter([*sys.argv[1:], "--folder", folder])


def parse(given: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="tests.faults", description="Faults on a real site, judged from outside."
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--minutes", type=float, default=5, help="of storms; the looks at the end take three more"
    )
    parser.add_argument("--rate", type=float, default=40, help="sessions asked for in a minute")
    parser.add_argument("--only", action="append", default=[], help="a kind of fault; may be repeated")
    parser.add_argument(
        "--out", type=Path, default=ROOT / ".cache" / "faults", help="folder of the log and the result"
    )
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--plan", action="store_true", help="print the plan and do nothing")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(given)


def campaign(arguments: argparse.Namespace) -> int:
    """Run inside the namespaces."""
    from .campaign import Campaign, keep, summary
    from .log import Log
    from .stage import Stage

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(65536, most), most))
    made = plan.make(arguments.seed, arguments.minutes, arguments.rate, tuple(arguments.only))
    out: Path = arguments.out
    log = Log(out / "events.jsonl")
    log.aloud = not arguments.quiet
    stage = Stage(arguments.folder / "site", log)
    try:
        stage.set_up()
        result = Campaign(made, stage, log).run()
    finally:
        stage.keep(out)
        stage.close()
    keep(result, out)
    print(summary(result))
    for violation in result.violations[:40]:
        print(f"- {violation['rule']}: {violation['text']}")
    return 1 if result.violations else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code) if namespace.inside() else sys.exit(code)
