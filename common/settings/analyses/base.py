"""What every analysis of ``[[procedure.analyses]]`` has."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from wardround.common.settings.base import Table
from wardround.common.settings.declared import Name

ColumnName = Annotated[Name, Field(min_length=1, max_length=200)]
"""A column as the files call it."""
# with a table's name a file of the results package, of 64 characters at most
AnalysisName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._+-]{0,39}$")]


class AnalysisOptions(Table):
    """One analysis: its name, its kind, and below that the kind's own keys."""

    name: AnalysisName = Field(
        description=(
            "what it is called in the report; files of its tables begin with it; at most 40 "
            "characters"
        )
    )
    kind: str = Field(description="which one")

    def reads(self) -> str:
        """What it asks of the rows, in one line for the people who approve it: without a full
        stop, columns in quotes."""
        raise NotImplementedError


def file_stem(name: str) -> str:
    """A name as files begin with it: small letters, digits and hyphens.

    >>> file_stem("Table 1 (all)")
    'table-1-all'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.casefold()).strip("-")


def quoted(columns: Iterable[str]) -> str:
    """Columns in quotes, with commas."""
    return ", ".join(f"'{name}'" for name in columns)
