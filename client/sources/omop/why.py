"""Why a cohort, or a column of it, is empty: asked of the database only then, for this hospital's
log. Nothing of it goes further."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from wardround.client.sources.omop.reading import whole
from wardround.client.sources.omop.settings import OmopSource
from wardround.client.sources.omop.statements import CohortSql
from wardround.client.sources.omop.tables import TABLES, qualified
from wardround.client.sources.sql.database import Database
from wardround.common.settings.cohort import CohortTable
from wardround.common.settings.concepts import OMOP, Concept

_INDEX = -1


class Why:
    """Looks for reasons, from the most common."""

    def __init__(
        self, database: Database, own: OmopSource, cohort: CohortTable, sql: CohortSql
    ) -> None:
        self._database, self._own, self._cohort, self._sql = database, own, cohort, sql

    def no_events(self) -> str:
        """Of a cohort without an index event."""
        index = self._cohort.index
        table = TABLES[index.event]
        name = qualified(self._own.cdm_schema, table.name)
        if not self._any(name):
            return f"{name} has no rows"
        if index.concepts:
            if reason := self._unknown(_INDEX, index.wanted):
                return f"of the index event {reason}"
        return f"{name} has no record of the index event's concepts with a day"

    def missing(self, table: pa.Table) -> Iterator[str]:
        """A line for each column that has no value in any row."""
        for number, (name, one) in enumerate(self._cohort.variables.items()):
            if name not in table.column_names or one.of not in TABLES:
                continue
            column = table.column(name)
            empty = column.null_count == len(column)
            if one.form == "count" and one.takes in ("any", "count"):
                empty = pa.compute.max(column).as_py() == 0
            if empty:
                yield f"column '{name}' is empty: {self._of(number, one.of, one.wanted)}"

    def _of(self, number: int, of: str, wanted: tuple[Concept, ...]) -> str:
        if reason := self._unknown(number, wanted):
            return reason
        table = TABLES[of]
        name = qualified(self._own.cdm_schema, table.name)
        if not self._any(name):
            return f"{name} has no rows"
        return f"{name} has none of its concepts in the window, or none with a value"

    def _unknown(self, number: int, wanted: tuple[Concept, ...]) -> str:
        if not wanted or any(one.system == OMOP for one in wanted):
            return ""
        concept = qualified(self._own.vocabulary, "concept")
        if not self._any(concept):
            return f"no concept can be found: the vocabulary isn't loaded ({concept} has no rows)"
        found = whole(self._database, self._sql.concepts())
        if number in found["variable"].to_pylist():
            return ""
        some = ", ".join(one.text for one in wanted[:5])
        more = f" and {len(wanted) - 5} more" if len(wanted) > 5 else ""
        return f"the vocabulary has no concept {some}{more}"

    def _any(self, table: str) -> bool:
        return bool(self._database.ask(f"SELECT 1 FROM {table} LIMIT 1"))
