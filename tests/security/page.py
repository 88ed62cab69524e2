"""Makes `docs/admins/security.md`: ``python tests/security/page.py``; a test keeps it current."""

from __future__ import annotations

from pathlib import Path

from table import Row, surfaces

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/admins/security.md"
FRAME = Path(__file__).resolve().parent / "page.md"
"""The hand-written text; the table goes where `MARK` stands."""
MARK = "<!-- the table -->\n"


def page() -> str:
    """The page as Markdown."""
    parts = []
    for surface, rows in surfaces():
        parts.append(f"### {surface.title}\n\n{surface.protects}\n\n**By what.** {surface.by}\n")
        if surface.rests_on:
            parts.append(f"**Rests on the site.** {surface.rests_on}\n")
        parts.append("| who | tries | comes of it |\n|---|---|---|\n" + "".join(map(_line, rows)))
    count = sum(len(rows) for _, rows in surfaces())
    text = FRAME.read_text(encoding="utf-8").replace("{count}", str(count))
    return text.replace(MARK, "\n".join(parts))


def _line(row: Row) -> str:
    return f"| {row.role} | {_cell(row.tries)} | {_cell(_outcome(row))} |\n"


def _outcome(row: Row) -> str:
    """What has to come of it, in a word or two."""
    if row.so:
        return row.so
    if "standing" in row.expect:
        return {"ours": "taken for what it is", "none": "no session"}.get(
            row.expect["standing"], f"{row.expect['standing']}: no session of ours"
        )
    if "proof" in row.does:
        return "held by a test of its own"
    if "refused" in row.expect:
        if row.expect["refused"]:
            return "refused"
        return "nothing of others' is read or changed" if "harmed" in row.expect else "taken as harmless"
    if "gives" in row.expect:
        return "nothing"
    found = [_answer(row)] if "status" in row.expect else []
    found += [f"{row.expect['good']} of {row.does.get('times', 1)} are taken"] if "good" in row.expect else []
    # Where it was refused, what is left is what was there: no news.
    if not found or row.expect.get("status", 0) < 300:
        found += [f"{LEFT[k]}: {v}" for k, v in row.expect.items() if k in LEFT]
    return ", ".join(found) or "nothing"


LEFT = {
    "tickets": "places in the queue",
    "projects": "projects",
    "builds": "builds",
    "environments": "environments",
}
ANSWERS = {
    302: "sent to log in, or to the form",
    400: "refused as malformed",
    403: "refused",
    404: "not there for them",
    405: "no such method",
    409: "refused with a reason",
    429: "refused for now",
}


def _answer(row: Row) -> str:
    """The status in words, and what the answer is held to."""
    status = row.expect["status"]
    plain = "answered without it" if "silent" in row.expect else "answered"
    if "says" in row.expect and "silent" not in row.expect:
        plain = "answered within the limit" if row.surface.name == "limits" else "answered harmlessly"
    return f"{ANSWERS.get(status, plain)} (HTTP {status})"


def _cell(text: str) -> str:
    shown = "".join(c if c.isprintable() else f"U+{ord(c):04X}" for c in text)
    return shown.replace("|", "\\|").replace("<", "&lt;").replace("{", "&#123;")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
