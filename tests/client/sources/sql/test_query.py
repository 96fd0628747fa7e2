"""What a hospital's query file may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from wardround.client.sources.sql.query import Query, read_query
from wardround.common.errors import DataError

READS = (
    "SELECT 1",
    "select ';' as a, \"b;c\" from t;\n",
    "-- the cohort; of north\nWITH x AS (SELECT 1) SELECT * FROM x ; -- end",
    "/* a /* nested */ ; comment */ (SELECT 1)",
    "SELECT $$;$$, $q$ ' ; $q$, E'it\\'s ;' ; ;",
    "\ufeffVALUES (1)",
)
REFUSED = (
    ("", "has no statement"),
    ("-- nothing\n;", "has no statement"),
    ("DELETE FROM t", "line 1: begins with DELETE"),
    ("SELECT 1;\nDROP TABLE t", "line 2: a second statement"),
    ("SELECT 1; SELECT 2", "line 1: a second statement"),
    ("SELECT 'Smith", "line 1: a quotation mark has no second one"),
    ("SELECT 1 /* ;", "line 1: a comment"),
    ("SELECT $x$ 1", "$x$ has no second one"),
    ("COPY t TO '/tmp/x'", "begins with COPY"),
)


@pytest.mark.parametrize("text", READS)
def test_one_statement_is_read_without_its_semicolon(tmp_path: Path, text: str) -> None:
    file = tmp_path / "q.sql"
    file.write_text(text)
    query = read_query(file, "[data.x]")
    assert query.text == text.removeprefix("\ufeff")[: len(query.text)]
    assert not query.text.rstrip().endswith(";")


@pytest.mark.parametrize(("text", "words"), REFUSED)
def test_others_are_refused_by_their_line(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "q.sql"
    file.write_text(text)
    with pytest.raises(DataError) as caught:
        read_query(file, "[data.x]")
    assert words in str(caught.value) and str(file) in str(caught.value)
    assert "Smith" not in str(caught.value)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "q.sql"
    for content, words in (
        (b"SELECT 1\nFROM t\xfc", "line 2: isn't UTF-8"),
        (b"SELECT 1\0", "NUL byte"),
        (b"-" * (2**20 + 1), "over 1 MiB"),
    ):
        file.write_bytes(content)
        with pytest.raises(DataError, match=words):
            read_query(file, "[data.x]")
    with pytest.raises(DataError, match="gone.sql: can't be read"):
        read_query(tmp_path / "gone.sql", "[data.x]")


def test_a_place_is_a_line_and_a_name_never_a_text() -> None:
    query = Query("SELECT age\nFROM persons WHERE name = 'Smith'", Path("q.sql"))
    assert query.place(7) == "q.sql, line 1, at age"
    assert query.place(query.text.index("persons")) == "q.sql, line 2, at persons"
    assert query.place(query.text.index("'Smith")) == "q.sql, line 2"
