"""``python -m ds01spawner.idle``: the idle service, started by the hub."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import count
from pathlib import Path

from ..errors import DS01Error
from ..parent import until_orphaned
from ..settings import load_settings
from .service import IdleService
from .wiring import build, hub_environment

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Run until stopped; exit 1 when it cannot begin."""
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname).1s %(asctime)s %(name)s] %(message)s")
    try:
        url, token = hub_environment()
        asyncio.run(_run(args, url, token))
    except DS01Error as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


async def _run(args: argparse.Namespace, url: str, token: str) -> None:
    settings = load_settings()
    with only_one(settings.state_dir / "idle.lock") if not args.dry_run else nullcontext():
        service: IdleService = build(  # reads the memory, so not before it is ours
            settings,
            url,
            token,
            poll=args.poll,
            window=args.window,
            port=args.port,
            parallel=args.parallel,
            hooks=args.hook,
            webhooks=args.webhook,
            dry_run=args.dry_run,
        )
        running = asyncio.ensure_future(service.run())
        orphaned = asyncio.ensure_future(until_orphaned(os.environ))
        await asyncio.wait([running, orphaned], return_when=asyncio.FIRST_COMPLETED)
        if orphaned.done():
            log.warning("The hub that started the idle service is gone, so the service ends")
        for task in (running, orphaned):
            task.cancel()


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Wait until no other process does this for the same site: two would both warn and both forget."""
    with path.open("a") as file:
        for attempt in count():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == 0:
                    log.warning("Another idle service of this site runs; this one waits for its end")
                time.sleep(1)
        yield


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ds01spawner.idle", description="Warn and retire idle sessions.")
    parser.add_argument("--poll", type=float, default=60.0, help="seconds between two looks")
    parser.add_argument("--window", type=float, default=60.0, help="seconds over which use is measured")
    parser.add_argument("--port", type=int, default=8888, help="port of the servers in their containers")
    parser.add_argument("--parallel", type=int, default=16, help="stops at once")
    parser.add_argument("--hook", action="append", default=[], help="module:function called with a notice")
    parser.add_argument("--webhook", action="append", default=[], help="address notices are POSTed to")
    parser.add_argument("--dry-run", action="store_true", help="decide and log, warn and stop nobody")
    return parser


if __name__ == "__main__":
    sys.exit(main())
