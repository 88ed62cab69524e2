"""``ds01 limits``, ``ds01 why`` and ``ds01 import-limits``: what a person gets, and why not more."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import messages
from ..admission.limit_requests import ask_command
from ..core.errors import DS01Error, Refusal, Refused, StoreError
from ..core.settings import Settings, load_settings
from ..policy.importer import Imported, import_ds01
from ..policy.load import Override, Policy, load_policy
from ..policy.options import LaunchOptions, parse_options
from ..policy.plan import LaunchPlan, Usage
from ..policy.resolve import Limits, Person, resolve
from .common import REFUSED, Json, console, emit, refuse, table

if TYPE_CHECKING:
    from ..admission.situation import Situation

User = Annotated[str, typer.Argument(help="The person's name in JupyterHub.")]
Groups = Annotated[
    str, typer.Option(help="The person's hub groups, with commas; members lists of the file always count.")
]
PolicyFile = Annotated[
    Path | None, typer.Option("--policy", help="Policy file; else DS01_POLICY or the hub's own.")
]
Admin = Annotated[bool, typer.Option("--admin", help="Treat the person as an admin of the hub.")]


def register(app: typer.Typer) -> None:
    """Add this area's commands."""
    app.command("limits")(limits)
    app.command("why")(why)
    app.command("import-limits")(import_limits)


def limits(
    user: User, groups: Groups = "", policy: PolicyFile = None, admin: Admin = False, json: Json = False
) -> None:
    """Show what a person may have, each value with its source."""
    try:
        settings, loaded = _policy(policy)
    except DS01Error as error:
        refuse(str(error), json)
    person, now = _person(user, groups, admin), datetime.now(timezone.utc)
    overrides, notes = _overrides(settings, now)
    found = resolve(loaded, person, now, overrides)
    unknown = sorted(person.groups - {g.name for g in loaded.groups})
    if unknown:
        notes.append(f"the policy has no group {', '.join(unknown)}: it changes nothing")
    if not groups:
        notes.append("groups of the hub are not known here; name them with --groups")
    data = {
        "user": user,
        "groups": list(found.groups),
        "policy": str(loaded.path) if loaded.path else None,
        "until": found.until.isoformat() if found.until else None,
        "values": {row["key"]: {k: v for k, v in row.items() if k != "key"} for row in found.explain()},
        "notes": notes,
    }
    emit(data, json, _show_limits)


def why(
    user: User,
    gpu: Annotated[str, typer.Option(help='"none", "auto", "full" or a profile such as 1g.10gb.')] = "none",
    count: Annotated[int, typer.Option(help="How many devices.")] = 1,
    project: Annotated[str, typer.Option(help="The project.")] = "default",
    environment: Annotated[str, typer.Option(help="Id of the environment.")] = "",
    groups: Groups = "",
    policy: PolicyFile = None,
    admin: Admin = False,
    json: Json = False,
) -> None:
    """Say whether this start would work now, on which device, or what stands against it."""
    asked = {"gpu": gpu, "gpu_count": count, "project": project, "environment": environment}
    try:
        settings, loaded = _policy(policy)
        options = parse_options(asked)
    except Refused as refused:
        refuse(refused.refusal.sentence, json, user=user, refusal=refused.refusal.as_dict())
    except DS01Error as error:
        refuse(str(error), json, user=user)
    now, person = datetime.now(timezone.utc), _person(user, groups, admin)
    overrides, notes = _overrides(settings, now)
    answer = _why(settings, resolve(loaded, person, now, overrides), options, now)
    answer = {"user": user, "asked": options.summary(), **answer}
    answer["notes"] = notes + answer["notes"]
    emit(answer, json, _show_why)
    if not answer["ok"]:
        raise typer.Exit(REFUSED)


def import_limits(
    file: Annotated[Path, typer.Argument(help="DS01's resource-limits.yaml; files beside it are read too.")],
    out: Annotated[
        Path | None, typer.Option(help="Where the policy goes; else policy.yaml beside FILE, - prints it.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a policy this command did not make.")
    ] = False,
    json: Json = False,
) -> None:
    """Turn a DS01 site's limits into a policy file, and report what became of every key."""
    target = out or file.parent / "policy.yaml"
    try:
        made = import_ds01(file)
    except DS01Error as error:
        refuse(str(error), json)
    if str(target) == "-":
        print(made.text, end="")
    elif not force and not _replaceable(target):
        refuse(f"{target} is there and was not made by this command; give --out or --force", json)
    else:
        target.write_text(made.text, encoding="utf-8")
    counts: dict[str, int] = {}
    for line in made.report:
        counts[line.verdict] = counts.get(line.verdict, 0) + 1
    data = {
        "ok": made.ok,
        "policy": str(target),
        "counts": counts,
        "report": [asdict(line) for line in made.report],
    }
    if str(target) != "-":
        emit(data, json, lambda _: _show_report(made, target, counts))
    if not made.ok:
        raise typer.Exit(REFUSED)


# --- what they share ------------------------------------------------------------------------------


def _person(user: str, groups: str, admin: bool) -> Person:
    names = frozenset(g.strip() for g in groups.split(",") if g.strip())
    return Person(user, names, admin)


