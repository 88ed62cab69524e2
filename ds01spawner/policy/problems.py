"""What is wrong in a policy file: where, and what was expected there."""

from __future__ import annotations

from ..core.errors import DS01Error, Problem
from ..core.yaml_reader import OF_THE_SITE, Document, FileProblems, parse

__all__ = ["PolicyError", "Problem", "read_yaml"]


class PolicyError(DS01Error):
    """A policy file that cannot be used; every fault found is in ``problems``."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(str(p) for p in problems))
        self.problems = problems


def read_yaml(text: str, file: str) -> Document:
    """The text of a policy file, read; `PolicyError` names line and key."""
    try:
        return parse(text, file, OF_THE_SITE)
    except FileProblems as error:
        raise PolicyError(*error.problems) from None
