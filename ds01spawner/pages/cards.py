"""A running session as a card: what it is, why it counts as active, when it ends, what it uses. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import quote

from ..core import text
from ..idle.model import Decision
from .inputs import EnvironmentKind, KeepAlive, Runs, Series, SessionInfo

GROUND_NAMES = {
    "kernels": "Notebook kernels",
    "terminals": "Terminals and programs",
    "saved": "Files saved",
    "cpu": "CPU",
    "network": "Network",
    "gpu": "GPU",
    "hub": "Browser",
}
VERDICTS = {
    "active": "in use",
    "idle": "idle",
    "unknown": "cannot be measured just now, so it counts as in use",
    "unsupported": "not measured here",
    "ignored": "does not count",
}
RENEWED: Mapping[EnvironmentKind, str] = {
    "course": "the course has published another image",
    "mine": "you have built or changed this environment",
    "shared": "its owner has built or changed this environment",
    "lab": "the site has renewed this environment",
}
SPARK_WIDTH, SPARK_HEIGHT = 120, 28


@dataclass(frozen=True)
class SignalRow:
    """One signal of the idle decision, for the table "why it counts as active"."""

    name: str
    measured: str
    threshold: str
    verdict: str


@dataclass(frozen=True)
class Spark:
    """A sparkline: SVG points in a box of SPARK_WIDTH × SPARK_HEIGHT, and the same in words."""

    label: str
    value: str
    points: tuple[str, ...]
    """One ``x,y x,y`` list per unbroken piece."""
    spoken: str
    why: str = ""
    """Why there is no value; empty where there is one."""


@dataclass(frozen=True)
class Clock:
    """A time something ends at. ``percent`` of the way there is used up, None when unknown."""

    label: str
    at: datetime
    left: str
    percent: int | None
    urgent: bool


@dataclass(frozen=True)
class SessionCard:
    """Everything a card shows."""

    address: str
    server: str
    title: str
    compute: str
    up: str
    started_at: datetime | None
    state: str
    why: str
    signals: tuple[SignalRow, ...]
    clocks: tuple[Clock, ...]
    sparks: tuple[Spark, ...]
    keep_alive: str
    """Text of the button, or empty when nothing can be added."""
    keep_alive_note: str
    open_url: str
    retire_url: str
    keep_alive_url: str
    dialog: str
    """HTML id of the retire dialog, unique on the page."""
    stop_url: str
    """Address of the hub's API that stops the server."""
    project: str
    environment: str = ""
    """Id of the environment, where its title says something else."""
    update: str = ""
    """That the environment has another image by now, and what to do; empty where it has not."""


def session_card(
    info: SessionInfo,
    now: datetime,
    *,
    decision: Decision | None = None,
    series: Sequence[Series] = (),
    keep: KeepAlive | None = None,
    runs: Runs | None = None,
    unwatched: str = "It has just started; nothing is measured yet.",
    hub_url: str = "/hub/",
    user_url: str = "",
    service_url: str = "",
) -> SessionCard:
    """Build a card. ``decision`` None means that nobody has looked at the session; ``unwatched`` says why.

    ``runs`` None means that nobody knows (any more) what its environment is.
    """
    runs = runs or Runs()
    title = runs.title or info.environment
    server = quote(info.server, safe="")
    user = quote(info.user, safe="@~")
    path = f"servers/{server}" if info.server else "server"
    return SessionCard(
        address=f"{info.user}/{info.server}" if info.server else info.user,
        server=info.server,
        title=" · ".join(p for p in (info.project, title) if p),
        compute=", ".join(info.gpus) or "CPU only",
        up=text.duration(now - info.started_at) if info.started_at else text.UNKNOWN,
        started_at=info.started_at,
        state=_state(info, decision),
        why=decision.reason if decision else unwatched,
        signals=tuple(_signal(g.name, g.measured, g.threshold, g.verdict) for g in decision.why)
        if decision
        else (),
        clocks=tuple(_clocks(info, decision, now)),
        sparks=tuple(spark(s) for s in series),
        keep_alive=f"Keep alive +{text.duration(keep.step)}" if keep and keep.left >= keep.step else "",
        keep_alive_note=_keep_note(keep, now),
        open_url=user_url,
        retire_url=f"{service_url}retire?server={server}",
        keep_alive_url=f"{service_url}keep-alive?server={server}",
        dialog=f"ds01-retire-{server or 'default'}",
        stop_url=f"{hub_url}api/users/{user}/{path}",
        project=info.project,
        environment=info.environment if title != info.environment else "",
        update=_update(runs),
    )


