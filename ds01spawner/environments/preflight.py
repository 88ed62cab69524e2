"""Can this image run as a session here? Pure: the image's facts and one probe's answer, in; findings, out.

Each finding says what is wrong and how to mend it, because the person who reads it is usually the one
who wrote the Dockerfile.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Literal

from .facts import SINGLEUSER_LABEL, ImageFacts
from .image_labels import reserved

Level = Literal["ok", "note", "gpu", "refuse"]
"""``note`` is shown, ``gpu`` refuses sessions with a GPU only, ``refuse`` every session."""

REBUILD = "build it here (page Environments, or `ds01 image build`): the build adds what is missing"


@dataclass(frozen=True)
class Host:
    """The machine an image must run on. ``cuda`` is the newest version the driver takes, or empty."""

    architecture: str
    hub_version: str
    cuda: str = ""


@dataclass(frozen=True)
class Probe:
    """What running the image once said. ``failed`` is a sentence when the container could not even run."""

    singleuser: str = ""
    """Version of jupyterhub-singleuser, empty when there is none that starts."""
    any_uid: bool = True
    """Whether it ran as a uid the image does not know."""
    passes_command: bool = True
    """Whether the image's entrypoint runs the command it is given."""
    failed: str = ""


@dataclass(frozen=True)
class Finding:
    """One check's result. ``mend`` is empty when there is nothing to do."""

    check: str
    level: Level
    message: str
    mend: str = ""


@dataclass(frozen=True)
class Preflight:
    """All findings on one image."""

    image_id: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether a session may start from it."""
        return all(f.level != "refuse" for f in self.findings)

    @property
    def gpu_ok(self) -> bool:
        """Whether a session with a GPU may start from it."""
        return all(f.level not in ("refuse", "gpu") for f in self.findings)

    @property
    def reason(self) -> str:
        """The first thing that refuses, with its mend; empty when nothing does."""
        for level in ("refuse", "gpu"):
            for finding in self.findings:
                if finding.level == level:
                    return f"{finding.message}: {finding.mend}" if finding.mend else finding.message
        return ""

    def as_dict(self) -> dict[str, object]:
        """The JSON form."""
        return {
            "image_id": self.image_id,
            "ok": self.ok,
            "gpu_ok": self.gpu_ok,
            "findings": [asdict(f) for f in self.findings],
        }


def check(facts: ImageFacts, host: Host, probe: Probe | None = None) -> Preflight:
    """Judge an image. Without a ``probe``, what only running it can tell is judged by its labels."""
    findings = [_platform(facts, host), _singleuser(facts, host, probe), _cuda(facts, host)]
    findings += _command(facts, probe)
    if probe is not None and not probe.any_uid:
        findings.append(
            Finding(
                "uid",
                "refuse",
                "it runs only as its own user",
                "make what it needs readable for all (`chmod -R a+rX`); sessions run as the person's own uid",
            )
        )
    if lying := reserved(facts.labels):
        findings.append(
            Finding(
                "labels", "refuse", f"its label {lying[0]} is the site's own", "build it without that label"
            )
        )
    if facts.volumes:
        listed = ", ".join(sorted(facts.volumes)[:3])
        findings.append(
            Finding(
                "volumes", "note", f"what is written to {listed} is gone at retire", "write to /workspace"
            )
        )
    return Preflight(facts.id, tuple(findings))


def _platform(facts: ImageFacts, host: Host) -> Finding:
    if facts.os != "linux":
        return Finding("platform", "refuse", f"it is made for {facts.os}, not Linux", "use a Linux image")
    if facts.architecture and host.architecture and facts.architecture != host.architecture:
        return Finding(
            "platform",
            "refuse",
            f"it is made for {facts.architecture}, this machine is {host.architecture}",
            f"use or build the {host.architecture} variant",
        )
    return Finding("platform", "ok", f"Linux on {facts.architecture or host.architecture}")


def supported(hub_version: str) -> tuple[int, int]:
    """The major versions of jupyterhub-singleuser that work with a hub: its own and the one before."""
    major = int(hub_version.split(".")[0])
    return major - 1, major


def _singleuser(facts: ImageFacts, host: Host, probe: Probe | None) -> Finding:
    if probe is not None and probe.failed:
        return Finding("singleuser", "refuse", probe.failed, REBUILD)
    version = (probe.singleuser if probe else "") or facts.labels.get(SINGLEUSER_LABEL, "")
    match = re.match(r"([0-9]+)\.[0-9]+", version)
    if match is None:
        return Finding("singleuser", "refuse", "it has no jupyterhub-singleuser to start", REBUILD)
    low, high = supported(host.hub_version)
    if not low <= int(match[1]) <= high:
        return Finding(
            "singleuser",
            "refuse",
            f"its jupyterhub-singleuser {version} does not work with this hub ({low}.x or {high}.x does)",
            f"install jupyterhub {high}.x in it, or {REBUILD}",
        )
    return Finding("singleuser", "ok", f"jupyterhub-singleuser {version}")


# Entrypoints known to run the command they are given.
_PASSING = re.compile(
    r"(?:.*/)?(?:tini|dumb-init|catatonit|env|start\.sh|nvidia_entrypoint\.sh|docker-entrypoint\.sh"
    r"|_entrypoint\.sh|entrypoint\.sh|repo2docker-entrypoint)"
)


def _command(facts: ImageFacts, probe: Probe | None) -> list[Finding]:
    if not facts.entrypoint:
        return []
    shown = " ".join(facts.entrypoint)[:80]
    if probe is not None and not probe.passes_command:
        return [
            Finding(
                "entrypoint",
                "refuse",
                f"its ENTRYPOINT ({shown}) does not run the command it is given",
                'end the script with `exec "$@"`, or set `ENTRYPOINT []`',
            )
        ]
    if probe is None and not _PASSING.fullmatch(facts.entrypoint[0]):
        return [
            Finding(
                "entrypoint",
                "note",
                f"its ENTRYPOINT ({shown}) must run the command it is given",
                'end the script with `exec "$@"`',
            )
        ]
    return []


def _cuda(facts: ImageFacts, host: Host) -> Finding:
    if not facts.cuda:
        return Finding("cuda", "ok", "it names no CUDA version")
    if not host.cuda:
        return Finding("cuda", "note", f"it is made for CUDA {facts.cuda}; the driver's version is not known")
    if _version(facts.cuda) > _version(host.cuda):
        return Finding(
            "cuda",
            "gpu",
            f"it needs CUDA {facts.cuda}, the driver here takes up to {host.cuda}",
            f"use an image for CUDA {host.cuda} or older; without a GPU it runs",
        )
    return Finding("cuda", "ok", f"CUDA {facts.cuda} fits the driver ({host.cuda})")


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(p) for p in re.findall(r"[0-9]+", text)[:2])
