"""Handlers' common ground: who asks, in what form the answer goes, and what a refusal looks like."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import Any, ClassVar

from jupyterhub.services.auth import HubOAuthenticated
from tornado import web

from .. import messages
from ..admission.limit_requests import ask_url
from ..core.errors import DS01Error, EngineError, Refusal, Refused, StoreError
from ..core.hub_client import HubError
from ..core.settings import Settings
from ..core.yaml_reader import FileProblems
from ..pages import keys
from ..policy.resolve import Limits, Person
from ..workspace.projectfiles import ProjectFileError
from ..workspace.projects import WorkspaceError
from . import bodies
from .context import Context
from .openapi import Operations
from .places import REFUSED_AFTER_S, Kind, TooMany

log = logging.getLogger(__name__)
SAFE = ("GET", "HEAD", "OPTIONS")
ALLOWED = f"{keys.HEADER}, HX-Request, HX-Current-URL, HX-Target, HX-Trigger, HX-Trigger-Name, HX-Boosted"
"""Headers that htmx sends from a page of the hub."""
_HTMX_READS = (
    "Trigger Trigger-After-Swap Trigger-After-Settle Location Redirect Refresh Retarget Reswap Reselect"
)
_HTMX_READS += " Push Push-Url Replace-Url"
EXPOSED = ", ".join(["DS01-Fragment", keys.NEXT, *(f"HX-{name}" for name in _HTMX_READS.split())])
"""Headers that htmx looks for in an answer; a browser complains of each that it may not see."""
METHODS = ("GET", "HEAD", "POST", "DELETE", "PATCH", "PUT", "OPTIONS")


class Handler(web.RequestHandler):
    """Base of all. ``ctx`` is the service's context."""

    @property
    def ctx(self) -> Context:
        """The service's context."""
        context: Context = self.application.settings["ds01"]
        return context

    @property
    def settings_of_site(self) -> Settings:
        """The site's settings."""
        return self.ctx.settings

    async def _execute(self, *args: Any, **kwargs: Any) -> None:
        # Around everything, so that the person's place is free again however the request ends.
        async with AsyncExitStack() as self._while_it_lasts:
            await super()._execute(*args, **kwargs)

    async def take_place(self, person: str, kind: Kind) -> None:
        """One of the person's places until this request is over; `Refused` (429) where too many wait."""
        try:
            await self._while_it_lasts.enter_async_context(self.ctx.places.of(person, kind))
        except TooMany:
            await asyncio.sleep(REFUSED_AFTER_S)
            raise Refused(messages.too_many_at_once()) from None

    def set_default_headers(self) -> None:
        """Nothing here may be framed, cached by others, or read as another type."""
        self.set_header("Content-Security-Policy", "frame-ancestors 'none'")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-store")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Show a refusal or failure as what it is."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        status, body = explain(error, status_code)
        if isinstance(error, Refused) and (url := ask_url(self.ctx.urls.service, error.refusal)):
            body["ask_url"] = url
        if isinstance(error, Refused) and error.refusal.retry_after:
            self.set_header("Retry-After", str(error.refusal.retry_after))
        self.set_status(status)
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.set_header("Allow", ", ".join(self.allowed()))
        self.show_error(status, body)

    def log_exception(self, *exc_info: Any) -> None:
        """An answer of no is one line of the log, not a traceback."""
        error = exc_info[1]
        if isinstance(error, DS01Error):
            log.info("%s %s: %s", self.request.method, self.request.path, error)
        else:
            super().log_exception(*exc_info)

    def show_error(self, status: int, body: dict[str, object]) -> None:
        """Write the error in this handler's form."""
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(str(body["message"]))

    def allowed(self) -> list[str]:
        """The methods that this handler answers."""
        missing = web.RequestHandler._unimplemented_method
        return [m for m in METHODS if getattr(type(self), m.lower(), missing) is not missing]

    def fragment(self, template: str, **context: Any) -> None:
        """Finish with ``ds01/<template>``, marked as ours so that a page may swap it in."""
        self.set_header("DS01-Fragment", "1")
        self.finish(self.ctx.templates.get_template(f"ds01/{template}").render(**context))


