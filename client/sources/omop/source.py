"""Reads a cohort of OMOP's tables: index events, patients, then the records of each table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa

from wardround.client.sources.omop.own_query import fitted
from wardround.client.sources.omop.reading import (
    AsRead,
    People,
    by_variable,
    columns_of,
    days_of,
    whole,
)
from wardround.client.sources.omop.settings import OmopSource
from wardround.client.sources.omop.statements import CohortSql, Statement
from wardround.client.sources.omop.tables import Dialect, qualified
from wardround.client.sources.omop.values import Worth
from wardround.client.sources.omop.why import Why
from wardround.client.sources.records import (
    Columns,
    Records,
    Told,
    answer,
    answered_columns,
    empty_why,
    rows_of,
)
from wardround.client.sources.source import Asked
from wardround.client.sources.sql.address import read_address
from wardround.client.sources.sql.database import Database
from wardround.client.sources.sql.opened import opened
from wardround.client.sources.sql.query import read_query
from wardround.common.errors import DataError
from wardround.common.settings.cohort import CohortTable
from wardround.common.settings.concepts import OMOP, SYSTEMS, Concept
from wardround.common.tasks.data.allowance import OF_TABLES, Unread
from wardround.common.tasks.data.left_out import LeftOut

_BATCH_ROWS = 1 << 16


class OmopRows:
    """See ``TableSource``."""

    def __init__(self, settings: OmopSource) -> None:
        self._settings = settings
        self._left: dict[str, int] = {}

    def batches(self, asked: Asked) -> Iterator[pa.RecordBatch]:
        cohort, own = asked.cohort, self._settings
        address = read_address(own.url, asked.base, asked.called)
        with opened(address, own.statement_timeout_s) as database:
            if own.query is not None:
                query = read_query((asked.base / own.query).resolve(), asked.called)
                yield from fitted(database.rows(query), asked)
                return
            reading = _Reading(own, cohort, asked, database)
            table = reading.table()
            self._left = reading.left
        yield from table.combine_chunks().to_batches(max_chunksize=_BATCH_ROWS)

    def left_out(self) -> tuple[LeftOut, ...]:
        return tuple(LeftOut(n, "records", why) for why, n in self._left.items() if n)


class _Reading:
    """One reading, within one transaction."""

    def __init__(
        self, own: OmopSource, cohort: CohortTable, asked: Asked, database: Database
    ) -> None:
        if database.address.kind == "other":
            raise DataError(
                "SQL for this kind of database isn't made here",
                who=database.address.name,
                mend="name a query of your own (query)",
            )
        self._own, self._cohort, self._asked, self._database = own, cohort, asked, database
        self._sql = CohortSql(cohort, own, Dialect(database.address.kind))
        self._told, self.left = Told(), dict[str, int]()

    def table(self) -> pa.Table:
        """Raises DataError."""
        asked = {one.what: one for one in self._sql.all()}
        why = Why(self._database, self._own, self._cohort, self._sql)
        events = whole(self._database, asked["index events"].query)
        if not len(events):
            raise self._empty(why.no_events())
        persons = whole(self._database, asked["patients"].query)
        deaths = asked.get("deaths")
        people = People(
            persons,
            whole(self._database, deaths.query) if deaths is not None else None,
            self._own.patients_by,
            self._database,
        )
        days = days_of(events["day"], self._database)
        patients = people.places(events["person_id"])
        none = np.zeros(len(days))
        found = Columns(patients, days, days, days * 0, none).where(patients >= 0)
        rows = rows_of(self._cohort.index, found, people.patients, self._told)
        if not len(rows):
            raise self._empty(empty_why(self._told))
        records = self._records(asked, people)
        columns = answered_columns(self._asked)
        table = answer(self._cohort, rows, people.patients, records, self._told, columns)
        if not len(table):
            raise self._empty(empty_why(self._told))
        self._asked.say(empty_why(self._told))
        for line in why.missing(table):
            self._asked.say(line)
        return table

    def _records(self, asked: Mapping[str, Statement], people: People) -> dict[str, Records]:
        variables = list(self._cohort.variables.items())
        records = {name: Records() for name, one in variables if one.concepts or one.of == "visit"}
        unread = Unread("records", self._own.left_out_share or OF_TABLES)
        worth = Worth(self._own.units, self._unit_codes(), self._categories(), unread)
        for statement in asked.values():
            if statement.of in ("", "index"):
                continue
            found = whole(self._database, statement.query)
            for number, part in by_variable(found):
                name, one = variables[number]
                values, keep = worth.of(name, one, part)
                columns = columns_of(part, values, keep, people, self._database)
                records[name] = AsRead(columns)
        left = unread.left_out(worth.seen)
        self.left = {**worth.left, left.reason: left.count}
        return records

    def _empty(self, why: str) -> DataError:
        return DataError(f"{self._asked.called}: no row answers the cohort: {why}")

    # --- the vocabulary ---------------------------------------------------------------------------
    def _unit_codes(self) -> dict[int, str]:
        """UCUM's code of each unit."""
        if not any(one.is_number for one in self._cohort.variables.values()):
            return {}
        found = self._database.ask(
            f"SELECT concept_id, concept_code FROM {self._concept()} WHERE vocabulary_id = ?",
            ("UCUM",),
        )
        return {int(concept): str(code) for concept, code in found}

    def _categories(self) -> dict[str, dict[int, int]]:
        """The place of each concept's category, of the variables that have some; the one that is
        named first counts."""
        found: dict[str, dict[int, int]] = {}
        for name, one in self._cohort.variables.items():
            for place, concepts in enumerate(one.categories.values()):
                for concept in map(Concept.read, concepts):
                    if concept.system == OMOP:
                        found.setdefault(name, {}).setdefault(int(concept.code), place)
                    if concept.system == OMOP and concept.prefix:
                        for (id_,) in self._below(int(concept.code)):
                            found.setdefault(name, {}).setdefault(int(id_), place)
                    for vocabulary in SYSTEMS[concept.system].omop:
                        for (id_,) in self._with_code(vocabulary, concept.code, concept.prefix):
                            found.setdefault(name, {}).setdefault(int(id_), place)
        return found

    def _below(self, concept: int) -> list[tuple[int]]:
        ancestor = qualified(self._own.vocabulary, "concept_ancestor")
        asked = f"SELECT descendant_concept_id FROM {ancestor} WHERE ancestor_concept_id = ?"
        return [(int(row[0]),) for row in self._database.ask(asked, (concept,))]

    def _with_code(self, vocabulary: str, code: str, prefix: bool) -> list[tuple[int]]:
        match = "substr(concept_code, 1, length(?)) = ?" if prefix else "concept_code = ?"
        values = (vocabulary, code, code) if prefix else (vocabulary, code)
        found = self._database.ask(
            f"SELECT concept_id FROM {self._concept()} WHERE vocabulary_id = ? AND {match}", values
        )
        return [(int(row[0]),) for row in found]

    def _concept(self) -> str:
        return qualified(self._own.vocabulary, "concept")