def _policy(path: Path | None) -> tuple[Settings, Policy]:
    settings = load_settings(policy=path)
    return settings, load_policy(settings.policy)


def _overrides(settings: Settings, now: datetime) -> tuple[tuple[Override, ...], list[str]]:
    """Approved requests, where there is a store. Asking must not create one."""
    if not _has_store(settings):
        return (), []
    from ..policy.requested import overrides_from
    from ..store import Store

    try:
        store = Store.open(settings.store)
        return overrides_from(store.requests.overrides(now)), []
    except DS01Error as error:
        return (), [f"approved requests could not be read: {error}"]


def _has_store(settings: Settings) -> bool:
    return bool(settings.store_url) or (settings.state_dir / "ds01.sqlite").is_file()


def _why(settings: Settings, found: Limits, options: LaunchOptions, now: datetime) -> dict[str, Any]:
    """The decision of a start made now: policy with present use, then devices."""
    from ..admission.situation import Situation, read
    from ..site import Site

    class Asking(Site):
        def store(self) -> Any:
            if not _has_store(settings):
                raise StoreError("there is no store yet")
            return super().store()

    site = Asking(settings)
    try:
        situation, engine = read(site, found.person, now), ""
    except DS01Error as error:
        situation, engine = Situation(found.person, found, now, Usage(gpu_hours=None)), str(error)
    # The command answers by the policy it was given, which need not be the one in force.
    return answer_of(replace(situation, limits=found), options, engine)


def answer_of(situation: Situation, options: LaunchOptions, engine: str = "") -> dict[str, Any]:
    """What ``ds01 why`` says of a situation; ``engine`` is why present use is not known, if so."""
    from ..admission.check import check, entitle

    person = situation.person
    answer = entitle(situation, options)
    if isinstance(answer, Refusal):
        return _refused(answer, person, engine)
    notes = list(answer.notes)
    if engine:
        refusal = messages.engine_down(engine)
        return {
            **_refused(refusal, person),
            "plan": _plan(answer),
            "notes": ["the policy allows it", *notes],
        }
    admitted = check(situation, options)
    if isinstance(admitted, Refusal):
        return {**_refused(admitted, person), "plan": _plan(answer)}
    where = ", ".join(f"{d.profile} {d.uuid}" for d in admitted.devices) or "no device"
    devices = [{"uuid": d.uuid, "profile": d.profile, "name": d.name} for d in admitted.devices]
    text = f"it would start now, with {where}"
    return {"ok": True, "message": text, "devices": devices, "plan": _plan(answer), "notes": notes}


def _refused(answer: Refusal, person: Person, engine: str = "") -> dict[str, Any]:
    notes = [f"present use is not known: {engine}"] if engine else []
    found = {"ok": False, "message": answer.sentence, "refusal": answer.as_dict(), "notes": notes}
    return {**found, "ask": ask_command(person.name, answer)}


def _plan(ready: LaunchPlan) -> dict[str, Any]:
    return {
        "gpu": ready.gpu.profile,
        "gpu_count": ready.gpu.count if ready.gpu.wants_gpu else 0,
        "cpus": ready.cpus,
        "memory": ready.memory,
        "shm": ready.shm,
        "pids": ready.pids,
        "lifetime": ready.lifetime_s,
        "idle_timeout": ready.idle.timeout,
        "rescue": ready.rescue,
    }


def _replaceable(target: Path) -> bool:
    if not target.exists():
        return True
    start = target.read_text(encoding="utf-8", errors="replace")[:200]
    return not start.strip() or start.startswith("# Made by ds01 import-limits")


def _show_limits(data: dict[str, Any]) -> None:
    groups = ", ".join(data["groups"]) or "none"
    console.print(f"{data['user']} · groups: {groups} · policy: {data['policy'] or 'built-in'}", markup=False)
    if data["until"]:
        console.print(f"an exception in force ends {data['until']}", markup=False)
    table(("value", "", "set by"), [(key, row["text"], row["source"]) for key, row in data["values"].items()])
    _show_notes(data["notes"])


def _show_why(data: dict[str, Any]) -> None:
    console.print(f"{data['user']} · {data['asked']}", markup=False)
    console.print(data["message"], style="green" if data["ok"] else "red", markup=False)
    if data.get("ask"):
        console.print(f"to ask for more: {data['ask']}", markup=False)
    _show_notes(data["notes"])


def _show_report(made: Imported, target: Path, counts: dict[str, int]) -> None:
    for line in made.report:
        where = f"{line.file}:{line.line}" if line.line else line.file
        style = {"wrong": "red", "no counterpart": "dim"}.get(line.verdict)
        console.print(
            f"{where}: {line.key + ': ' if line.key else ''}{line.verdict}: {line.text}",
            style=style,
            markup=False,
        )
    console.print(", ".join(f"{n} {verdict}" for verdict, n in counts.items()) + f" → {target}", markup=False)


def _show_notes(notes: list[str]) -> None:
    for note in notes:
        console.print(f"note: {note}", style="dim", markup=False)
