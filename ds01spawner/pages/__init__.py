"""What people see: pure view models, their text, and one way to render them."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def template_dirs() -> list[str]:
    """Folders with our templates, first match first: those of the wheel, else those of a source tree.

    Meant for ``JupyterHub.template_paths`` too; the overrides extend the hub's own files as
    ``templates/<name>``.
    """
    places = (_PACKAGE / "templates", _PACKAGE.parent / "templates")
    return [str(p) for p in places if (p / "ds01").is_dir()][:1]


__all__ = ["template_dirs"]
