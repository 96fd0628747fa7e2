"""``[data]`` and ``[studies]`` of ``site.toml``: a network's studies, their data and their rules.

A researcher says what a study asks for; only the hospital says where that is. The first pattern in
the file that a study's name fits decides, alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from pydantic import ConfigDict, Field

from wardround.common.settings import Table
from wardround.common.settings.key_errors import WrongKey

HOSPITALS_OWN = frozenset(
    (
        "federations",
        "held_out_key",
        "ledger",
        "ledger_units",
        "max_failures",
        "opt_out",
        "data",
        "studies",
        "studies_at_once",
    )
)
"""Keys of the hospital as a whole, which no study's table has: one ledger counts for all, one key
holds rows out."""


class StudyRules(Table):
    """``[studies."PATTERN"]``: ``data``, and rules that hold instead of those above."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    data: str | None = Field(
        None, description="the `[data.NAME]` that it is computed on; left out: `--data`"
    )

    @property
    def rules(self) -> dict[str, Any]:
        """As they are written."""
        return dict(self.model_extra or {})


def first_of(studies: Mapping[str, StudyRules], name: str) -> str | None:
    """The first pattern that the study's name fits."""
    return next((pattern for pattern in studies if fnmatchcase(name, pattern)), None)


def check_names(studies: Mapping[str, StudyRules], data: Iterable[str], keys: set[str]) -> None:
    """Raise WrongKey for a key that no study's table has, and for data that have no table.

    keys : of ``site.toml``
    """
    known = sorted(data)
    for pattern, table in studies.items():
        for key in table.rules:
            if key not in keys - HOSPITALS_OWN:
                what = "is the hospital's, not a study's" if key in HOSPITALS_OWN else "unknown key"
                raise WrongKey(f"studies.{pattern}.{key}", what)
        if table.data is not None and table.data not in known:
            tables = ", ".join(known) or "none"
            raise WrongKey(
                f"studies.{pattern}.data",
                f"there is no table [data.{table.data[:100]}]; there are: {tables}",
            )
