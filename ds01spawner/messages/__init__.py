"""Every sentence that tells people no: functions from plain values to a `Refusal`. Pure.

Each says what was asked, what is used, the limit, whose rule it is, when it changes and what to do.
The example beside each function makes ``docs/admins/refusals.md`` (``python -m ds01spawner.messages``)
and is what the tests read. Nothing here ever carries log text: a log's tail travels on its own.
"""

from .asking import bad_project, bad_request, foreign_workspace, link_start, quota_not_set, workspace_unusable
from .base import EXAMPLES
from .limits import (
    aggregate_memory,
    environment_not_allowed,
    environment_unknown,
    full_gpu_not_allowed,
    gpu_hours,
    gpu_hours_unknown,
    gpu_quota,
    host_full,
    preemptible_not_allowed,
    profile_not_allowed,
    too_many_devices,
    too_many_sessions,
    workspace_full,
)
from .machine import (
    crashed,
    crashed_at_start,
    drained,
    engine_down,
    environment_gone,
    environment_unfit,
    limits_not_in_force,
    lock_busy,
    maintenance,
    name_taken,
    nothing_free,
    out_of_memory,
    rename_while_running,
    start_failed,
    start_timeout,
    still_running,
    too_many_tickets,
)

__all__ = [
    "EXAMPLES",
    "aggregate_memory",
    "bad_project",
    "bad_request",
    "crashed",
    "crashed_at_start",
    "drained",
    "engine_down",
    "environment_gone",
    "environment_not_allowed",
    "environment_unfit",
    "environment_unknown",
    "foreign_workspace",
    "full_gpu_not_allowed",
    "gpu_hours",
    "gpu_hours_unknown",
    "gpu_quota",
    "host_full",
    "limits_not_in_force",
    "link_start",
    "lock_busy",
    "maintenance",
    "name_taken",
    "nothing_free",
    "out_of_memory",
    "preemptible_not_allowed",
    "profile_not_allowed",
    "quota_not_set",
    "rename_while_running",
    "start_failed",
    "start_timeout",
    "still_running",
    "too_many_devices",
    "too_many_sessions",
    "too_many_tickets",
    "workspace_full",
    "workspace_unusable",
]
