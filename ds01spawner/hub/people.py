"""What happens to sessions and files when a user of the hub is renamed or deleted.

JupyterHub asks no spawner about either. A rename leaves running sessions and files under the old name,
unsaid; a delete ends the default server only and fails on a named one. So two of its API calls are
extended here: nothing of them happens before our part has been looked at.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone
from typing import Any

from jupyterhub import apihandlers
from jupyterhub.apihandlers import users
from jupyterhub.scopes import needs_scope
from tornado import web

from .. import messages
from ..core.errors import DS01Error, Refusal
from ..intents.intent import IntentError, intend
from ..site import Site
from ..workspace.moving import folders, move


class UserHandler(users.UserAPIHandler):  # type: ignore[misc]
    """`UserAPIHandler` that looks after sessions and files."""

    site: Site

    @needs_scope("delete:users")  # type: ignore[untyped-decorator]
    async def delete(self, user_name: str) -> None:
        """All sessions of the user are retired first; the user stays until they are gone."""
        user = self.find_user(user_name)
        if user is not None and user.name != getattr(self.current_user, "name", None):
            await self._retire_all(user)
        await super().delete(user_name)

    @needs_scope("admin:users")  # type: ignore[untyped-decorator]
    async def patch(self, user_name: str) -> None:
        """A rename takes the files along; with a session it is refused before anything changes."""
        user, data = self.find_user(user_name), self.get_json_body()
        wanted = data.get("name") if isinstance(data, dict) else None
        if user is None or not isinstance(wanted, str) or wanted == user_name:
            await super().patch(user_name)
            return
        new = self.authenticator.normalize_username(wanted)
        active = any(s.active for s in user.spawners.values())
        refusal = await asyncio.to_thread(why_not_renamed, self.site, user.name, new, active)
        if refusal is not None:
            raise _http(refusal)
        await super().patch(user_name)
        try:
            await asyncio.to_thread(move, self.site.workspaces, user_name, new)
        except DS01Error as error:  # told by `ds01 check` and by the log; the hub's answer is out
            self.log.error("%s was renamed %s, but the files were not moved: %s", user_name, new, error)

    async def _retire_all(self, user: Any) -> None:
        """Retire everything of a user; refused while any of it is still there."""
        by = str(getattr(self.current_user, "name", "an admin"))
        reason = f"its user was deleted by {by}"
        running = {name: s for name, s in user.spawners.items() if s.active}
        for spawner in running.values():
            if spawner.ready and (retirement := getattr(spawner, "retirement", None)) is not None:
                await retirement.decide(reason, by)
        stops = [self.stop_single_user(user, n) for n, s in running.items() if not s.pending]
        for failed in [r for r in await asyncio.gather(*stops, return_exceptions=True) if r is not None]:
            if isinstance(failed, BaseException):
                self.log.error("A session of %s is not retired yet: %s", user.name, failed)
        left = [s for s in user.spawners.values() if s.active]
        if left:
            raise _http(messages.user_not_deleted(user.name, len(left)))
        await asyncio.to_thread(retire_lost, self.site, user.name, reason, by)


def retire_lost(site: Site, user: str, reason: str, by: str) -> int:
    """Decide to retire what the engine still has of a user; how many sessions. Blocking.

    While the engine does not answer there is nothing to read it from; what runs then is found without a
    server, and ends as any such session.
    """
    asked = 0
    try:
        found = [r for r in site.engine.look().sessions if r.labels.user == user]
    except DS01Error:
        return 0
    for record in found:
        wanted = intend(
            record.labels,
            datetime.now(timezone.utc),
            reason=reason,
            kind="admin",
            by=by,
            container=record.container,
            alone=True,
        )
        try:
            site.intents.ask(wanted)
            asked += 1
        except IntentError:
            continue
    if asked:
        site.carrier.kick()
    return asked


def why_not_renamed(site: Site, old: str, new: str, active: bool = False) -> Refusal | None:
    """What stands against a rename, or None. Blocking; what cannot be looked at stands against it."""
    if active or any(i.user == old for i in site.intents.open()):
        return messages.rename_while_running(old, new)
    try:
        if any(r.labels.user == old for r in site.engine.look().sessions):
            return messages.rename_while_running(old, new)
        there = folders(site.workspaces, old, new)
    except (DS01Error, OSError) as error:
        return messages.rename_unsure(old, new, str(error))
    if not there.old:
        return None
    if there.new:
        return messages.rename_files(old, new, "there is a workspace of that name already")
    if site.settings.identity.startswith("system"):
        return messages.rename_files(old, new, "its files belong to the host account of the old name")
    return None


def look_after_people(site: Site) -> None:
    """Have the hub of this process use `UserHandler`. Before its handlers are made; may be repeated."""
    ours = type("UserHandler", (UserHandler,), {"site": site})
    for handlers in (apihandlers.default_handlers, users.default_handlers):
        for number, rule in enumerate(handlers):
            if issubclass(rule[1], users.UserAPIHandler):
                handlers[number] = (rule[0], ours, *rule[2:])


def _http(refusal: Refusal) -> web.HTTPError:
    return web.HTTPError(refusal.status, refusal.sentence.replace("%", "%%"), reason=refusal.code)
