"""Reads a cohort of OMOP's tables: index events, patients, then the records of each table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa

from wardround.client.sources.omop.own_query import fitted
from wardround.client.sources.omop.reading import (
    NO_DATE,
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
    UNKNOWN,
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
NOBODY = "of nobody in the table person"


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
        self._unread, self._seen = Unread("records", own.left_out_share or OF_TABLES), 0

    def table(self) -> pa.Table:
        """Raises DataError."""
        asked = {one.what: one for one in self._sql.all()}
        why = Why(self._database, self._own, self._cohort, self._sql)
        events = whole(self._database, asked["index events"].query)
        if not len(events):
            raise self._empty(why.no_events())
        persons = whole(self._database, asked["patients"].query)
        deaths = None
        if "deaths" in asked:
            deaths = whole(self._database, asked["deaths"].query)
            self._with_dates("deaths", deaths)  # who died on nobody knows which day has died
        people = People(persons, deaths, self._own.patients_by, self._database)
        rows = rows_of(
            self._cohort.index, self._events(events, people), people.patients, self._told
        )
        if not len(rows):
            self._unread.left_out(self._seen)  # where that is why
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

    def _events(self, events: pa.Table, people: People) -> Columns:
        """Index events; one without a day might have been on any."""
        events = self._with_dates("index events", events)
        days = days_of(events["day"])
        patients = people.places(events["person_id"])
        known = patients >= 0
        if nobody := int((~known).sum()):
            self._told.add(f"index events {NOBODY}", nobody)
            self._leave(NOBODY, nobody)
        last = np.where(days == UNKNOWN, days + 1, days)
        return Columns(patients, days, last, days * 0, np.zeros(len(days))).where(known)

    def _with_dates(self, what: str, found: pa.Table) -> pa.Table:
        """Records without those whose day is a text that is none, which are noted."""
        bad = days_of(found["day"]) == NO_DATE
        self._seen += len(found)
        if count := int(bad.sum()):
            self._unread.add(
                f"{what}: {count} have a date that isn't written YYYY-MM-DD; mend their column"
            )
            for _ in range(count - 1):
                self._unread.add()
        return found.filter(pa.array(~bad))

    def _with_days(self, what: str, found: pa.Table) -> pa.Table:
        """Those with a day; others are counted."""
        found = self._with_dates(what, found)
        known = days_of(found["day"]) != UNKNOWN
        self._leave("without a date", int((~known).sum()))
        return found.filter(pa.array(known))

    def _leave(self, why: str, count: int) -> None:
        self.left[why] = self.left.get(why, 0) + count

    def _records(self, asked: Mapping[str, Statement], people: People) -> dict[str, Records]:
        variables = list(self._cohort.variables.items())
        records = {name: Records() for name, one in variables if one.concepts or one.of == "visit"}
        worth = Worth(self._own.units, self._unit_codes(), self._categories(), self._unread)
        for statement in asked.values():
            if statement.of in ("", "index"):
                continue
            found = whole(self._database, statement.query)
            for number, part in by_variable(found):
                name, one = variables[number]
                part = self._with_days(statement.what, part)
                values, keep = worth.of(name, one, part)
                records[name] = AsRead(columns_of(part, values, keep, people))
        left = self._unread.left_out(self._seen)
        for why, count in [*worth.left.items(), (left.reason, left.count)]:
            self._leave(why, count)
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
