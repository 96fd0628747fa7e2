"""How data may lie in a folder, and what that means: one table for each kind of task.

A reader asks which layout a path is in, once, and goes by the answer; the tables in docs/imaging.md
and docs/text.md are these.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """name : in a message; looks : how a path looks that is in it; read : what is read of it"""

    name: str
    looks: str
    read: str


def markdown(layouts: Iterable[Layout]) -> str:
    """The layouts as a table of a document."""
    rows = [f"| {layout.looks} | {layout.read} |" for layout in layouts]
    return "\n".join(["| layout | what is read |", "|---|---|", *rows])
