"""What ``wardround init --data`` ends with, whatever lies there."""

from __future__ import annotations

from dataclasses import dataclass

from rich.table import Table


@dataclass(frozen=True)
class Looked:
    """A configuration that was tried.

    text : of the file
    tables : what was found and decided, for a terminal
    lines : what to know of the data; they stand in the file, too
    """

    text: str
    tables: tuple[Table, ...]
    lines: tuple[str, ...]
