"""The SQL of a cohort: one statement for each table that it asks of.

A statement brings, of the records with one of the concepts, those in a window around some index
day, and those without a day, which are counted: more than count, never fewer. Concepts are found by
their codes within the statement, so that what is shown needs no database to be made. Nothing of a
study stands in it but numbers, codes (of letters, digits and ``._/+^-``) and dates; a variable's
name, of letters and digits, in a comment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from wardround.client.sources.omop.settings import OmopSource
from wardround.client.sources.omop.tables import TABLES, Clinical, Dialect, literal, qualified
from wardround.client.sources.sql.query import Query
from wardround.common.settings.cohort import CohortIndex, CohortTable
from wardround.common.settings.concepts import OMOP, SYSTEMS, Concept


@dataclass(frozen=True)
class Statement:
    """what : in messages, such as 'records of measurement'; of : '' of patients and deaths"""

    what: str
    of: str
    query: Query


@dataclass(frozen=True)
class _Wanted:
    """Concepts of one variable, by its place."""

    number: int
    name: str
    low: int
    high: int
    concepts: tuple[Concept, ...]


class CohortSql:
    """Makes the statements of one cohort, for one source and database."""

    def __init__(self, cohort: CohortTable, source: OmopSource, dialect: Dialect) -> None:
        self._cohort, self._dialect, self._source = cohort, dialect, source
        self._vocabulary = source.vocabulary

    def all(self) -> Iterator[Statement]:
        """In the order in which they are asked."""
        for what, of, query in self._each():
            yield Statement(what, of, replace(query, what=what))

    def _each(self) -> Iterator[tuple[str, str, Query]]:
        yield "index events", "index", self._index()
        yield "patients", "", self._patients()
        if any(one.of == "death" for one in self._cohort.variables.values()):
            yield "deaths", "", self._deaths()
        for of in TABLES:
            if wanted := list(self._wanted(of)):
                yield f"records of {of}", of, self._records(of, wanted)

    def concepts(self) -> Query:
        """Which concepts each variable (-1: the index event) has at all."""
        index = self._cohort.index
        every = [_Wanted(-1, "index", 0, 0, index.wanted)]
        for of in TABLES:
            every += self._wanted(of)
        ctes = self._found("wanted", [one for one in every if one.concepts])
        return self._query([*ctes], "SELECT DISTINCT variable, concept FROM wanted")

    # --- statements -------------------------------------------------------------------------------
    def _index(self) -> Query:
        return self._query(self._days(dated=False), "SELECT person_id, day FROM days")

    def _patients(self) -> Query:
        person = self._table("person")
        return self._query(
            self._days(dated=False),
            "SELECT p.person_id, p.person_source_value, p.gender_concept_id, p.year_of_birth, "
            "p.month_of_birth,\n  p.day_of_birth\n"
            f"FROM {person} p WHERE p.person_id IN (SELECT person_id FROM days)",
        )

    def _deaths(self) -> Query:
        day = self._dialect.told_day("d.death_date")
        return self._query(
            self._days(dated=True),
            f"SELECT d.person_id, {day} AS day FROM {self._table('death')} d\n"
            "WHERE d.person_id IN (SELECT person_id FROM days)",
        )

    def _records(self, of: str, wanted: list[_Wanted]) -> Query:
        table = TABLES[of]
        ctes = self._days(dated=True)
        named = [one for one in wanted if one.concepts]
        ctes += self._found("wanted", named)
        branches = []
        if named:
            for column in (table.concept, table.source):
                branches.append(self._branch(table, f"JOIN wanted w ON w.concept = e.{column}"))
        if free := [one for one in wanted if not one.concepts]:
            rows = ", ".join(f"({one.number}, {one.low}, {one.high})" for one in free)
            ctes.append(f"free(variable, low, high) AS (VALUES {rows})")
            branches.append(self._branch(table, "CROSS JOIN free w"))
        # a record may have two of the concepts: it counts once
        return self._query(ctes, "\nUNION\n".join(branches))

    def _branch(self, table: Clinical, join: str) -> str:
        dialect = self._dialect
        day = dialect.day(f"e.{table.day}")
        columns = [
            "w.variable",
            f"e.{table.id} AS record",
            "e.person_id",
            f"{dialect.told_day(f'e.{table.day}')} AS day",
            f"{dialect.moment(f'e.{table.moment}')} AS moment",
        ]
        if table.has_values:
            columns += [f"{dialect.number('e.value_as_number')} AS number"]
            columns += ["e.value_as_concept_id AS answer", "e.unit_concept_id AS unit"]
            columns += ["e.unit_source_value AS unit_text"]
        low, high = dialect.later("d.day", "w.low"), dialect.later("d.day", "w.high")
        return (
            f"SELECT {', '.join(columns)}\nFROM {self._table(table.name)} e {join}\n"
            f"WHERE EXISTS (SELECT 1 FROM days d WHERE d.person_id = e.person_id\n"
            f"  AND ({day} IS NULL OR {day} BETWEEN {low} AND {high}))"
        )

    # --- parts ------------------------------------------------------------------------------------
    def _days(self, dated: bool) -> list[str]:
        """``days(person_id, day)``: of index events; with a day in the study's dates, or all."""
        index = self._cohort.index
        table = TABLES[index.event]
        column = f"e.{table.end if index.date == 'end' else table.day}"
        day = self._dialect.day(column)
        ctes, where = list[str](), list[str]()
        if dated:
            where = [f"{day} IS NOT NULL", *self._dates(index, day)]
        else:
            day = self._dialect.told_day(column)
        if index.concepts:
            ctes = self._found("event", [_Wanted(-1, "index", 0, 0, index.wanted)])
            either = [
                f"e.{c} IN (SELECT concept FROM event)" for c in (table.concept, table.source)
            ]
            where.append(f"({' OR '.join(either)})")
        if index.event == "measurement":
            where.append("(e.value_as_number IS NOT NULL OR e.value_as_concept_id IS NOT NULL)")
        held = "\n  WHERE " + "\n    AND ".join(where) if where else ""
        ctes.append(
            f"days(person_id, day) AS (\n  SELECT DISTINCT e.person_id, {day}\n"
            f"  FROM {self._table(table.name)} e{held})"
        )
        return ctes

    def _dates(self, index: CohortIndex, day: str) -> Iterator[str]:
        if index.earliest:
            yield f"{day} >= {self._dialect.date(index.earliest)}"
        if index.latest:
            yield f"{day} <= {self._dialect.date(index.latest)}"

    def _wanted(self, of: str) -> Iterator[_Wanted]:
        for number, (name, one) in enumerate(self._cohort.variables.items()):
            if one.of == of:
                yield _Wanted(number, name, *one.window, one.wanted)

    def _found(self, name: str, wanted: Sequence[_Wanted]) -> list[str]:
        """``name(variable, low, high, concept)``: the concepts of codes and of ids."""
        head = f"{name}(variable, low, high, concept) AS ("
        ctes, parts = [], []
        pairs = [(one, concept) for one in wanted for concept in one.concepts]
        if ids := [(one, c) for one, c in pairs if c.system == OMOP]:
            parts.append(_values(f"{_key(one)}, {int(c.code)}" for one, c in ids))
        if above := [(one, c) for one, c in pairs if c.system == OMOP and c.prefix]:
            list_ = f"{name}_above"
            rows = _values(f"{_key(one)}, {int(c.code)}" for one, c in above)
            ctes.append(f"{list_}(variable, low, high, concept) AS (\n  {rows})")
            ancestor = self._table("concept_ancestor", self._vocabulary)
            parts.append(
                f"SELECT k.variable, k.low, k.high, a.descendant_concept_id FROM {list_} k\n"
                f"    JOIN {ancestor} a ON a.ancestor_concept_id = k.concept"
            )
        for prefix, match in (
            (False, "c.concept_code = k.code"),
            (True, "substr(c.concept_code, 1, length(k.code)) = k.code"),
        ):
            codes = [
                f"{_key(one)}, {literal(vocabulary)}, {literal(c.code)}"
                for one, c in pairs
                if c.prefix == prefix
                for vocabulary in SYSTEMS[c.system].omop
            ]
            if codes:
                list_ = f"{name}_{'begins' if prefix else 'codes'}"
                ctes.append(
                    f"{list_}(variable, low, high, vocabulary, code) AS (\n  {_values(codes)})"
                )
                parts += self._of_codes(list_, match)
        if not parts:  # of systems that OMOP hasn't
            parts.append("SELECT -1, 0, 0, -1 WHERE 1 = 0")
        names, body = ", ".join(one.name for one in wanted), "\n  UNION ALL ".join(parts)
        return [*ctes, f"-- {names}\n{head}\n  {body})"]

    def _of_codes(self, codes: str, match: str) -> Iterator[str]:
        concept = self._table("concept", self._vocabulary)
        found = f"FROM {codes} k JOIN {concept} c ON c.vocabulary_id = k.vocabulary AND {match}"
        yield f"SELECT k.variable, k.low, k.high, c.concept_id {found}"
        if self._source.maps_to:
            relation = self._table("concept_relationship", self._vocabulary)
            yield (
                f"SELECT k.variable, k.low, k.high, r.concept_id_2 {found}\n    JOIN {relation} r "
                "ON r.concept_id_1 = c.concept_id AND r.relationship_id = 'Maps to'\n    "
                "AND r.concept_id_2 <> c.concept_id AND r.invalid_reason IS NULL"
            )

    def _table(self, name: str, schema: str | None = None) -> str:
        return qualified(self._source.cdm_schema if schema is None else schema, name)

    def _query(self, ctes: list[str], select: str) -> Query:
        return Query("WITH " + ",\n".join(ctes) + f"\n{select}")


def _key(one: _Wanted) -> str:
    return f"{one.number}, {one.low}, {one.high}"


def _values(rows: Iterable[str]) -> str:
    return "VALUES " + ", ".join(f"({row})" for row in rows)
