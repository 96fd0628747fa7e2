"""A made-up CDM in SQLite, DuckDB and PostgreSQL against the same answer in plain Python."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import duckdb
import psycopg
import pyarrow as pa
import pytest

from tests.client.sources.omop.made_up import (
    COHORT,
    COLUMNS,
    CONCEPTS,
    RELATIONS,
    Rows,
    answer,
    fill,
    fill_sqlite,
    make,
)
from tests.client.sources.sql.reading import CANARY
from tests.postgres import PostgreSQL
from wardround.client.sources.omop.settings import OmopSource
from wardround.client.sources.omop.shown import shown_sql
from wardround.client.sources.omop.source import OmopRows
from wardround.client.sources.omop.tables import literal
from wardround.client.sources.source import Asked
from wardround.common.config.load import parse_config
from wardround.common.errors import DataError

pytestmark = pytest.mark.xdist_group("postgresql")
TASK = '[task.columns]\ntarget = "died"\nignore = ["index_date"]\n'


@pytest.fixture(scope="module")
def tables() -> dict[str, Rows]:
    return make()


@pytest.fixture(scope="module")
def files(tables: dict[str, Rows], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("omop")
    with sqlite3.connect(folder / "ehr.sqlite") as connection:
        fill_sqlite(connection, tables)
    with duckdb.connect(str(folder / "ehr.duckdb")) as duck:
        duck.execute("CREATE SCHEMA cdm; USE cdm")

        def execute(text: str, rows: Rows) -> None:
            head, _, marks = text.partition(" VALUES ")
            every = f" VALUES {', '.join([marks] * len(rows))}" if rows else ""
            duck.execute(f"{head}{every}", [value for row in rows for value in row])

        fill(execute, tables)
    return folder


@pytest.fixture(scope="module")
def url(postgresql: PostgreSQL, tables: dict[str, Rows]) -> Iterator[str]:
    url = postgresql.fresh()
    plain = url.replace("+psycopg", "")
    with psycopg.connect(plain) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA cdm; SET search_path TO cdm")

        def execute(text: str, rows: Rows) -> None:
            if rows:
                cursor.executemany(text.encode(), rows)
            else:
                cursor.execute(text.encode())

        fill(execute, tables, "%s")
    yield plain
    postgresql.drop(url)


def read(
    source: OmopSource, base: Path, cohort: str, said: list[str] | None = None
) -> tuple[pa.Table, OmopRows]:
    asked = Asked(
        parse_config(TASK + cohort), base, "cdm", [].append if said is None else said.append
    )
    rows = OmopRows(source)
    return pa.Table.from_batches(list(rows.batches(asked))), rows


@pytest.mark.parametrize("take", ["first", "last", "each"])
@pytest.mark.parametrize("kind", ["sqlite", "duckdb", "postgresql"])
def test_the_answer_is_that_of_plain_python(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tables: dict[str, Rows],
    files: Path,
    kind: str,
    take: str,
) -> None:
    monkeypatch.setenv("CDM", f"{kind}:///ehr.{kind}")
    if kind == "postgresql":
        monkeypatch.setenv("CDM", request.getfixturevalue("url"))
    schema = "" if kind == "sqlite" else "cdm"
    found, _ = read(
        OmopSource(url="env:CDM", cdm_schema=schema), files, COHORT.replace("TAKE", take)
    )
    want = answer(tables, take)
    assert len(want) > 100 and [tuple(row.values()) for row in found.to_pylist()] == want
    for column, values in zip(found.column_names, zip(*want, strict=True), strict=True):
        assert len(set(values)) > (1 if column != "surgery" else 0), f"{column} tests nothing"


SMALL = """
[cohort.index]
event = "visit"
concepts = [CONCEPTS]
[cohort.variables.creatinine]
of = "measurement"
concepts = ["LOINC:2160-0"]
window_days = [-2, 0]
unit = "umol/L"
[cohort.variables.diabetes]
of = "condition"
concepts = ["ICD10CM:E11*"]
window_days = [-10, 0]
[cohort.variables.died]
of = "death"
window_days = [0, 30]
"""


def small(
    tmp_path: Path, change: Callable[[dict[str, Rows]], None] = lambda tables: None
) -> OmopSource:
    """Two persons with a stay each, one of them with a creatinine."""
    day = date(2020, 5, 4)
    tables: dict[str, Rows] = {name: [] for name in COLUMNS}
    tables["person"] = [(1, 8507, 1950, 1, 1, "A"), (2, 8532, 1960, None, None, "B")]
    tables["visit_occurrence"] = [(n, n, 9201, day, None, None, 0) for n in (1, 2)]
    tables["measurement"] = [(1, 1, 3016723, day, None, 80.5, None, 8749, None, 0)]
    tables["condition_occurrence"] = [(1, 1, 201826, day, None, 0)]
    tables["concept"], tables["concept_relationship"] = list(CONCEPTS), list(RELATIONS)
    change(tables)
    (tmp_path / "cdm.sqlite").unlink(missing_ok=True)
    with sqlite3.connect(tmp_path / "cdm.sqlite") as connection:
        fill_sqlite(connection, tables)
    return OmopSource(url="sqlite:///cdm.sqlite")


def asked_for(*concepts: str) -> str:
    return SMALL.replace("CONCEPTS", ", ".join(f'"{one}"' for one in concepts))


def test_a_code_means_what_it_maps_to_where_the_hospital_says_so(tmp_path: Path) -> None:
    own = small(tmp_path)
    found, _ = read(own, tmp_path, asked_for("OMOP:9201"))
    assert found["diabetes"].to_pylist() == [0, 0]
    found, _ = read(own.model_copy(update={"maps_to": True}), tmp_path, asked_for("OMOP:9201"))
    assert found["diabetes"].to_pylist() == [1, 0]
    named = own.model_copy(update={"patients_by": "person_source_value"})
    found, _ = read(named, tmp_path, asked_for("OMOP:9201"))
    assert found["patient_id"].to_pylist() == ["A", "B"]


def without(*names: str) -> Callable[[dict[str, Rows]], None]:
    return lambda tables: [tables.__setitem__(name, []) for name in names] and None


@pytest.mark.parametrize(
    ("change", "concept", "words"),
    [
        (without("concept"), "SNOMED:32485007", r"the vocabulary isn't loaded \(concept has no"),
        (without(), "SNOMED:32485007", "the vocabulary has no concept SNOMED:32485007$"),
        (without("visit_occurrence"), "OMOP:9201", "visit_occurrence has no rows$"),
        (without(), "OMOP:9203", "visit_occurrence has no record of the index event's concepts"),
        (without("person"), "OMOP:9201", "2 index events of nobody in the table person, 0 index"),
    ],
)
def test_an_empty_cohort_says_why_at_home(
    tmp_path: Path, change: Callable[[dict[str, Rows]], None], concept: str, words: str
) -> None:
    with pytest.raises(DataError, match=rf"\[data.cdm\]: no row answers the cohort: .*{words}"):
        read(small(tmp_path, change), tmp_path, asked_for(concept))


def test_an_empty_column_says_why_at_home(tmp_path: Path) -> None:
    def told(change: Callable[[dict[str, Rows]], None]) -> str:
        said: list[str] = []
        read(small(tmp_path, change), tmp_path, asked_for("OMOP:9201"), said)
        return " ".join(said)

    assert "column 'diabetes' is empty: condition_occurrence has none of" in told(without())
    assert "column 'creatinine' is empty: measurement has no rows" in told(without("measurement"))
    assert "column 'creatinine' is empty: no concept can be found" in told(without("concept"))


def test_units_that_nothing_converts_are_counted_and_refused(tmp_path: Path) -> None:
    def strange(tables: dict[str, Rows]) -> None:
        day = date(2020, 5, 3)
        rows = [(8753, None), (9999, None), (0, CANARY), (0, None), (None, "mmol/L")]
        for n, (unit, text) in enumerate(rows, 2):
            tables["measurement"].append((n, 1, 3016723, day, None, 0.1, None, unit, text, 0))

    own = small(tmp_path, strange)
    with pytest.raises(DataError) as caught:
        read(own, tmp_path, asked_for("OMOP:9201"))
    text = str(caught.value)
    assert "3 of 8 records" in text and "1 records have unit OMOP:9999" in text
    assert "have no unit" in text and "unit_source_value" in text and CANARY not in text
    units = {"OMOP:9999": "mmol/L", CANARY: "mmol/L"}
    left = own.model_copy(update={"units": units, "left_out_share": 0.2})
    found, rows = read(left, tmp_path, asked_for("OMOP:9201"))
    assert found["creatinine"].to_pylist() == [80.5, None]
    assert {(one.count, one.what) for one in rows.left_out()} == {(1, "records")}


def put(name: str, *rows: tuple[object, ...]) -> Callable[[dict[str, Rows]], None]:
    return lambda tables: tables[name].extend(rows)


@pytest.mark.parametrize(
    ("change", "told", "creatinine"),
    [
        (put("measurement", (2, 1, 3016723, None, None, 7, None, 8749, None, 0)),
         "without a date", [80.5, None]),
        (put("measurement", (2, 2, 3016723, "4.5.2020", None, 7, None, 8749, None, 0)),
         "they can't be read", [80.5, None]),
        (put("measurement", (2, 2, 3016723, "2020-05-03", None, CANARY, None, 8749, None, 0)),
         "they can't be read", [80.5, None]),
        (put("measurement", (2, 2, 3016723, "2020-05-03", None, "7,1", None, 8749, None, 0)),
         "they can't be read", [80.5, None]),
        (put("measurement", (2, 2, 3016723, "2020-05-03", None, "70", None, 8749, None, 0)),
         "", [80.5, 70.0]),
        (put("visit_occurrence", (3, 2, 9201, "31.12.2019", None, None, 0)),
         "they can't be read", [80.5, None]),
        (put("visit_occurrence", (3, 9, 9201, "2020-05-04", None, None, 0)),
         "of nobody in the table person", [80.5, None]),
        (put("death", (2, CANARY)), "they can't be read", [80.5, None]),
    ],
)  # fmt: skip
def test_what_a_database_of_texts_holds_is_read_or_counted_never_guessed(
    tmp_path: Path,
    change: Callable[[dict[str, Rows]], None],
    told: str,
    creatinine: list[float | None],
) -> None:
    """SQLite's casts make 0 of any text, and nothing of what is no date."""
    own = small(tmp_path, change)
    found, rows = read(
        own.model_copy(update={"left_out_share": 0.5}), tmp_path, asked_for("OMOP:9201")
    )
    assert found["creatinine"].to_pylist() == creatinine
    left = [str(one) for one in rows.left_out()]
    assert (
        left == [] if not told else len(left) == 1 and told in left[0] and "1 record was" in left[0]
    )
    if told.startswith("they"):
        with pytest.raises(DataError, match="isn't written YYYY-MM-DD|no finite number") as caught:
            read(own, tmp_path, asked_for("OMOP:9201"))
        assert CANARY not in str(caught.value)


