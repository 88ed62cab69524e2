"""The idle service's command line: one at a time for a site, until it is stopped."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from contextlib import nullcontext

from ..core.errors import DS01Error
from ..core.onlyone import Holder, only_one
from ..core.settings import Settings, load_settings
from .wiring import build, hub_environment


def main(argv: list[str] | None = None) -> int:
    """Run until stopped; exit 1 when it cannot begin."""
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname).1s %(asctime)s %(name)s] %(message)s")
    try:
        url, token = hub_environment()
        settings = load_settings()
        lock = only_one(settings.state_dir / "idle.lock", Holder.this(settings.state_dir))
        with lock if not args.dry_run else nullcontext():
            asyncio.run(_run(args, settings, url, token))
    except DS01Error as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


async def _run(args: argparse.Namespace, settings: Settings, url: str, token: str) -> None:
    await build(  # reads the memory, so not before it is ours
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
    ).run()


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
