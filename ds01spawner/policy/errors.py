"""What is wrong in a policy file: where, and what was expected there."""

from __future__ import annotations

from ..core.errors import DS01Error, Problem

__all__ = ["PolicyError", "Problem"]


class PolicyError(DS01Error):
    """A policy file that cannot be used; every fault found is in ``problems``."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(str(p) for p in problems))
        self.problems = problems
