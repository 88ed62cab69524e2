"""Refusals by the policy: quotas, ceilings, budgets, disk space. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.errors import Refusal
from .examples import RETRY_LATER, example, rule_text, sessions_text, short, words


@example(names=["thesis", "nlp"], limit=2, source="group students (policy.yaml:14)")
def too_many_sessions(names: Sequence[str], limit: int, source: str) -> Refusal:
    """The person runs as many sessions as they may."""
    used = f"you run {sessions_text(len(names))}: {words(names)}" if names else "you run none"
    return Refusal(
        code="sessions-max",
        asked="one more session was asked for",
        used=used,
        limit="you may run none" if limit == 0 else f"you may run {sessions_text(limit)} at a time",
        rule=rule_text(source),
        when="it changes as soon as one of your sessions is retired" if names else "",
        do="retire a session you no longer need; your files stay" if names else "ask an admin",
        status=409 if names else 403,
    )


@example(count=200, limit=200, source="the built-in default")
def too_many_projects(count: int, limit: int, source: str) -> Refusal:
    """A new project beyond the number a person may have."""
    return Refusal(
        code="projects-max",
        asked="a new project was asked for",
        used=f"you have {count} projects",
        limit=f"you may have {limit}",
        rule=rule_text(source),
        do="work in one that you have, or delete the folder of one you no longer need",
        status=409,
    )


@example(count=10, limit=10, source="the built-in default")
def too_many_environments(count: int, limit: int, source: str) -> Refusal:
    """An own environment beyond the number a person may have; builds that are under way count."""
    return Refusal(
        code="too-many-environments",
        asked="this environment is not made",
        used=f"you have {count} environments, those being built among them",
        limit=f"you may have {limit}",
        rule=rule_text(source),
        do="delete one you no longer need, or build it under the name of one you have",
    )


@example(limit=5, source="the built-in default")
def too_many_builds(limit: int, source: str) -> Refusal:
    """A build beyond those that one person may have waiting or under way."""
    return Refusal(
        code="builds-max",
        asked="one more build was asked for",
        limit=f"you may have {limit} waiting or under way",
        rule=rule_text(source),
        when="it changes as soon as one of yours has ended",
        do="wait for it, or cancel one",
        status=409,
        retry_after=RETRY_LATER,
    )


@example(most=100)
def builder_full(most: int) -> Refusal:
    """A build beyond those that the whole site may have waiting or under way."""
    return Refusal(
        code="builder-full",
        asked="one more build was asked for",
        limit=f"{most} builds of all people are waiting or under way already",
        when="it changes as soon as one of them has ended",
        do="try again in a while",
        status=503,
        retry_after=RETRY_LATER,
    )


@example(limit=50)
def too_many_courses(limit: int) -> Refusal:
    """A course beyond those that one person may own."""
    return Refusal(
        code="courses-max",
        asked="a new course was to be applied",
        limit=f"you own {limit} courses already",
        do="apply one of them anew under its own name, or ask an administrator to apply it",
        status=409,
    )


@example(limit=100)
def too_many_shares(limit: int) -> Refusal:
    """A share of one environment beyond the number of groups it may have."""
    return Refusal(
        code="shares-max",
        asked="the environment was to be shared with one more group",
        limit=f"it is shared with {limit} already",
        do="end the sharing with one of them first",
        status=409,
    )


@example(profile="3g.40gb", allowed=["1g.10gb", "2g.20gb"], source="group students (policy.yaml:9)")
def profile_not_allowed(profile: str, allowed: Sequence[str], source: str) -> Refusal:
    """A slice profile outside the person's list."""
    return Refusal(
        code="gpu-profile",
        asked=f"a {profile} slice was asked for",
        limit=f"you may use {words(allowed)}" if allowed else "you may use no GPU slices",
        rule=rule_text(source),
        do="choose one of those, start without a GPU, or ask for an exception"
        if allowed
        else "start without a GPU, or ask for an exception",
    )


@example(source="group students (policy.yaml:10)")
def full_gpu_not_allowed(source: str) -> Refusal:
    """A whole GPU, which the person may not use."""
    return Refusal(
        code="full-gpu",
        asked="a whole GPU was asked for",
        limit="you may use slices of a GPU, not whole ones",
        rule=rule_text(source),
        do="choose a slice, or ask for an exception with the reason and until when you need it",
    )


@example(asked=2, limit=1, source="group students (policy.yaml:8)")
def too_many_devices(asked: int, limit: int, source: str) -> Refusal:
    """More devices in one session than allowed."""
    most = "you may use no GPU" if limit == 0 else f"one session may have at most {limit}"
    return Refusal(
        code="gpu-devices",
        asked="1 GPU device was asked for"
        if asked == 1
        else f"{asked} GPU devices were asked for in one session",
        limit=most,
        rule=rule_text(source),
        do="start without a GPU, or ask for an exception"
        if limit == 0
        else "ask for fewer, or for one larger slice",
    )


