"""The installation's file: made once, whole, for its owner alone; and what its key proves."""

from __future__ import annotations

import base64
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.ours import INSTALLATION as OURS
from support.ours import OTHER, signed

from ds01spawner.core.installation import (
    FILE,
    InstallationError,
    Standing,
    adopt,
    load,
    make,
    session_in,
    session_of,
    standing,
)
from ds01spawner.core.labels import (
    CONTAINER,
    FETCH,
    FETCH_SIGNED,
    INSTALLATION,
    MAC,
    SESSION_SIGNED,
    SessionLabels,
)

ALICE = SessionLabels(
    "alice",
    "two",
    "thesis",
    "hub",
    "s1",
    "sha256:1",
    "lab",
    ("GPU-1", "GPU-2"),
    2.0,
    "2026-01-01",
    "2026-01-02",
)
NAME = "ds01--alice--two"
LABELS = signed(ALICE, NAME)


def test_it_is_made_once_and_stays(tmp_path):
    first = make(tmp_path / "state")
    assert make(tmp_path / "state") == load(tmp_path / "state") == first
    assert len(first.key) == 32
    path = tmp_path / "state" / FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == [FILE], "nothing half-written is left"
    assert "key" not in repr(first)


def test_two_processes_that_make_it_at_once_have_the_same(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        made = set(pool.map(lambda _: make(tmp_path), range(64)))
    assert len(made) == 1


def test_nothing_but_making_makes_one(tmp_path):
    assert load(tmp_path) is None
    assert load(tmp_path / "not there") is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"id": "0123456789abcdef"}',
        '{"id": "0123456789abcdef", "key": "no base64"}',
        '{"id": "0123456789abcdef", "key": ""}',
        '{"id": "", "key": "' + base64.b64encode(b"k" * 32).decode() + '"}',
        '{"id": "0123456789abcdef", "key": "' + base64.b64encode(b"k" * 31).decode() + '"}',
        '{"id": "0123456789abcdef", "key": "' + base64.b64encode(b"k" * 32).decode() + '", "adopted": 1}',
    ],
)
def test_a_damaged_one_is_an_error_and_is_never_made_anew(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    for ask in (load, make):
        with pytest.raises(InstallationError, match="put it back from a backup"):
            ask(tmp_path)
    assert (tmp_path / FILE).read_text() == text


def test_one_that_cannot_be_read_is_an_error(tmp_path):
    (tmp_path / FILE).mkdir()
    for ask in (load, make):
        with pytest.raises(InstallationError, match="cannot be read"):
            ask(tmp_path)


def test_what_is_adopted_is_kept_by_id(tmp_path):
    made = make(tmp_path, migrated=False)
    assert not made.migrated
    known = adopt(tmp_path, made, ["c1", "sha256:2"])
    assert load(tmp_path) == known == replace(made, adopted=frozenset({"c1", "sha256:2"}), migrated=True)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert set(json.loads((tmp_path / FILE).read_text())) == {"id", "key", "adopted", "migrated"}


# --- what the key proves ------------------------------------------------------------------------------


def test_every_label_that_a_session_writes_is_signed():
    assert set(ALICE.to_labels()) == set(SESSION_SIGNED)
    assert set(SessionLabels("a", "", "", "", "s").to_labels()) == set(SESSION_SIGNED), "also where empty"
    assert len(fields(SessionLabels)) == len(SessionLabels.from_labels(LABELS).__dict__)


def test_a_session_of_ours_comes_back():
    assert session_of(OURS, LABELS, NAME) == replace(ALICE, container=NAME, installation=OURS.id)
    inspected = {"Id": "c", "Name": f"/{NAME}", "Config": {"Labels": LABELS}}
    assert session_in(OURS, inspected) == session_of(OURS, LABELS, NAME)
    assert session_in(OURS, {"Id": "c", "Name": f"/{NAME}", "Config": {"Labels": None}}) is None


@pytest.mark.parametrize("label", sorted({*SESSION_SIGNED, MAC}))
@pytest.mark.parametrize("value", [None, "", "x", "true"])
def test_no_label_can_be_changed_or_left_out(label, value):
    changed = {k: v for k, v in {**LABELS, label: value}.items() if v is not None}
    assert changed == LABELS or session_of(OURS, changed, NAME) is None


@given(st.dictionaries(st.sampled_from([*SESSION_SIGNED, MAC, "x"]), st.text(max_size=60), min_size=1))
def test_no_text_is_taken_for_a_proof(changes):
    changed = {**LABELS, **changes}
    same = all(changed[n] == LABELS[n] for n in (*SESSION_SIGNED, MAC))
    assert (session_of(OURS, changed, NAME) is not None) == same


def test_labels_are_void_on_another_container():
    """An image saved from a session's container hands its labels on to a build step."""
    assert session_of(OURS, LABELS, "hungry_curie") is None
    assert standing(OURS, LABELS, "hungry_curie") is Standing.FORGED


@pytest.mark.parametrize(
    ("by", "labels", "name", "expected"),
    [
        (OURS, LABELS, NAME, Standing.OURS),
        (OTHER, LABELS, NAME, Standing.FOREIGN),
        (None, LABELS, NAME, Standing.FOREIGN),
        (OTHER, LABELS, "hungry_curie", Standing.FORGED),
        (OURS, {**LABELS, INSTALLATION: "another one"}, "hungry_curie", Standing.FORGED),
        (OURS, {**LABELS, MAC: OTHER.mac(LABELS)}, NAME, Standing.FORGED),
        (OURS, ALICE.to_labels(), NAME, Standing.FOREIGN),  # of an older version
        (OURS, ALICE.to_labels(), "hungry_curie", Standing.FORGED),
        (OURS, {"ds01.managed": "true"}, NAME, None),
        (OURS, {}, NAME, None),
    ],
)
def test_whose_session_a_container_is(by, labels, name, expected):
    assert standing(by, labels, name) is expected


def test_an_adopted_container_is_ours_by_its_id_alone():
    known = replace(OURS, adopted=frozenset({"c1"}))
    assert standing(known, ALICE.to_labels(), "any", "c1") is Standing.OURS
    assert standing(known, ALICE.to_labels(), "any", "c2") is not Standing.OURS
    assert standing(known, {}, "any", "c1") is None


def test_the_proof_of_one_kind_is_none_of_another():
    fetch = OURS.sign({FETCH: "s1", "ds01.user": "alice", CONTAINER: "ds01-fetch-s1"}, FETCH_SIGNED)
    assert OURS.made_fetch(fetch, "ds01-fetch-s1")
    assert not OURS.made_fetch(fetch, "hungry_curie")
    assert not OTHER.made_fetch(fetch, "ds01-fetch-s1")
    assert not OURS.made_fetch({**fetch, "ds01.user": "bob"}, "ds01-fetch-s1")
    assert not OURS.made_fetch({**LABELS, FETCH: "s1"}, NAME)
    assert not OURS.genuine(fetch)
