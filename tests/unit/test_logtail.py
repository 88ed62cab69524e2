"""What people read of a log."""

from __future__ import annotations

from ds01spawner.core.logtail import tail

LOOK = (
    b"[I 2026-11-22 01:28 ServerApp] 200 GET /user/a/api/kernels?no_track_activity=1 (ds01-idle@172.29.0.1)\n"
)


def test_our_own_looks_do_not_push_out_what_the_session_said():
    assert tail(b"Traceback\n" + LOOK * 500 + b"MemoryError\n") == "Traceback\nMemoryError\n"


def test_it_is_bounded_in_lines_and_characters():
    assert tail(b"".join(b"%d\n" % n for n in range(100)), lines=3) == "97\n98\n99\n"
    assert tail(b"x" * 100_000) == "x" * 4000
    assert tail(b"") == ""


def test_bytes_that_are_no_text_are_shown_as_such():
    assert tail(b"\xff\xfe ok") == "\ufffd\ufffd ok"
