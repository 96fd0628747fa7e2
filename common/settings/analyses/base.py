"""What every analysis of ``[[procedure.analyses]]`` has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from wardround.common.settings.base import Table

ColumnName = Annotated[str, Field(min_length=1, max_length=200)]
"""A column as the files call it."""
AnalysisName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._+-]{0,59}$")]


class AnalysisOptions(Table):
    """One analysis: its name, its kind, and below that the kind's own keys."""

    name: AnalysisName = Field(
        description="what it is called in the report; files of its tables begin with it"
    )
    kind: str = Field(description="which one")

    def reads(self) -> str:
        """What it asks of the rows, in one line for the people who approve it: without a full
        stop, columns in quotes."""
        raise NotImplementedError


def quoted(columns: Iterable[str]) -> str:
    """Columns in quotes, with commas."""
    return ", ".join(f"'{name}'" for name in columns)
