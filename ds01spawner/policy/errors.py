"""What is wrong in a policy file: where, and what was expected there."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import DS01Error


@dataclass(frozen=True)
class Problem:
    """One fault of a policy file. ``line`` counts from 1; 0 means the file as a whole."""

    file: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.key}: {self.message}" if self.key else f"{where}: {self.message}"


class PolicyError(DS01Error):
    """A policy file that cannot be used; every fault found is in ``problems``."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(str(p) for p in problems))
        self.problems = problems
