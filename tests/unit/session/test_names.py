"""Names out of what people type: readable where they can be, never the same for two inputs."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01spawner.core.names import dns_label, folder_name, server_name_for, unix_name

DNS = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

LABELS = [
    (("ds01", "alice"), "ds01--alice"),
    (("ds01", "alice", "thesis"), "ds01--alice--thesis"),
    (("ds01", "Ali ce"), "ds01--ali-ce---9d0b88a7"),
    (("ds01", "a.b"), "ds01--a-b---a66cc12b"),
    (("ds01", "a_b"), "ds01--a-b---213e9cb2"),
    (("ds01", "a--b"), "ds01--a-b---4c46859b"),
    (("ds01", "x" * 80), f"ds01--{'x' * 45}---f4ed278f"),
]


@pytest.mark.parametrize(("parts", "label"), LABELS)
def test_labels(parts, label):
    assert dns_label(*parts) == label


@given(st.lists(st.text(max_size=80), min_size=1, max_size=4))
def test_a_label_is_always_a_dns_label(parts):
    label = dns_label(*parts)
    assert DNS.fullmatch(label)
    assert len(label) <= 63


@given(
    st.lists(st.text(max_size=20), min_size=2, max_size=2),
    st.lists(st.text(max_size=20), min_size=2, max_size=2),
)
def test_two_inputs_never_share_a_label(one, other):
    assert (dns_label(*one) == dns_label(*other)) == (one == other)


@given(st.text(max_size=100), st.text(max_size=100))
def test_two_users_never_share_a_folder(one, other):
    assert (folder_name(one) == folder_name(other)) == (one == other)


@given(st.text(max_size=200))
def test_a_folder_name_is_one_plain_component(user):
    name = folder_name(user)
    assert name not in ("", ".", "..")
    assert "/" not in name
    assert "\0" not in name
    assert not name.startswith((".", "-"))
    assert len(name.encode()) <= 255


@pytest.mark.parametrize(
    ("user", "folder"),
    [
        ("alice", "alice"),
        ("Alice", "Alice"),
        ("a.b@uni.de", "a.b@uni.de"),
        ("a b", "a-b---541e27fe"),
        ("..", "user---5bd4aa19"),
    ],
)
def test_folders(user, folder):
    assert folder_name(user) == folder


@pytest.mark.parametrize(
    ("user", "name"),
    [("alice", "alice"), ("Ali ce", "ali_ce"), ("1a", "u_1a"), ("a:b\nroot", "a_b_root"), ("", "u_")],
)
def test_unix_names(user, name):
    assert unix_name(user) == name


@given(st.text(max_size=60), st.sets(st.from_regex(r"[a-z]{1,3}(-[0-9])?", fullmatch=True), max_size=8))
def test_a_server_name_is_valid_and_new(project, taken):
    name = server_name_for(project, frozenset(taken))
    assert re.fullmatch(r"[a-z0-9-]{1,30}", name)
    assert name not in taken
