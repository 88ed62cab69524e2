"""A mail relay in a thread that keeps what it is given; it speaks as much SMTP as a client needs."""

from __future__ import annotations

import email
import socketserver
import threading
from email import policy
from email.message import EmailMessage
from types import TracebackType


class _Conversation(socketserver.StreamRequestHandler):
    """One client: HELO, addresses, a message, QUIT."""

    server: Relay

    def handle(self) -> None:
        self._say("220 relay ready")
        sender, to = "", []
        for line in iter(self._line, None):
            verb = line.split(" ", 1)[0].upper()
            if verb in ("EHLO", "HELO"):
                self._say("250 relay")
            elif verb == "MAIL":
                sender = line.partition("<")[2].partition(">")[0]
                self._say("250 ok")
            elif verb == "RCPT":
                address = line.partition("<")[2].partition(">")[0]
                known = not address.startswith("nobody")
                to += [address] if known else []
                self._say("250 ok" if known else "550 no such mailbox")
            elif verb == "DATA":
                self._say("354 go on")
                self.server.received.append((sender, to, self._message()))
                self._say("250 taken")
                sender, to = "", []
            elif verb == "QUIT":
                self._say("221 bye")
                return
            else:
                self._say("250 ok" if verb in ("RSET", "NOOP") else "502 what?")

    def _line(self) -> str | None:
        raw = self.rfile.readline()
        return raw.decode().rstrip("\r\n") if raw else None

    def _message(self) -> EmailMessage:
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line[1:] if line.startswith(b"..") else line)
        return email.message_from_bytes(b"".join(lines), policy=policy.default)

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


class Relay(socketserver.ThreadingTCPServer):
    """``with Relay() as relay:``; ``relay.received`` are ``(sender, recipients, message)``."""

    daemon_threads, allow_reuse_address = True, True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.received: list[tuple[str, list[str], EmailMessage]] = []

    @property
    def address(self) -> str:
        """As ``notice_webhooks`` takes it."""
        return f"smtp://127.0.0.1:{self.server_address[1]}?from=gpu@example.org&to={{user}}@example.org"

    def __enter__(self) -> Relay:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self.server_close()
