"""Where the engine is sent for an image that somebody names, and where not."""

from __future__ import annotations

import pytest

from ds01spawner.engines.docker.image_store import ImageMissing
from ds01spawner.environments.facts import ImageFacts
from ds01spawner.environments.registries import Registries, addresses
from ds01spawner.environments.resolver import NotReadable, Resolver
from ds01spawner.environments.rights import Reader

NAMES = {
    "registry.example.org": ("93.184.215.14",),
    "inner.example.org": ("10.1.2.3",),
    "loop.example.org": ("127.0.0.1",),
    "mixed.example.org": ("93.184.215.14", "169.254.169.254"),
    "six.example.org": ("2606:2800:21f:cb07:6820:80da:af6b:8b2c",),
    "mapped.example.org": ("::ffff:127.0.0.1",),
    "tunnel.example.org": ("2002:7f00:1::",),
    "linklocal.example.org": ("fe80::1%eth0",),
    "unique.example.org": ("fd00::1",),
    "shared.example.org": ("100.64.0.1",),
    "zero.example.org": ("0.0.0.0",),
    "odd.example.org": ("no address",),
}
HERE = "localhost:5000"


def registries(*listed: str) -> Registries:
    return Registries(listed or ("public",), lambda name: NAMES.get(name, ()))


@pytest.mark.parametrize(
    "domain",
    ["docker.io", "quay.io", "registry.example.org", "registry.example.org:5000", "six.example.org"],
)
def test_public_registries_are_asked(domain):
    assert registries().refusal(domain) == ""


@pytest.mark.parametrize(
    ("domain", "says"),
    [
        ("127.0.0.1", "is an address"),
        ("127.0.0.1:5000", "is an address"),
        ("93.184.215.14:5000", "is an address"),
        ("127.1:80", "is an address"),
        ("10.0.0.0x1:80", "is an address"),
        ("2130706433:80", "is an address"),
        ("localhost", "name of this machine"),
        (HERE, "name of this machine"),
        ("LOCALHOST:5000", "name of this machine"),
        ("a.localhost:5000", "name of this machine"),
        ("hub:8081", "name of this machine"),
        ("metadata.google.internal", "name of this machine"),
        ("printer.local:631", "name of this machine"),
        *((f"{n}.example.org", "inner address") for n in ("inner", "loop", "mixed", "mapped", "tunnel")),
        *(
            (f"{n}.example.org:443", "inner address")
            for n in ("linklocal", "unique", "shared", "zero", "odd")
        ),
        ("nowhere.example.org", "cannot be found"),
    ],
)
def test_inner_registries_are_refused_with_a_way_out(domain, says):
    why = registries().refusal(domain)
    assert says in why
    assert "image_registries" in why
    assert "ask an admin" in why


def test_the_sites_list_comes_first_and_alone_where_it_says_so():
    assert registries("public", HERE).refusal(HERE) == ""
    assert registries("public", HERE).refusal("localhost:5001") != ""
    assert registries("localhost:*").refusal("localhost:5001") == ""
    only = registries("10.0.0.5:5000")
    assert only.refusal("10.0.0.5:5000") == ""
    assert "is not among" in only.refusal("docker.io")


def test_names_of_this_machine_are_looked_up():
    assert set(addresses("localhost")) <= {"127.0.0.1", "::1"}
    assert addresses("no-such-name.invalid") == ()


class Engine:
    """An engine without images, that knows what it was asked to fetch."""

    def __init__(self) -> None:
        self.pulled: list[str] = []

    def inspect(self, reference: str) -> ImageFacts:
        raise ImageMissing(reference)

    def pull(self, reference: str, progress: object = None) -> None:
        self.pulled.append(reference)


@pytest.mark.parametrize(
    "name", ["127.0.0.1:8000/x", "localhost:5000/x:1", "hub:8081/x", "inner.example.org/x@sha256:" + "0" * 64]
)
def test_the_engine_is_not_sent_there(name):
    engine = Engine()
    resolver = Resolver(engine, lambda: None, registries=registries())  # type: ignore[arg-type,return-value]
    for ask in (resolver.fetch, resolver.check):
        with pytest.raises(NotReadable, match="image_registries"):
            ask(name, Reader("bob"))
    assert engine.pulled == []
