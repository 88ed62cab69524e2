"""A socket between the product and its engine that can be made to answer 500, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path

PASS, FAIL, HANG = "pass", "fail", "hang"
ANSWER = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b'Content-Length: 35\r\n\r\n{"message":"the gate answers: 500"}'
)


class Gate:
    """Passes bytes both ways. In ``fail`` each request is answered 500, in ``hang`` nothing moves."""

    def __init__(self, path: Path, engine: Path) -> None:
        self.path, self.engine, self.mode = path, engine, PASS
        self._loop = asyncio.new_event_loop()
        self._moves = asyncio.Event()
        ready = threading.Event()
        threading.Thread(target=self._run, args=(ready,), name="gate", daemon=True).start()
        assert ready.wait(10)

    def set(self, mode: str) -> None:
        """What it does from now on."""
        self.mode = mode
        self._loop.call_soon_threadsafe(self._moves.clear if mode == HANG else self._moves.set)

    def _run(self, ready: threading.Event) -> None:
        async def serve() -> None:
            self._moves.set()
            server = await asyncio.start_unix_server(self._serve, str(self.path), backlog=512)
            ready.set()
            await server.serve_forever()

        self._loop.run_until_complete(serve())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await self._moves.wait()
            there, engine = await asyncio.open_unix_connection(str(self.engine))
            ways = [
                asyncio.ensure_future(self._carry(reader, engine, writer)),
                asyncio.ensure_future(self._carry(there, writer, None)),
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            engine.close()
        writer.close()

    async def _carry(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, refuse: asyncio.StreamWriter | None
    ) -> None:
        while data := await source.read(65536):
            await self._moves.wait()
            if self.mode == FAIL and refuse is not None:
                refuse.write(ANSWER)
                await refuse.drain()
                return
            target.write(data)
            await target.drain()