@example(
    asked="3g.40gb", weight=3 / 7, used=5 / 7, limit=1.0, holders=["thesis 0.43", "nlp 0.29"],
    source="group students (policy.yaml:7)",
)  # fmt: skip
def gpu_quota(
    asked: str, weight: float, used: float, limit: float, holders: Sequence[str], source: str
) -> Refusal:
    """The request would pass the person's quota of GPU-equivalents."""
    using = f"your sessions use {used:.2f} ({words(holders)})" if holders else "your sessions use none"
    return Refusal(
        code="gpu-quota",
        asked=f"{asked} was asked for, which counts as {weight:.2f} GPU",
        used=using,
        limit=f"all your sessions together may use {limit:.2f} GPU",
        rule=rule_text(source),
        when="it changes as soon as one of those sessions is retired" if holders else "",
        do="retire one of them, choose a smaller GPU, or start without one"
        if holders
        else "choose a smaller GPU, start without one, or ask for an exception",
    )


@example(
    used=41.5,
    limit=40,
    window="7 days",
    when="on 2026-03-02 16:00 UTC",
    source="group students (policy.yaml:11)",
)
def gpu_hours(used: float, limit: float, window: str, when: str, source: str) -> Refusal:
    """The budget of GPU-hours is used up."""
    return Refusal(
        code="gpu-hours",
        asked="a GPU was asked for",
        used=f"you used {used:.1f} GPU-hours in the last {window}",
        limit=f"{limit:g} GPU-hours may be used in {window}",
        rule=rule_text(source),
        when=f"you fall below it again {when}"
        if when
        else "it changes as your older sessions leave that window",
        do="start without a GPU until then, or ask for an exception",
        status=429,
    )


@example(source="defaults (policy.yaml:5)")
def gpu_hours_unknown(source: str) -> Refusal:
    """The store cannot tell the used GPU-hours, and the policy says closed."""
    return Refusal(
        code="gpu-hours-unknown",
        asked="a GPU was asked for",
        limit="your used GPU-hours cannot be read at the moment, and without them no GPU is given",
        rule=rule_text(source),
        when="it changes as soon as the record of use can be read again",
        do="start without a GPU, or try again in some minutes",
        status=503,
        retry_after=RETRY_LATER,
    )


@example(
    asked="8 GiB", used="24 GiB", limit="30 GiB", holders=["thesis 16 GiB", "nlp 8 GiB"],
    source="group students (policy.yaml:20)",
)  # fmt: skip
def aggregate_memory(asked: str, used: str, limit: str, holders: Sequence[str], source: str) -> Refusal:
    """The memory of all the person's sessions together would pass their ceiling."""
    return Refusal(
        code="aggregate-memory",
        asked=f"a session with {asked} of memory was asked for",
        used=f"your sessions have {used} ({words(holders)})" if holders else "",
        limit=f"all your sessions together may have {limit}",
        rule=rule_text(source),
        when="it changes as soon as one of them is retired" if holders else "",
        do="retire one of your sessions; your files stay" if holders else "ask an admin to mend the policy",
    )


@example(source="group guests (policy.yaml:31)")
def preemptible_not_allowed(source: str) -> Refusal:
    """A preemptible session, which the person may not start."""
    return Refusal(
        code="preemptible",
        asked="a preemptible session was asked for",
        limit="you may not start preemptible sessions",
        rule=rule_text(source),
        do="start a normal session",
    )


@example(environment="lab/llm", source="group students (policy.yaml:26)")
def environment_not_allowed(environment: str, source: str = "", why: str = "") -> Refusal:
    """An environment outside the person's list; ``why`` in the words of the list, where they are known."""
    return Refusal(
        code="environment-not-allowed",
        asked=f"the environment {short(environment)!r} was asked for",
        limit=why or "your policy does not let you start it",
        rule=rule_text(source) or "the site's policy, section images",
        do="choose another environment, or ask for an exception",
    )


@example(
    free="120 MiB",
    minimum="1 GiB",
    used="49.9 GiB",
    quota="50 GiB",
    rescue=True,
    source="defaults (policy.yaml:6)",
)
def workspace_full(free: str, minimum: str, used: str, quota: str, rescue: bool, source: str) -> Refusal:
    """The person's workspace has too little space left; a rescue session may still be had."""
    return Refusal(
        code="workspace-full",
        asked="a session was asked for",
        used=(f"your workspace holds {used}" + (f" of {quota}" if quota else "") + f", and {free} are free")
        if used
        else f"{free} are free for your workspace",
        limit=f"{minimum} must be free for a start, or work could not be saved",
        rule=rule_text(source),
        when="it changes as soon as files are deleted",
        do="start without a GPU: you get a small rescue session to delete files in"
        if rescue
        else "ask an admin to delete files or to give you more space",
        status=507,
    )


@example(
    place="the container engine's disk", free="900 MiB", minimum="2 GiB", source="defaults (policy.yaml:6)"
)
def host_full(place: str, free: str, minimum: str, source: str) -> Refusal:
    """A disk of the machine is full; no student can mend that."""
    return Refusal(
        code="disk-full",
        asked="a session was asked for",
        used=f"{place} has {free} free",
        limit=f"{minimum} must be free for a start",
        rule=rule_text(source),
        do="tell an admin: space must be made on the machine; sessions and files are not touched",
        status=507,
        retry_after=RETRY_LATER,
    )
