"""``ds01 check``: policy lint and doctor of engine, GPUs, store, disk, images and sessions."""

from __future__ import annotations

from typing import Annotated

import typer

from ..core.settings import load_settings
from ..doctor import AREAS, ON_REQUEST, FindingJson, diagnose
from .common import Json, console, emit

MARKS = {
    "ok": ("ok", "green"),
    "site": ("site", "cyan"),
    "warning": ("look", "yellow"),
    "error": ("wrong", "red"),
}


def check(
    area: Annotated[list[str] | None, typer.Argument(help=f"Only these: {', '.join(AREAS)}.")] = None,
    policy: Annotated[str, typer.Option(help="Check this policy file instead of the site's.")] = "",
    as_json: Json = False,
) -> None:
    """Find what is wrong with this site, why it matters and what mends it; exit 1 when something is."""
    unknown = sorted(set(area or ()) - set(AREAS))
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is not an area; known are {', '.join(AREAS)}")
    settings = load_settings(policy=policy or None)
    found = diagnose(settings, area or set(AREAS) - ON_REQUEST)
    healthy = all(f["level"] != "error" for f in found)
    emit({"ok": healthy, "findings": found}, as_json, lambda _: _show(found))
    if not healthy:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(check)


def _show(found: list[FindingJson]) -> None:
    last = ""
    for finding in found:
        if finding["area"] != last:
            last = finding["area"]
            console.print(last, style="bold")
        mark, colour = MARKS[finding["level"]]
        console.print(f"  {mark:>5}  ", style=colour, end="")
        console.print(finding["what"], markup=False)
        for key, text in (("why", finding["why"]), ("mend", finding["mend"])):
            if text and finding["level"] != "ok":
                console.print(f"         {key}: {text}", markup=False, style="dim")