class PersonHandler(HubOAuthenticated, Handler):  # type: ignore[misc]
    """A handler for somebody the hub knows. ``person`` is set before the method runs."""

    person: Person
    allow_services = False

    async def prepare(self) -> None:
        """Find out who asks; whoever is nobody is sent to log in, or told so."""
        await self.hub_auth.get_user(self, sync=False)  # kept on the handler; the property would block
        model = self.current_user
        if model is None:
            self.not_logged_in()
            return
        kind = Kind.READ if self.request.method in SAFE else Kind.CHANGE
        await self.take_place(f"{model.get('kind')} {model['name']}", kind)
        if self.request.method not in SAFE:
            self.check_xsrf_cookie()
        if model.get("kind") == "service":
            if not self.allow_services:
                raise web.HTTPError(403, "this is for people, not for services")
            self.person = Person(model["name"])
            return
        self.person = await self.ctx.hub.person(model["name"])

    def not_logged_in(self) -> None:
        """Nobody we know."""
        raise web.HTTPError(403, "log in first, or send a token of the hub that may use this service")

    async def limits(self) -> Limits:
        """What the person gets now."""
        return await self.ctx.limits(self.person)

    def need_admin(self) -> None:
        """Refuse everybody whom the hub does not call an admin."""
        if not self.person.admin:
            raise web.HTTPError(403, "this is for admins of the hub")


class PageHandler(PersonHandler):
    """An HTML page in the hub's looks."""

    def not_logged_in(self) -> None:
        """Send a reader through the hub's login; a form without its token is refused."""
        if self.request.method in SAFE:
            self.redirect(self.get_login_url())
        else:
            raise web.HTTPError(403, "the page was too old; open it again and repeat what you did")

    def page(self, template: str, **context: Any) -> None:
        """Finish with ``ds01/service/<template>``."""
        urls = self.ctx.urls
        name = self.person.name if hasattr(self, "person") else ""
        values: dict[str, object] = {
            "base_url": urls.hub,
            "prefix": urls.base,
            "service_url": urls.service,
            "user": _user(name) if name else None,
            "no_spawner_check": True,
            "login_url": f"{urls.hub}login",
            "logout_url": f"{urls.hub}logout",
            "static_url": lambda path, **_: f"{urls.hub_static}{path}",
            "services": [],
            "parsed_scopes": {},
            "xsrf_token": self.xsrf_token.decode("ascii"),
            "ds01": self.ctx.hub_context(name),
            "person": getattr(self, "person", None),
            "nav": self.ctx.nav,
            "here": self.request.path.removeprefix(urls.service),
        }
        self.finish(self.ctx.templates.get_template(f"ds01/service/{template}").render(**values | context))

    def show_error(self, status: int, body: dict[str, object]) -> None:
        """The error as a page."""
        self.page("error.html", status=status, message=body["message"], ask=body.get("ask_url", ""))


class ApiHandler(PersonHandler):
    """A JSON answer. Cookie and token both serve; a cookie needs its XSRF token for everything."""

    openapi: ClassVar[Operations] = {}
    """OpenAPI operations by method, for the published document."""

    def set_default_headers(self) -> None:
        """JSON, and nothing in it may be run."""
        super().set_default_headers()
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.set_header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")

    def json(self, data: Any, status: int = 200) -> None:
        """Finish with ``data``."""
        self.set_status(status)
        self.finish(json.dumps(data, default=_plain, ensure_ascii=False))

    def body(self) -> dict[str, object]:
        """The request's JSON object; an empty body is an empty object."""
        try:
            return bodies.parse(self.request.body)
        except bodies.BadBody as bad:
            raise web.HTTPError(bad.status, str(bad)) from None

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """An integer query argument within bounds."""
        raw = self.get_query_argument(name, "")
        if not raw:
            return default
        if not raw.isascii() or not raw.isdigit() or len(raw) > 12 or not low <= int(raw) <= high:
            raise web.HTTPError(400, f"{name} is a number from {low} to {high}")
        return int(raw)

    def show_error(self, status: int, body: dict[str, object]) -> None:
        """The error as JSON."""
        self.finish(json.dumps(body, ensure_ascii=False))