def test_an_index_event_without_a_day_is_told_as_such(tmp_path: Path) -> None:
    """Not as one of a day outside the study's dates."""
    own = small(tmp_path, put("visit_occurrence", (3, 2, 9201, None, None, None, 0)))
    said: list[str] = []
    found, _ = read(own, tmp_path, asked_for("OMOP:9201"), said)
    assert len(found) == 2
    told = " | ".join(said)
    assert re.search(r"\b1 of these without a day", told), told
    assert re.search(r"\b0 days outside", told), told


def test_a_table_that_lacks_is_told_by_what_is_asked_of_it(tmp_path: Path) -> None:
    own = small(tmp_path)
    with sqlite3.connect(tmp_path / "cdm.sqlite") as connection:
        connection.execute("DROP TABLE measurement")
    with pytest.raises(DataError, match="records of measurement: SQLITE_ERROR"):
        read(own, tmp_path, asked_for("OMOP:9201"))


def test_a_query_of_the_hospitals_own_answers_in_its_place(tmp_path: Path) -> None:
    own = small(tmp_path).model_copy(update={"query": "own.sql"})
    query = (
        "SELECT person_source_value AS patient_id, 80 AS creatinine, 1 AS diabetes, 0 AS died, "
        "'2020-05-04' AS index_date, 7 AS more FROM person ORDER BY 1"
    )
    (tmp_path / "own.sql").write_text(query)
    found, _ = read(own, tmp_path, asked_for("OMOP:9201"))
    assert found.to_pylist()[0] == {
        "patient_id": "A",
        "index_date": date(2020, 5, 4),
        "creatinine": 80.0,
        "diabetes": 1,
        "died": 0,
    }
    for change, words in (
        (query.replace("0 AS died", "0 AS dead"), "no column 'died'"),
        (query.replace("1 AS diabetes", f"'{CANARY}' AS diabetes"), "'diabetes' .*int64"),
    ):
        (tmp_path / "own.sql").write_text(change)
        with pytest.raises(DataError, match=words) as caught:
            read(own, tmp_path, asked_for("OMOP:9201"))
        assert CANARY not in str(caught.value)
    assert own.files(tmp_path) == [tmp_path / "own.sql"]


def test_what_is_shown_is_what_is_asked(tmp_path: Path) -> None:
    own = small(tmp_path)
    asked = Asked(parse_config(TASK + asked_for("OMOP:9201")), tmp_path, "cdm", print)
    first, *statements = shown_sql(own, asked)
    assert first.startswith("[data.cdm] answers it by this SQL, which only reads")
    with sqlite3.connect(tmp_path / "cdm.sqlite") as connection:
        answers = {
            text.partition("\n")[0]: connection.execute(text).fetchall() for text in statements
        }
    assert answers["-- index events"] == [(1, "2020-05-04"), (2, "2020-05-04")]
    assert [row[5] for row in answers["-- records of measurement"]] == [80.5]
    assert answers["-- records of condition"] == [] and answers["-- deaths"] == []


def test_nothing_of_a_study_leaves_its_literal() -> None:
    assert literal("E11.9/x^-+_ 0") == "'E11.9/x^-+_ 0'"
    for number in range(0x3000):
        if not (chr(number).isascii() and (chr(number).isalnum() or chr(number) in " ._/+^-")):
            with pytest.raises(ValueError, match="can't stand in SQL"):
                literal(f"E11{chr(number)}")
