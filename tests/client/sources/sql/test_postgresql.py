"""PostgreSQL: types by its own word, one moment, nothing written, and no cell in a message."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest

from tests.client.sources.sql.reading import CANARY, read, table
from tests.postgres import PostgreSQL
from wardround.client.sources.sql.address import Address, read_address
from wardround.client.sources.sql.opened import opened
from wardround.client.sources.sql.query import Query
from wardround.common.errors import DataError

pytestmark = pytest.mark.xdist_group("postgresql")
FILL = f"""
CREATE TYPE sex AS ENUM ('m', 'f'); CREATE DOMAIN mrn AS text;
CREATE TABLE t (id int, big bigint, x float8, f real, n numeric(12, 2), b bool, d date,
  at timestamptz, local timestamp, name text, pad char(4), sex sex, mrn mrn, u uuid);
INSERT INTO t VALUES
 (1, 9007199254740993, 0.1, 0.1, 88.42, true, '1899-12-31', '2024-03-01 01:30:00+02',
  '2024-03-01 01:30:00.25', 'a "b", c' || chr(10) || 'd', 'm', 'f', '007', gen_random_uuid()),
 (2, NULL, 'NaN', 'Infinity', NULL, false, NULL, NULL, NULL, '', '', NULL, NULL, NULL),
 (3, -1, 1e-300, 3, 1e9, NULL, '9999-12-31', '1970-01-01 00:00:00.123456+00', NULL, NULL, NULL,
  'm', 'NULL', NULL);
