"""What the policy file says, and what a person gets from it. Pure: no Docker, no clock, no JupyterHub."""

from .load import Override, Policy, PolicyWatcher, builtin_policy, load_policy, parse_policy
from .problems import PolicyError, Problem
from .resolve import Limits, Person, groups_of, resolve

__all__ = [
    "Limits",
    "Override",
    "Person",
    "Policy",
    "PolicyError",
    "PolicyWatcher",
    "Problem",
    "builtin_policy",
    "groups_of",
    "load_policy",
    "parse_policy",
    "resolve",
]
