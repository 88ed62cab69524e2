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
        return "refused" if row.expect["refused"] else "taken as harmless"
    found = [f"HTTP {row.expect['status']}"] if "status" in row.expect else []
    found += [f"{row.expect['good']} of {row.does.get('times', 1)}"] if "good" in row.expect else []
    found += [
        f"{k}: {v}" for k, v in row.expect.items() if k in ("tickets", "projects", "builds", "environments")
    ]
    return ", ".join(found) or "nothing"


def _cell(text: str) -> str:
    shown = "".join(c if c.isprintable() else f"U+{ord(c):04X}" for c in text)
    return shown.replace("|", "\\|").replace("<", "&lt;").replace("{", "&#123;")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
