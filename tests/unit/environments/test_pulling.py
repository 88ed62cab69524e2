"""How far a pull is: the engine's messages summed over layers."""

import pytest

from ds01spawner.environments.pulling import Layers, Pulled


def message(layer, status, current=None, total=None, **more):
    detail = {"current": current, "total": total, **more} if current is not None else {}
    return {"id": layer, "status": status, "progressDetail": detail}


def fed(*messages):
    layers = Layers()
    for each in messages:
        now = layers.feed(each)
    return now


WAITING = [message("a", "Pulling fs layer"), message("b", "Pulling fs layer")]


@pytest.mark.parametrize(
    ("messages", "expected", "words"),
    [
        ([{"status": "Pulling from x", "id": "latest"}], Pulled(), "asking the registry"),
        (WAITING, Pulled(0, 0, 2, 0, False), "0 of 2 layers done"),
        (
            [*WAITING, message("a", "Downloading", 2_000_000, 8_000_000)],
            Pulled(2_000_000, 8_000_000, 2, 0, False),
            "1.9 MiB of at least 7.6 MiB; 0 of 2 layers done",
        ),
        (
            [
                *WAITING,
                message("a", "Downloading", 2_000_000, 8_000_000),
                message("b", "Downloading", 1_000_000, 2_000_000),
            ],
            Pulled(3_000_000, 10_000_000, 2, 0, True),
            "2.9 MiB of 9.5 MiB; 0 of 2 layers done",
        ),
        (
            [
                *WAITING,
                message("a", "Downloading", 2_000_000, 8_000_000),
                message("b", "Downloading", 1_000_000, 2_000_000),
                message("a", "Download complete"),
                message("b", "Verifying Checksum"),
                message("a", "Extracting", 1, 8_000_000),
            ],
            Pulled(10_000_000, 10_000_000, 2, 0, True),
            "9.5 MiB fetched, unpacking; 0 of 2 layers done",
        ),
        (
            [
                message("a", "Already exists"),
                message("b", "Downloading", 5, 10),
                message("b", "Pull complete"),
            ],
            Pulled(10, 10, 2, 2, True),
            "10 bytes of 10 bytes; 2 of 2 layers done",
        ),
        # A layer so small that its size is never said.
        ([*WAITING, message("a", "Download complete")], Pulled(0, 0, 2, 0, False), "0 of 2 layers done"),
        # An engine with another image store counts seconds of unpacking.
        (
            [message("a", "Downloading", 5, 10), message("a", "Extracting", 3, None, units="s")],
            Pulled(10, 10, 1, 0, True),
            "10 bytes fetched, unpacking; 0 of 1 layers done",
        ),
        # A size that the registry does not tell.
        ([message("a", "Downloading", 500, -1)], Pulled(500, 0, 1, 0, False), "0 of 1 layers done"),
        (
            [{"status": "Digest: sha256:1"}, {"status": "Downloading", "id": 7}],
            Pulled(),
            "asking the registry",
        ),
    ],
)
def test_messages_are_summed(messages, expected, words):
    now = fed(*messages)
    assert now == expected
    assert str(now) == words


@pytest.mark.parametrize(
    ("pulled", "fraction"), [(Pulled(), 0.0), (Pulled(1, 4), 0.25), (Pulled(9, 4), 1.0), (Pulled(9, 0), 0.0)]
)
def test_the_fraction_is_a_fraction(pulled, fraction):
    assert pulled.fraction == fraction
