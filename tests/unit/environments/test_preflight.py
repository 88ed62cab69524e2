"""Preflight: each thing that can be wrong with an image, with its mend."""

import pytest

from ds01spawner.environments.facts import ImageFacts, from_inspect
from ds01spawner.environments.preflight import Host, Probe, check

HOST = Host("amd64", "6.1.1", "12.4")
OURS = {"ds01.singleuser.version": "6.1.1"}


def image(**changes):
    return ImageFacts("sha256:1", architecture="amd64", **{"labels": OURS, **changes})


@pytest.mark.parametrize(
    ("facts", "probe", "check_name", "words"),
    [
        (image(os="windows"), None, "platform", "made for windows"),
        (
            ImageFacts("sha256:1", architecture="arm64", labels=OURS),
            None,
            "platform",
            "made for arm64, this machine is amd64",
        ),
        (image(labels={}), None, "singleuser", "no jupyterhub-singleuser"),
        (image(labels={}), Probe(), "singleuser", "no jupyterhub-singleuser"),
        (image(labels={"ds01.singleuser.version": "4.1.6"}), None, "singleuser", "5.x or 6.x does"),
        (
            image(labels={"ds01.singleuser.version": "7.0.0"}),
            None,
            "singleuser",
            "does not work with this hub",
        ),
        (image(labels={}), Probe("3.0.0"), "singleuser", "3.0.0 does not work"),
        (image(), Probe("6.1.1", any_uid=False), "uid", "only as its own user"),
        (
            image(entrypoint=("/run.sh",)),
            Probe("6.1.1", passes_command=False),
            "entrypoint",
            "does not run the command",
        ),
        (image(), Probe(failed="it did not answer within 60 s"), "singleuser", "did not answer"),
    ],
)
def test_refused_with_a_mend(facts, probe, check_name, words):
    result = check(facts, HOST, probe)
    refused = [f for f in result.findings if f.level == "refuse"]
    assert [f.check for f in refused] == [check_name]
    assert words in refused[0].message
    assert refused[0].mend
    assert not result.ok
    assert not result.gpu_ok
    assert refused[0].message in result.reason


@pytest.mark.parametrize("version", ["5.4.0", "6.1.1", "6.0.0b2"])
def test_supported_versions(version):
    assert check(image(labels={}), HOST, Probe(version)).ok


@pytest.mark.parametrize(
    ("cuda", "driver", "level"),
    [
        ("12.6", "12.4", "gpu"),
        ("13.0", "12.4", "gpu"),
        ("12.4", "12.4", "ok"),
        ("11.8", "12.4", "ok"),
        ("12.10", "12.4", "gpu"),
        ("12.4", "", "note"),
        ("", "12.4", "ok"),
    ],
)
def test_cuda_stands_against_a_gpu_only(cuda, driver, level):
    result = check(image(env={"CUDA_VERSION": f"{cuda}.1"} if cuda else {}), Host("amd64", "6.1.1", driver))
    finding = next(f for f in result.findings if f.check == "cuda")
    assert finding.level == level
    assert result.ok
    assert result.gpu_ok is (level != "gpu")


@pytest.mark.parametrize(
    ("entrypoint", "noted"),
    [
        (("/usr/bin/tini", "--"), False),
        (("/opt/nvidia/nvidia_entrypoint.sh",), False),
        (("/run.sh",), True),
        ((), False),
    ],
)
def test_an_unknown_entrypoint_is_noted(entrypoint, noted):
    result = check(image(entrypoint=entrypoint), HOST)
    assert result.ok
    assert [f.check for f in result.findings if f.level == "note"] == (["entrypoint"] if noted else [])


def test_volumes_are_noted():
    result = check(image(volumes=("/data",)), HOST)
    assert result.ok
    assert any("gone at retire" in f.message for f in result.findings)


def test_facts_of_an_inspected_image():
    facts = from_inspect(
        {
            "Id": "sha256:1",
            "RepoTags": ["a:b"],
            "Created": "2026-01-01T00:00:00Z",
            "Size": 5,
            "Os": "linux",
            "Architecture": "amd64",
            "Config": {
                "Env": ["CUDA_VERSION=12.4.1", "EMPTY"],
                "Entrypoint": "run me",
                "Cmd": None,
                "Labels": None,
                "Volumes": {"/data": {}},
                "User": "1000",
            },
        }
    )
    assert facts.cuda == "12.4"
    assert facts.entrypoint == ("/bin/sh", "-c", "run me")
    assert facts.cmd == ()
    assert facts.env["EMPTY"] == ""
    assert facts.volumes == ("/data",)
    assert from_inspect({"Id": "sha256:2"}).labels == {}