def _update(runs: Runs) -> str:
    """What to do to get the newer image."""
    if not runs.newer:
        return ""
    since = f"{RENEWED[runs.kind]} since this session started"
    return f"Update available: {since}. To use it, retire this session and start again; your project stays."


def spark(series: Series) -> Spark:
    """A sparkline with its text; gaps stay gaps, and what cannot be measured says so."""
    known = [p for p in series.points if p is not None]
    if series.unavailable or not known:
        value = text.UNKNOWN
        why = series.unavailable or "nothing measured yet"
        return Spark(series.label, value, (), f"{series.label}: {value}, {why}", why)
    top = series.top if series.top else max(known) or 1.0
    last = next(p for p in reversed(series.points) if p is not None)
    value = _measure(last, series)
    low, high = _measure(min(known), series), _measure(max(known), series)
    spoken = f"{series.label}: now {value}, between {low} and {high}"
    return Spark(series.label, value, tuple(_pieces(series.points, top)), spoken)


def _pieces(points: Sequence[float | None], top: float) -> list[str]:
    step = SPARK_WIDTH / max(1, len(points) - 1)
    pieces: list[list[str]] = [[]]
    for index, point in enumerate(points):
        if point is None:
            pieces.append([])
            continue
        y = SPARK_HEIGHT - 1 - (SPARK_HEIGHT - 2) * min(1.0, max(0.0, point / top))
        pieces[-1].append(f"{index * step:.1f},{y:.1f}")
    return [" ".join(p) for p in pieces if p]


def _measure(value: float, series: Series) -> str:
    if series.unit == "bytes":
        shown = text.size(value)
        return f"{shown} of {text.size(series.top)}" if series.top else shown
    return f"{text.amount(value, 1)} {series.unit}"


def _state(info: SessionInfo, decision: Decision | None) -> str:
    if info.state != "running":
        return "starting" if info.state == "created" else info.state
    if decision is None:
        return "running"
    return {"active": "active", "idle": "idle", "warned": "about to be retired", "retire": "being retired"}[
        decision.state
    ]


def _signal(name: str, measured: str, threshold: str, verdict: str) -> SignalRow:
    return SignalRow(GROUND_NAMES.get(name, name), measured, threshold, VERDICTS.get(verdict, verdict))


def _clocks(info: SessionInfo, decision: Decision | None, now: datetime) -> list[Clock]:
    clocks = []
    if decision and decision.retire_at and decision.cause == "idle":
        share = None
        if decision.limit:
            share = min(100, round(100 * decision.idle_seconds / decision.limit))
        label = "If it stays idle, it is retired"
        clocks.append(_clock(label, decision.retire_at, now, share, decision.state == "warned"))
    if info.expires_at:
        share = None
        if info.started_at and info.expires_at > info.started_at:
            share = round(100 * (now - info.started_at) / (info.expires_at - info.started_at))
            share = min(100, max(0, share))
        soon = info.expires_at - now < timedelta(minutes=30)
        clocks.append(_clock("It ends in any case", info.expires_at, now, share, soon))
    return clocks


def _clock(label: str, at: datetime, now: datetime, percent: int | None, urgent: bool) -> Clock:
    return Clock(label, at, text.duration(max(timedelta(0), at - now)), percent, urgent)


def _keep_note(keep: KeepAlive | None, now: datetime) -> str:
    if keep is None:
        return ""
    if keep.refused:
        return keep.refused
    kept = (
        f"Kept alive for {text.duration(keep.until - now)} more. " if keep.until and keep.until > now else ""
    )
    if keep.left < keep.step:
        return f"{kept}The allowance for keeping alive is used up."
    return f"{kept}{text.duration(keep.left)} of the allowance left."
