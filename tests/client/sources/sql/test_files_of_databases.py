"""SQLite, DuckDB and what SQLAlchemy reaches: types, batches, and what errors tell."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from tests.client.sources.sql.reading import CANARY, read, table
from wardround.client.sources.sql import cells
from wardround.client.sources.sql.address import Address, read_address
from wardround.client.sources.sql.opened import opened
from wardround.client.sources.sql.query import Query
from wardround.common.errors import DataError

MANY = 50_001


@pytest.fixture(scope="module")
def sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "ehr.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (id INTEGER, x, mixed, gaps, name TEXT)")
        last = MANY - 1
        connection.executemany(
            "INSERT INTO t VALUES (?, ?, ?, ?, ?)",
            (
                (n, n if n < last else 0.5, n if n < last else "<5", None, f"n{n % 7}")
                for n in range(MANY)
            ),
        )
        connection.execute("CREATE TABLE odd (name TEXT, big, raw BLOB)")
        connection.execute("INSERT INTO odd VALUES (?, ?, ?)", (CANARY, 2**62 + 1, b"x"))
        connection.execute("INSERT INTO odd VALUES ('a', 0.5, x'00')")
    return path


@pytest.fixture(scope="module")
def duckdb_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("duckdb") / "ehr.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"CREATE TABLE t AS SELECT '{CANARY}' AS name")
    return path


def kinds(path: Path, duck: Path) -> dict[str, Address]:
    """One address for each form of reading a file."""
    sqlite = read_address(f"sqlite:///{path}", Path(), "[data.x]")
    other = Address("other", f"sqlite:///{path}", "[data.x] (other)")
    return {"sqlite": sqlite, "other": other}


@pytest.mark.parametrize("kind", ["sqlite", "other"])
def test_a_column_is_what_all_its_values_are(
    sqlite_file: Path, duckdb_file: Path, kind: str
) -> None:
    batches = read(kinds(sqlite_file, duckdb_file)[kind], "SELECT * FROM t ORDER BY id")
    assert len(batches) == 3  # of 20,000 rows
    found = pa.Table.from_batches(batches)  # raises if one has another schema
    assert {f.name: str(f.type) for f in found.schema} == {
        "id": "int64",
        "x": "double",
        "mixed": "string",
        "gaps": "string",
        "name": "string",
    }
    assert found.num_rows == MANY and found["gaps"].null_count == MANY
    assert found["x"][1].as_py() == 1.0 and found["x"][-1].as_py() == 0.5
    assert found["mixed"][1].as_py() == "1" and found["mixed"][-1].as_py() == "<5"


def test_no_rows_have_columns_all_the_same(sqlite_file: Path, duckdb_file: Path) -> None:
    for address in kinds(sqlite_file, duckdb_file).values():
        (batch,) = read(address, "SELECT id, name FROM t WHERE id < 0")
        assert batch.num_rows == 0 and batch.schema.names == ["id", "name"]


REFUSED = (
    ("SELECT raw FROM odd", "column 'raw' is of type (BLOB|bytes)"),
    ("SELECT big FROM odd", "column 'big' has a value that isn't of its type"),
    ("SELECT 1 AS a, 2 AS a", "two columns of the answer are called 'a'"),
    ("SELECT nobody FROM odd", "(SQLITE_ERROR|OperationalError)"),
)


@pytest.mark.parametrize("kind", ["sqlite", "other"])
@pytest.mark.parametrize(("text", "words"), REFUSED)
def test_refusals_name_the_column(
    sqlite_file: Path, duckdb_file: Path, kind: str, text: str, words: str
) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read(kinds(sqlite_file, duckdb_file)[kind], text)
    chain = [caught.value, caught.value.__cause__]
    assert not any(CANARY in str(one) for one in chain) and str(caught.value).count("\n") == 0


def test_nothing_is_written(sqlite_file: Path, duckdb_file: Path) -> None:
    before = sqlite_file.read_bytes()
    sqlite = read_address(f"sqlite:///{sqlite_file}", Path(), "[data.x]")
    with opened(sqlite, 60) as database:
        for text in ("DELETE FROM t", "PRAGMA query_only = OFF", "INSERT INTO t DEFAULT VALUES"):
            with pytest.raises(DataError):
                read_all(database.rows, text)
    with opened(Address("other", f"sqlite:///{sqlite_file}", "o"), 60) as database:
        with pytest.raises(DataError):
            database.ask("DELETE FROM t")
    assert sqlite_file.read_bytes() == before
    duck = read_address(f"duckdb:///{duckdb_file}", Path(), "[data.x]")
    for text in ("DELETE FROM t", f"COPY t TO '{duckdb_file}.csv'", "SELECT 1; SELECT 2"):
        with pytest.raises(DataError):
            read(duck, text)
    assert not Path(f"{duckdb_file}.csv").exists()


def read_all(rows: Callable[[Query], object], text: str) -> None:
    list(rows(Query(text)))  # type: ignore[call-overload]


def test_duckdb_gives_the_usual_types(duckdb_file: Path) -> None:
    address = read_address(f"duckdb:///{duckdb_file}", Path(), "[data.x]")
    found = table(
        address,
        "SELECT 88.42::DECIMAL(10, 2) AS d, 0.1::FLOAT AS f, 7::HUGEINT AS h, 3::TINYINT AS i, "
        "true AS b, DATE '1899-12-31' AS day, TIMESTAMPTZ '2024-03-01 01:30:00+02' AS at, "
        "'f'::ENUM('m', 'f') AS sex, uuid() AS u, NULL AS nothing",
    )
    assert found.to_pylist()[0] | {"u": ""} == {
        "d": 88.42,
        "f": 0.1,
        "h": 7.0,
        "i": 3,
        "b": True,
        "day": date(1899, 12, 31),
        "at": datetime(2024, 2, 29, 23, 30),
        "sex": "f",
        "u": "",
        "nothing": found["nothing"][0].as_py(),
    }
    for text, words in (
        ("SELECT [1, 2] AS many", "column 'many' is of type list"),
        ("SELECT 'x'::BLOB AS raw", "column 'raw' is of type binary"),
        ("SELECT {'a': 1} AS nested", "column 'nested' is of type struct"),
        ("SELECT CAST(name AS INTEGER) FROM t", "ConversionException.*cast"),
        ("SELECT nobody FROM t", "BinderException"),
    ):
        with pytest.raises(DataError, match=words) as caught:
            read(address, text)
        assert CANARY not in str(caught.value)


def test_a_statement_is_ended_in_time(sqlite_file: Path, duckdb_file: Path) -> None:
    slow = {
        f"sqlite:///{sqlite_file}": "SELECT count(*) AS n FROM t a, t b, t c",
        f"duckdb:///{duckdb_file}": "SELECT count(*) AS n FROM range(1000000) a, range(1000000) b "
        "WHERE a.range * b.range % 7 = 3",
    }
    for url, text in slow.items():
        address = read_address(url, Path(), "[data.x]")
        with pytest.raises(DataError, match="took longer than 0.1 s.*statement_timeout_s"):
            read(address, text, 0.1)


def test_files_that_are_no_databases(tmp_path: Path) -> None:
    file = tmp_path / "x.db"
    file.write_bytes(b"PatNr;Name\n" * 500)
    for kind, words in (("sqlite", "SQLITE_NOTADB"), ("duckdb", "IOException")):
        with pytest.raises(DataError, match=words):
            read(read_address(f"{kind}:///{file}", Path(), "[data.x]"), "SELECT 1")


def test_who_may_write_a_file_is_told_by_its_rights(sqlite_file: Path) -> None:
    address = read_address(f"sqlite:///{sqlite_file}", Path(), "[data.x]")
    with opened(address, 60) as database:
        sqlite_file.chmod(0o600)
        assert "this user may write" in database.may_write()[0]
        sqlite_file.chmod(0o440)
        assert database.may_write() == ("", "")
        assert database.estimate(Query("SELECT * FROM t")) == (MANY, True)


def test_canonical_texts_and_times() -> None:
    assert [cells.text_of(v) for v in (12.0, 1e300, True, date(2020, 1, 2), -0.5)] == [
        "12",
        "1e+300",
        "true",
        "2020-01-02",
        "-0.5",
    ]
    assert cells.moment(date(2020, 1, 2)) == datetime(2020, 1, 2)
