"""What a person may ask for at a start: one model for the form, REST and stored options. Pure.

The model is applied at every start, whatever path the options came by, and refuses anything it does
not know. Whether a well-formed request is *allowed* is the policy's question, not this module's.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from .. import messages
from ..core.errors import Refused
from .sources import GitSource, TemplateSource, parse_source

PROJECT_PATTERN = r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?"
"""A project is a folder name: lower-case letters, digits, dot, dash and underscore, 1 to 63 long."""
ENVIRONMENT_PATTERN = r"[A-Za-z0-9](?:[A-Za-z0-9._/:@+-]{0,254}[A-Za-z0-9])?"
GPU_PATTERN = r"none|full|auto|(?:[1-7]c\.)?[1-7]g\.[0-9]{1,4}gb(?:\+[a-z.]{1,10})?"
MAX_GPU_COUNT = 16
MAX_TYPED = 500

_PROJECT = re.compile(PROJECT_PATTERN)
_ENVIRONMENT = re.compile(ENVIRONMENT_PATTERN)
_GPU = re.compile(GPU_PATTERN)

PROJECT_HELP = (
    "a project name has 1 to 63 lower-case letters, digits, dots, dashes or underscores, "
    "starts and ends with a letter or digit, and has no two dots in a row"
)


def is_project_name(name: str) -> bool:
    """Whether ``name`` may be a project: a plain folder name, never a path."""
    return bool(_PROJECT.fullmatch(name)) and ".." not in name


class LaunchOptions(BaseModel):
    """A validated request to start a session. Frozen; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    project: str = "default"
    project_source: str = ""
    """Where a new project's first files come from, see `sources`; means nothing for one that has files."""
    environment: str = ""
    """Id of an environment in the catalogue; empty means the site's default."""
    gpu: str = "none"
    gpu_count: int = Field(default=1, ge=1, le=MAX_GPU_COUNT)
    wait: bool = False
    """Join the queue when nothing is free."""
    lifetime: int | None = Field(default=None, ge=60, le=366 * 86400)
    """Wanted lifetime in seconds; the policy's maximum still holds."""
    preemptible: bool = False
    profile: str = ""
    """Readable summary shown on the hub's admin page; always computed, never taken from a person."""

    @field_validator("project")
    @classmethod
    def _project(cls, value: str) -> str:
        if not is_project_name(value):
            raise ValueError(PROJECT_HELP)
        return value

    @field_validator("project_source", mode="before")
    @classmethod
    def _source(cls, value: object) -> object:
        if isinstance(value, list):
            both = "choose a template or give the address of a repository, not both"
            raise ValueError(both if all(value) else "give the address of the repository")
        if isinstance(value, str):
            parse_source(value)
        return value

    @field_validator("environment")
    @classmethod
    def _environment(cls, value: str) -> str:
        if value and not _ENVIRONMENT.fullmatch(value):
            raise ValueError("an environment is named by its id, as the environments page shows it")
        return value

    @field_validator("gpu")
    @classmethod
    def _gpu(cls, value: str) -> str:
        if not _GPU.fullmatch(value):
            raise ValueError('gpu is "none", "auto", "full" or a slice profile such as "1g.10gb"')
        return value

    @property
    def source(self) -> GitSource | TemplateSource | None:
        """The source, parsed; None for an empty folder."""
        return parse_source(self.project_source)

    def summary(self, environment: str = "") -> str:
        """One readable line: project, environment (its title where that is given) and compute."""
        count = f"{self.gpu_count} × " if self.gpu != "none" and self.gpu_count > 1 else ""
        gpu = "CPU only" if self.gpu == "none" else count + self.gpu
        return " · ".join(p for p in (self.project, environment or self.environment, gpu) if p)

    def stored(self, environment: str = "") -> dict[str, object]:
        """The plain dict to keep as ``user_options``, with its summary."""
        return {**self.model_dump(exclude_defaults=True), "profile": self.summary(environment)}


def parse_options(raw: object) -> LaunchOptions:
    """Validate options from any source; ``Refused`` (400) names the first thing that is wrong.

    ``profile`` is accepted, because stored options carry it, and ignored.
    """
    if not isinstance(raw, Mapping):
        raise Refused(messages.bad_option("options", "they are not a set of names and values"))
    data = {k: v for k, v in raw.items() if k != "profile" and v is not None}
    try:
        options = LaunchOptions.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(p) for p in first["loc"]) or "options"
        if first["type"] == "extra_forbidden":
            known = ", ".join(k for k in LaunchOptions.model_fields if k != "profile")
            raise Refused(messages.bad_option(name, f"it is not a known option; known are {known}")) from None
        raise Refused(messages.bad_option(name, first["msg"].removeprefix("Value error, "))) from None
    return options.model_copy(update={"profile": options.summary()})


def salvage(raw: object) -> tuple[LaunchOptions | None, dict[str, str]]:
    """What of refused options can stay chosen, and what was typed in vain: ``project``, ``project_source``.

    For a form that comes back; nothing is started by it.
    """
    data = {str(k): v for k, v in raw.items() if k != "profile"} if isinstance(raw, Mapping) else {}
    typed: dict[str, str] = {}
    for _ in LaunchOptions.model_fields:
        try:
            return (LaunchOptions.model_validate(data) if data else None), typed
        except ValidationError as error:
            for name in {str(e["loc"][0]) for e in error.errors(include_url=False, include_input=False)}:
                value = data.pop(name, "")
                value = value[-1] if isinstance(value, list) and value else value
                if name in ("project", "project_source") and isinstance(value, str):
                    typed[name] = value[:MAX_TYPED]
    return None, typed


def from_form(form: Mapping[str, list[str]]) -> dict[str, object]:
    """Turn the form's lists of strings into raw options. Parses only: nothing is checked or created.

    ``project_new`` wins over ``project`` when filled, so that the form works without JavaScript;
    ``project_start`` is the form's way to say what a new project begins with.
    ``again``, the value of the "Start again" button, is a query string of options and wins over all.
    Fields the form does not have are kept, to be refused by `parse_options` with a clear sentence.
    """
    again = _clean((form.get("again") or [""])[-1])
    if again:
        form = {name: values for name, values in parse_qs(again).items() if name != "again"}
    raw: dict[str, object] = {}
    for name, values in form.items():
        if name in ("_xsrf", "project_new", "project_start", "next"):
            continue
        raw[name] = _form_value(name, values[-1] if values else "")
    new = _clean((form.get("project_new") or [""])[-1])
    if new:
        raw["project"] = new
    start = _clean((form.get("project_start") or [""])[-1])
    if start:
        raw["project_source"] = _form_source(start, str(raw.get("project_source", "")))
    return {k: v for k, v in raw.items() if v not in ("", None)}


def _form_source(start: str, address: str) -> str | list[str]:
    """One source from the form's list of starts and its field for an address.

    What contradicts itself is nobody's to guess: a list, which `LaunchOptions` refuses.
    """
    if start == "git":
        return address or [start, ""]
    return [start, address] if address else start


def _form_value(name: str, text: str) -> Any:
    text = _clean(text)
    if name in ("gpu_count", "lifetime"):
        return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else text
    if name in ("wait", "preemptible"):
        return text.lower() in ("1", "on", "true", "yes")
    return text


def _clean(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip() if isinstance(text, str) else ""
