"""Who may read the hub's state: keys, databases, settings."""

from __future__ import annotations

from collections.abc import Iterator

from ..core.settings import Settings
from ..engines.base import Finding
from ..workspace.folder_modes import KEY_MODE, sqlite_path, too_wide, watched


def check_modes(settings: Settings) -> Iterator[Finding]:
    """Files and folders of the hub that more accounts may read than need to."""
    databases = [settings.hub_database, sqlite_path(settings.store, settings.state_dir)]
    wide = too_wide(watched(settings.state_dir, databases))
    for each in wide:
        yield Finding(
            "error" if each.most == KEY_MODE else "warning",
            f"{each.path} has the mode {each.mode:04o}",
            "every account of the machine may read it"
            if each.mode & 0o007
            else "more accounts may read it than need to",
            f"chmod {each.mode & each.most:04o} {each.path}; the hub does so when it starts",
        )
    if not wide:
        yield Finding("ok", f"only the hub's account and group read {settings.state_dir} and its databases")
