"""What is refused of a session that runs: finding it, keeping it alive. Pure."""

from __future__ import annotations

from ..core.errors import Refusal
from .examples import example


@example(another=False)
def session_unknown(another: bool) -> Refusal:
    """There is no such session; ``another``: it is another person's, who learns nothing of it."""
    return Refusal(
        code="no-session",
        asked="this session was asked for",
        limit="it is not one of yours" if another else "it is not running (any more)",
        do="look at your own sessions on the overview"
        if another
        else "start a new one; the project's files are kept",
        status=404,
    )


@example(
    wanted="4 h",
    until="16:00",
    cap="8 h",
    whole=True,
    rule="group students (policy.yaml:20)",
)
def kept_alive_enough(wanted: str, until: str, cap: str, whole: bool, rule: str) -> Refusal:
    """The allowance for keeping alive is used up, of one session (``whole``) or of a day."""
    return Refusal(
        code="keep-alive-cap",
        asked=f"you asked to keep the session alive for {wanted}",
        used=f"it is kept alive until {until} already" if until else "",
        limit=f"the limit of {cap} " + ("for one session" if whole else "within 24 hours") + " is used up",
        rule=rule,
        when="" if whole else "time comes back 24 hours after it was granted",
        do="use the session to keep it, or save your work; the workspace stays",
        status=403,
    )


@example(wanted="4 h", limit="the policy does not let you keep sessions alive", do="save your work")
def not_kept_alive(wanted: str, limit: str, do: str, status: int = 403, rule: str = "") -> Refusal:
    """A session is not kept alive."""
    return Refusal(
        code="keep-alive",
        asked=f"you asked to keep the session alive for {wanted}",
        limit=limit,
        rule=rule,
        do=do,
        status=status,
    )