CREATE TABLE odd (name text, raw bytea, many int[], j jsonb, day date);
INSERT INTO odd VALUES ('{CANARY}', 'x', '{{1}}', '{{}}', 'infinity');
"""


@pytest.fixture(scope="module")
def url(postgresql: PostgreSQL) -> Iterator[str]:
    url = postgresql.fresh()
    plain = url.replace("+psycopg", "")
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(FILL)  # type: ignore[arg-type]
    yield plain
    postgresql.drop(url)


def address(url: str, monkeypatch: pytest.MonkeyPatch) -> Address:
    monkeypatch.setenv("EHR_URL", url)
    return read_address("env:EHR_URL", Path(), "[data.x]")


def test_types_are_the_databases(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = table(address(url, monkeypatch), "SELECT * FROM t ORDER BY id -- all")
    types = {field.name: field.type for field in found.schema}
    assert types == {
        **dict.fromkeys(("id", "big"), pa.int64()),
        **dict.fromkeys(("x", "f", "n"), pa.float64()),
        **dict.fromkeys(("name", "pad", "sex", "mrn", "u"), pa.string()),
        **dict.fromkeys(("at", "local"), pa.timestamp("us")),
        **{"b": pa.bool_(), "d": pa.date32()},
    }
    first, second, third = found.drop_columns(["u"]).to_pylist()
    assert first == {
        "id": 1,
        "big": 2**53 + 1,
        "x": 0.1,
        "f": 0.1,
        "n": 88.42,
        "b": True,
        "d": date(1899, 12, 31),
        "at": datetime(2024, 2, 29, 23, 30),
        "local": datetime(2024, 3, 1, 1, 30, 0, 250_000),
        "name": 'a "b", c\nd',
        "pad": "m",
        "sex": "f",
        "mrn": "007",
    }
    assert math.isnan(second["x"]) and second["f"] == math.inf
    assert (second["name"], second["pad"], second["mrn"]) == ("", "", None)
    assert third["x"] == 1e-300 and third["mrn"] == "NULL" and third["name"] is None
    assert third["at"] == datetime(1970, 1, 1, 0, 0, 0, 123_456)


def test_empty_lines_are_rows_and_blocks_are_joined(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wardround.client.sources.sql.postgresql._BLOCK_BYTES", 4096)
    batches = read(
        address(url, monkeypatch),
        "SELECT CASE WHEN i % 3 > 0 THEN repeat(chr(10), i % 4) END AS only FROM "
        "generate_series(1, 3000) i ORDER BY i",
    )
    assert len(batches) > 2
    want = [("\n" * (i % 4)) if i % 3 else None for i in range(1, 3001)]
    assert pa.Table.from_batches(batches)["only"].to_pylist() == want
    (none,) = read(address(url, monkeypatch), "SELECT id, name FROM t WHERE false")
    assert none.num_rows == 0 and none.schema.types == [pa.int64(), pa.string()]


@pytest.mark.parametrize(
    ("text", "words"),
    (
        ("SELECT raw FROM odd", "column 'raw' is of type bytea"),
        ("SELECT many FROM odd", "column 'many' is of type _int4"),
        ("SELECT j FROM odd", "column 'j' is of type jsonb"),
        ("SELECT day FROM odd", r"column 'day' \(date32\[day\]\) has a value"),
        ("SELECT 1 AS a, 2 AS a", "two columns of the answer are called 'a'"),
        ("SELECT name::int AS n FROM odd", r"cohort.sql: SQLSTATE 22P02 \(Invalid.*a cast"),
        ("SELECT 1 AS one,\n nobody FROM odd", "cohort.sql, line 2, at nobody: SQLSTATE 42703"),
        ("SELECT 1 FROM gone", "cohort.sql, line 1, at gone: SQLSTATE 42P01"),
        ("SELECT 1 FRUM odd", "SQLSTATE 42601"),
        (f"SELECT '{CANARY}'::int", "cohort.sql, line 1: SQLSTATE 22P02"),
        ("SELECT 1; DROP TABLE t", "SQLSTATE 42601"),
        ("DELETE FROM t", "no answer of rows"),
        ("DELETE FROM t RETURNING id", "SQLSTATE 25006.*write a SELECT"),
        ("WITH x AS (DELETE FROM t RETURNING id) SELECT * FROM x", "SQLSTATE (25006|0A000)"),
        ("SELECT 1) TO STDOUT; DROP TABLE t; --", "SQLSTATE 42601"),
        ("SELECT pg_sleep(20)::text AS s", "took longer than 0.2 s.*statement_timeout_s"),
    ),
)
def test_errors_are_a_code_a_place_and_a_mend(
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    text: str,
    words: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(DataError, match=words) as caught:
        read(address(url, monkeypatch), text, 0.2)
    error: BaseException | None = caught.value
    assert "\n" not in str(error)
    while error is not None and not error.__suppress_context__:
        assert CANARY not in str(error)
        error = error.__cause__ or error.__context__
    assert CANARY not in str(caught.value) + caplog.text
    assert len(read(address(url, monkeypatch), "SELECT * FROM t")) == 1  # all is there


def test_a_statement_sees_one_moment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(address(url, monkeypatch), 60) as database:
        before = database.ask("SELECT count(*) FROM t WHERE name LIKE ? OR id > ?", ("%", 0))
        with psycopg.connect(url) as other:
            other.execute("INSERT INTO t (id) VALUES (99)")
        assert database.ask("SELECT count(*) FROM t WHERE id > ?", (0,)) == before == [(3,)]
        (batch,) = database.rows(Query("SELECT id FROM t"))
        assert batch.num_rows == 3
    with psycopg.connect(url) as other:
        other.execute("DELETE FROM t WHERE id = 99")


def test_no_connection_is_told_without_a_password(
    url: str, postgresql: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = postgresql.password
    for wrong, words in (
        (url.replace(secret, f"{secret}x"), "refuses the user or the password"),
        (url.replace(f":{postgresql.port}/", ":1/"), "nobody listens there"),
        (f"{url}9", "no such database or user"),
        (f"{url}?nonsense=1", "an option that PostgreSQL doesn't know"),
    ):
        with pytest.raises(DataError, match=f"can't be reached: .*{words}") as caught:
            read(address(wrong, monkeypatch), "SELECT 1")
        assert secret not in str(caught.value) and caught.value.__suppress_context__


def test_a_role_that_could_write_is_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = url.rpartition("/")[2]

    def as_reader(*grants: str) -> tuple[str, str]:
        with psycopg.connect(url, autocommit=True) as connection:
            for grant in grants:
                connection.execute(grant)  # type: ignore[arg-type]
        user, _, rest = url.partition("://")[2].partition("@")
        with opened(address(f"postgresql://reader:r@{rest}", monkeypatch), 60) as database:
            return database.may_write()

    assert "role 'ward' is a superuser" in _rights(url, monkeypatch)[0]
    base = (
        "DROP ROLE IF EXISTS reader",
        "DROP ROLE IF EXISTS writer",
        "CREATE ROLE reader LOGIN PASSWORD 'r'",
        "CREATE ROLE writer",
        "GRANT SELECT ON t TO reader",
        "ALTER ROLE reader SET default_transaction_read_only = on",
    )
    assert as_reader(*base) == ("", "")
    for grant, words, undo in (
        ("GRANT UPDATE (name) ON t TO reader", "may write public.t", "REVOKE ALL ON t FROM reader"),
        (
            "GRANT CREATE ON SCHEMA public TO PUBLIC",
            "may make tables in schema public",
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        ),
        (
            f"GRANT CREATE ON DATABASE {name} TO reader",
            "may make schemas",
            f"REVOKE CREATE ON DATABASE {name} FROM reader",
        ),
        (
            "GRANT pg_write_all_data TO writer; GRANT writer TO reader",
            "member of 'pg_write_all_data'",
            "REVOKE writer FROM reader; REVOKE pg_write_all_data FROM writer",
        ),
        (
            "ALTER ROLE reader CREATEDB",
            "'reader' may make databases",
            "ALTER ROLE reader NOCREATEDB",
        ),
    ):
        assert words in as_reader(grant)[0]
        assert as_reader(undo) == ("", "")
    with psycopg.connect(url, autocommit=True) as connection:
        for role in ("reader", "writer"):
            connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")  # type: ignore[arg-type]


def _rights(url: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    with opened(address(url, monkeypatch), 60) as database:
        return database.may_write()


def test_rows_are_estimated_by_the_planner(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(address(url, monkeypatch), 60) as database:
        database_rows, exact = database.estimate(Query("SELECT 1 FROM generate_series(1, 500)"))
        assert (database_rows, exact) == (500, False)
        assert database.version().startswith("PostgreSQL ")
