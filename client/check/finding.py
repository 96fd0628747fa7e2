"""What a check finds: each with how bad it is, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

State = Literal["error", "warning", "ok"]
LEAST = 5
"""Fewest rows that must share a value before it is shown."""


@dataclass(frozen=True)
class Finding:
    """One.

    state : an ``error`` would end or spoil the study here, a ``warning`` is for a person to judge
    what : the column, file or part that it is about
    text : what is so; quotes no cell
    mend : what to do; '' where nothing is to be done
    """

    state: State
    what: str
    text: str
    mend: str = ""

    @property
    def line(self) -> str:
        """All of it but the state."""
        return f"{self.what}: {self.text}{f'; {self.mend}' if self.mend else ''}"


@dataclass(frozen=True)
class Shown:
    """A column, as the page has it: texts."""

    name: str
    role: str
    kind: str
    filled: str
    values: str


@dataclass(frozen=True)
class Checked:
    """All that was found.

    asked : the federation or study
    data : how the data are called
    rows : that the task can use; None where they couldn't be read
    parts : rows by split, and how they were told apart
    labels : rows by label, small groups together
    """

    asked: str
    data: str
    findings: list[Finding]
    rows: int | None = None
    columns: list[Shown] = field(default_factory=list)
    parts: list[tuple[str, str]] = field(default_factory=list)
    labels: list[tuple[str, str]] = field(default_factory=list)

    @property
    def worst(self) -> State:
        """The worst state of all."""
        return worst(self.findings)


def worst(findings: Iterable[Finding]) -> State:
    """The worst state; ``ok`` of none."""
    states = {one.state for one in findings}
    return "error" if "error" in states else "warning" if "warning" in states else "ok"


def count_of(rows: int, what: str = "rows") -> str:
    """So many, unless that is a small group: 'fewer than 5 rows'."""
    if 0 < rows < LEAST:
        return f"fewer than {LEAST} {what}"
    return f"{rows:,} {what}"
