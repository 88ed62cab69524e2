"""The signed key of the live fragments."""

from __future__ import annotations

import stat
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tornado.web import create_signed_value

from ds01spawner.pages import keys

NOW = datetime(2026, 3, 3, 14, 0, tzinfo=timezone.utc)
SECRET = b"s" * 32


@given(st.text(min_size=1, max_size=80).filter(lambda s: s.encode("utf-8", "ignore").decode() == s))
def test_a_key_names_its_person(name):
    assert keys.verify(SECRET, keys.sign(SECRET, name, NOW), NOW) == name


@given(st.text(max_size=120))
def test_anything_else_is_nobody(forged):
    assert keys.verify(SECRET, forged, NOW) is None


@given(st.integers(0, 200), st.characters(codec="ascii"))
def test_a_changed_key_is_nobody(position, character):
    key = keys.sign(SECRET, "alice", NOW)
    position %= len(key)
    changed = key[:position] + character + key[position + 1 :]
    assert keys.verify(SECRET, changed, NOW) == ("alice" if changed == key else None)


def test_what_is_signed_for_something_else_is_no_key():
    other = create_signed_value(SECRET, "cookie", f"{keys.milliseconds(NOW)}:alice", clock=NOW.timestamp)
    assert keys.verify(SECRET, other.decode(), NOW) is None
    old = create_signed_value(SECRET, keys.NAME, "1:alice", version=1, clock=NOW.timestamp)
    assert keys.verify(SECRET, old.decode(), NOW) is None


@pytest.mark.parametrize("text", ["\ud800", "2|1:0|", "2|" + "9" * 5000 + ":", "|", "2|1:x|10:a", "é" * 50])
def test_no_text_breaks_it(text):
    assert keys.verify(SECRET, text, NOW) is None


def test_a_key_ends_and_another_secret_does_not_open():
    key = keys.sign(SECRET, "alice", NOW)
    assert keys.verify(SECRET, key, NOW + keys.LIFETIME + timedelta(seconds=1)) is None
    assert keys.verify(b"t" * 32, key, NOW) is None


def test_hub_and_service_share_one_secret_that_others_cannot_read(tmp_path):
    first = keys.load_secret(tmp_path / "state")
    assert len(first) == 32
    assert keys.load_secret(tmp_path / "state") == first
    path = tmp_path / "state" / "fragments.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_log_out_ends_every_key_of_that_person_and_of_none_else(tmp_path):
    outs = keys.LogOuts(tmp_path / "state")
    before, other = keys.sign(SECRET, "alice", NOW), keys.sign(SECRET, "bob", NOW)
    assert keys.verify(SECRET, before, NOW, outs.last) == "alice"
    outs.note("alice", NOW + timedelta(seconds=5))
    later = NOW + timedelta(seconds=9)
    assert keys.verify(SECRET, before, later, outs.last) is None
    assert keys.verify(SECRET, other, later, outs.last) == "bob"
    assert keys.verify(SECRET, keys.sign(SECRET, "alice", later), later, outs.last) == "alice"
    (path,) = (tmp_path / "state" / "logouts").iterdir()
    path.write_text("odd")
    assert keys.verify(SECRET, keys.sign(SECRET, "alice", later), later, outs.last) is None


def test_a_page_that_is_opened_within_the_second_of_a_log_out_lives(tmp_path):
    outs = keys.LogOuts(tmp_path)
    before = keys.sign(SECRET, "alice", NOW + timedelta(milliseconds=100))
    outs.note("alice", NOW + timedelta(milliseconds=300))
    after = keys.sign(SECRET, "alice", NOW + timedelta(milliseconds=600))
    later = NOW + timedelta(seconds=1)
    assert keys.verify(SECRET, before, later, outs.last) is None
    assert keys.verify(SECRET, after, later, outs.last) == "alice"


def test_the_hubs_log_out_is_noted(tmp_path, monkeypatch):
    from jupyterhub.handlers.login import LogoutHandler

    from ds01spawner.hub.process_setup import end_keys_with_log_in

    plain = []
    monkeypatch.setattr(LogoutHandler, "_backend_logout_cleanup", lambda self, name: plain.append(name))
    monkeypatch.setattr(LogoutHandler, "_ds01_plain", None, raising=False)
    for folder in ("a", "b"):  # a configuration may be read twice: the last one counts
        end_keys_with_log_in(keys.LogOuts(tmp_path / folder), lambda: NOW)
    LogoutHandler._backend_logout_cleanup(object(), "alice")
    assert (plain, keys.LogOuts(tmp_path / "b").last("alice")) == (["alice"], NOW.timestamp() * 1000)
    assert keys.LogOuts(tmp_path / "a").last("alice") == 0.0