class FragmentHandler(Handler):
    """A live part of a page, opened by the signed key of that page (see `pages.keys`)."""

    person: Person

    def set_default_headers(self) -> None:
        """The hub's own pages may ask from its host, where that is another: by the key, never by a cookie."""
        super().set_default_headers()
        if origin := self.ctx.urls.foreign_origin:
            self.set_header("Access-Control-Allow-Origin", origin)
            self.set_header("Access-Control-Allow-Headers", ALLOWED)
            self.set_header("Access-Control-Allow-Methods", "GET, POST")
            self.set_header("Access-Control-Expose-Headers", EXPOSED)
            self.set_header("Cross-Origin-Resource-Policy", "cross-origin")
            self.set_header("Vary", "Origin")

    def options(self, *_: str) -> None:
        """A browser asks first whether the hub's pages may send the key's header."""
        self.set_status(204)
        self.finish()

    async def prepare(self) -> None:
        """Check the key; without one there is nothing to see."""
        if self.request.method == "OPTIONS":
            return
        given, ended = self.request.headers.get(keys.HEADER, ""), self.ctx.log_outs.last
        name = keys.verify(self.ctx.secret, given, self.ctx.clock(), ended)
        if name is None:
            raise web.HTTPError(403, "this part of a page needs the key of its page")
        await self.take_place(f"user {name}", Kind.FRAGMENT)
        try:
            self.person = await self.ctx.hub.person(name)
        except HubError as error:
            raise web.HTTPError(503, "the hub does not answer") from error

    def fragment(self, template: str, **context: Any) -> None:
        """As before, with the page's next key."""
        self.set_header(keys.NEXT, self.ctx.key(self.person.name))
        super().fragment(template, **context)

    def check_xsrf_cookie(self) -> None:
        """The key travels in a header that no other site can set, so it is its own proof."""


def explain(error: BaseException | None, status: int) -> tuple[int, dict[str, object]]:
    """Any error as a status and what to tell; what we did not mean to raise tells nothing of itself."""
    if isinstance(error, Refused):
        return error.refusal.status, {"status": error.refusal.status, **error.refusal.as_dict()}
    if isinstance(error, web.HTTPError):
        # Tornado doubles each % in what it is given without arguments.
        message = (error.log_message or HTTPStatus(error.status_code).phrase).replace("%%", "%")
        return error.status_code, {"status": error.status_code, "message": message}
    if isinstance(error, HubError):
        status = error.status if error.status in (400, 403, 404, 409, 429, 503) else 502
        return status, {"status": status, "message": str(error)}
    if isinstance(error, FileProblems):
        return 400, {"status": 400, "message": str(error), "problems": [p.as_dict() for p in error.problems]}
    if isinstance(error, (ProjectFileError, WorkspaceError)):
        return 400, {"status": 400, "message": str(error)}
    if isinstance(error, (StoreError, EngineError)):
        return 503, {"status": 503, "message": str(error)}
    if isinstance(error, DS01Error):
        return 500, {"status": 500, "message": str(error)}
    message = "something went wrong here; the service's log says what"
    return status, {"status": status, "message": message}


def refuse(refusal: Refusal) -> Refused:
    """For ``raise refuse(...)``."""
    return Refused(refusal)


def _plain(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    return str(value)


def _user(name: str) -> dict[str, str]:
    """What the hub's page template reads of a user; the second is put into a script as it stands."""
    return {"name": name, "json_escaped_name": json.dumps(name)[1:-1].replace("<", "\\u003c")}
