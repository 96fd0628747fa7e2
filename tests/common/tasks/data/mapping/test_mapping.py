"""A hospital's columns become the study's: by its settings, row by row, and never by guessing."""

from __future__ import annotations

from datetime import date
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from wardround.common.config.source import Source, validation_error
from wardround.common.errors import DataError
from wardround.common.tasks.data.mapping.apply import column_problems, lines_by_row, map_rows
from wardround.common.tasks.data.mapping.settings import Mapping

CANARY = "Smith Jane"


def place(row: int, column: str) -> str:
    return f"x.csv:{row + 2}: column '{column}'"


def mapping(**tables: Any) -> Mapping:
    return Mapping.model_validate(tables)


def told(table: pa.Table, **tables: Any) -> list[str]:
    found = map_rows(table, mapping(**tables))
    lines = [line for each in lines_by_row(found.unmapped, place).values() for line in each]
    assert CANARY not in "".join(lines)
    return lines


def mapped(table: pa.Table, own: Mapping) -> pa.Table:
    found = map_rows(table, own)
    assert not found.unmapped
    return found.table


WARD = pa.table(
    {
        "PatNr": ["001", "002", "003"],
        "Kreatinin [mg/dL]": pa.array([1.0, -9.0, 2.5]),
        "Geschlecht": ["w", "F", "m "],
        "Temp": pa.array([98.6, None, 104.0]),
        "discharge": pa.array([date(2024, 1, 5), date(2024, 1, 9), None], pa.date32()),
        "admission": pa.array([date(2024, 1, 1), date(2024, 1, 8), date(2024, 1, 2)], pa.date32()),
    }
)
OWN: dict[str, Any] = {
    "rename": {"creatinine": "Kreatinin [mg/dL]", "sex": "Geschlecht", "temperature": "Temp"},
    "missing": {"creatinine": ["-9", "n/a"]},
    "codes": {"sex": {"female": ["w", "F"], "male": ["m"]}},
    "units": {
        "creatinine": {"from": "mg/dL", "to": "umol/L", "analyte": "creatinine"},
        "temperature": {"from": "[degF]", "to": "Cel"},
    },
    "derive": {
        "stay_days": "days(discharge - admission)",
        "high": "creatinine > 100",
        "long": "stay_days >= 4",
    },
}


def test_a_ward_table_becomes_the_studys() -> None:
    found = mapped(WARD, mapping(**OWN))
    assert found.column_names == [
        *("PatNr", "creatinine", "sex", "temperature", "discharge", "admission"),
        *("stay_days", "high", "long"),
    ]
    assert found["creatinine"].to_pylist() == [
        pytest.approx(88.4, rel=1e-3),
        None,
        pytest.approx(221, rel=1e-3),
    ]
    assert found["sex"].to_pylist() == ["female", "female", "male"]
    assert found["temperature"].to_pylist() == [pytest.approx(37.0), None, pytest.approx(40.0)]
    assert found["stay_days"].to_pylist() == [4.0, 1.0, None]
    assert found["high"].to_pylist() == [False, None, True]
    assert found["long"].to_pylist() == [True, False, None]
    assert found["PatNr"].to_pylist() == ["001", "002", "003"]  # what isn't named stays as it is
    assert mapped(WARD, Mapping()).equals(WARD)


def test_every_row_that_cant_be_mapped_is_named_by_place() -> None:
    table = pa.table(
        {
            "sex": ["f", CANARY, "m", "f"],
            "weight": ["80", "8O", None, CANARY],
            "seen": ["2024-01-01", CANARY, "01.02.2024", None],
        }
    )
    tables: dict[str, Any] = {
        "codes": {"sex": {"female": ["f"], "male": ["m"]}},
        "units": {"weight": {"from": "kg", "to": "g"}},
        "derive": {"year": "year(date(seen))"},
    }
    lines = told(table, **tables)
    assert [line.split(":")[1] for line in lines] == ["3", "3", "3", "4", "5"]
    assert [line.split("'")[1] for line in lines] == ["sex", "weight", "seen", "seen", "weight"]
    assert "map.codes.sex" in lines[0] and "map.missing.weight" in lines[1]
    found = map_rows(table, mapping(**tables))
    assert found.bad.tolist() == [False, True, True, True]
    assert found.table["weight"].to_pylist() == [80_000.0, None, None, None]


def test_what_arithmetic_has_no_number_for_is_a_gap_and_counted() -> None:
    table = pa.table({"a": [1.0, 2.0, None], "b": [0.0, 4.0, 0.0]})
    found = map_rows(table, mapping(derive={"ratio": "a / b", "root": "sqrt(a - 2)"}))
    assert found.table["ratio"].to_pylist() == [None, 0.5, None]
    assert found.undefined == {"ratio": 1, "root": 1} and not found.unmapped


def test_a_mapping_that_doesnt_fit_the_columns_says_all_of_it() -> None:
    table = pa.table({"Kreatinin": [1.0], "sex": ["f"], "when": ["x"], "crea": [1.0]})
    own = mapping(
        rename={"creatinine": "Kreatinine", "sex": "crea"},
        missing={"wen": ["-9"]},
        derive={"crea2": "creatinin + 1", "when": "1 + 1", "d": "days(when - when)"},
    )
    with pytest.raises(DataError, match="^map: 6 problems\n"):
        map_rows(table, own)
    assert list(column_problems(table.schema, own)) == [
        "map.rename.creatinine: there is no column 'Kreatinine'; is it 'Kreatinin'?",
        "map.rename.sex: there is a column 'sex' already; rename that one too, or leave this out",
        "map.missing.wen: there is no column 'wen'; is it 'when'?",
        "map.derive.crea2: 'creatinin + 1', at 1: there is no column 'creatinin'; is it "
        "`creatinine`?",
        "map.derive.when: there is a column 'when' already; choose another name",
        "map.derive.d: 'days(when - when)', at 11: this is a number, not a span; it takes the "
        "difference of two dates",
    ]


@pytest.mark.parametrize(
    ("tables", "key", "says"),
    [
        ({"rename": {"a": "x", "b": "x"}}, "map.rename.a", "two names"),
        ({"rename": {"a": "x"}, "derive": {"a": "1"}}, "map.derive.a", "renamed too"),
        ({"rename": {"a": "x"}, "derive": {"b": "x + 1"}}, "map.derive.b", "'x' is called 'a'"),
        ({"rename": {"a": "x"}, "missing": {"x": ["-9"]}}, "map.missing.x", "write that"),
        (
            {"codes": {"a": {"f": ["1"]}}, "derive": {"a": "1"}},
            "map.codes.a",
            "in the expression",
        ),
        ({"codes": {"a": {"f": ["1"], "m": ["1.0"]}}}, "map.codes.a.m", "means 'f' too"),
        (
            {"codes": {"a": {"f": ["1"]}}, "missing": {"a": ["1"]}},
            "map.missing.a",
            "gives a category",
        ),
        (
            {"codes": {"a": {"f": ["1"]}}, "units": {"a": {"from": "g", "to": "kg"}}},
            "map.units.a",
            "no number",
        ),
        ({"units": {"a": {"from": "mg/dl", "to": "mmol/l"}}}, "map.units.a.from", "add factor"),
        (
            {"units": {"a": {"from": "mg/dL", "to": "g/L", "factor": 10.0}}},
            "map.units.a.factor",
            "it is 0.01",
        ),
        (
            {"units": {"a": {"from": "mmHg", "to": "kPa", "offset": 1.0}}},
            "map.units.a.offset",
            "no effect",
        ),
        (
            {"units": {"a": {"from": "mg/dL", "to": "mmol/L", "analyte": "creatinin"}}},
            "map.units.a.analyte",
            "isn't known; 'creatinine' is; or give the factor",
        ),
        (
            {"units": {"a": {"from": "mg/dL", "to": "g/L", "analyte": "urea"}}},
            "map.units.a.analyte",
            "no effect",
        ),
        ({"units": {"a": {"from": "mg/dL", "to": "mgg"}}}, "map.units.a.to", "no unit of UCUM"),
        (
            {"units": {"a": {"from": "g", "to": "kg", "factr": 1.0}}},
            "map.units.a.factr",
            "did you mean 'factor'?",
        ),
        ({"derive": {"a": "b +"}}, "map.derive.a", "ends too early"),
        ({"derive": {"a": "a + 1"}}, "map.derive.a", "uses itself"),
        ({"derive": {"a": "b", "b": "1"}}, "map.derive.a", "comes after it"),
        ({"derive": {"a": "'x' * 2"}}, "map.derive.a", "a text, not a number"),
        ({"derive": {"a": "1", " a": "2"}}, "map.derive", "'a' and ' a' are the same"),
    ],
)
def test_what_contradicts_itself_is_refused_where_it_stands(
    tables: dict[str, Any], key: str, says: str
) -> None:
    with pytest.raises(ValidationError) as error:
        mapping(**tables)
    source = Source("", None)
    line = str(validation_error(error.value, source.place, Mapping, "map"))
    assert line.startswith(f"configuration: {key}: ") and says in line, line


def test_a_factor_that_is_stated_is_the_one_used() -> None:
    """HbA1c: % (NGSP) = 0.0915 x mmol/mol (IFCC) + 2.15, the master equation."""
    change = {"from": "mmol/mol", "to": "%", "factor": 0.0915, "offset": 2.15}
    with pytest.raises(ValidationError):  # both are shares of nothing: UCUM has its own factor
        mapping(units={"hba1c": change})
    change |= {"to": "%{NGSP}"}
    found = mapped(pa.table({"hba1c": [48.0]}), mapping(units={"hba1c": change}))
    assert found["hba1c"].to_pylist() == [pytest.approx(6.542)]


_CELL = st.sampled_from(["w", "m", "F", "-9", "2.0", "x", "", None])
_ROW = st.tuples(
    _CELL,
    st.none() | st.floats(-20, 300) | st.just(-9.0),
    st.sampled_from(["1", "1,5", "-9", "7.25", None]),
    st.none() | st.dates(date(1890, 1, 1), date(2030, 1, 1)),
)


@settings(max_examples=60)
@given(st.lists(_ROW, min_size=1, max_size=12), st.lists(st.integers(0, 12), max_size=4))
def test_batches_of_any_size_give_the_same_rows(rows: list[Any], cuts: list[int]) -> None:
    schema = pa.schema(
        {"sex": pa.string(), "t": pa.float64(), "w": pa.string(), "born": pa.date32()}
    )
    cells = zip(zip(*rows, strict=True), schema.types, strict=True)
    whole = pa.table([pa.array(column, kind) for column, kind in cells], schema=schema)
    own = mapping(
        missing={"t": ["-9"], "w": ["-9"], "sex": ["-9"]},
        codes={"sex": {"female": ["w", "F", "2"], "male": ["m"]}},
        units={"t": {"from": "[degF]", "to": "Cel"}, "w": {"from": "kg", "to": "g"}},
        derive={
            "ratio": "w / (t - 37)",
            "old": 'if(year(born) < 1960, "old", sex)',
            "n": "coalesce(days(date('2020-01-01') - born), -1)",
        },
    )
    at = sorted({0, len(rows), *(min(cut, len(rows)) for cut in cuts)})
    pieces = [whole.slice(a, b - a) for a, b in zip(at, at[1:], strict=False)]
    together, parts = map_rows(whole, own), [map_rows(piece, own) for piece in pieces]
    assert pa.concat_tables(part.table for part in parts).equals(together.table.combine_chunks())
    assert [bad for part in parts for bad in part.bad] == together.bad.tolist()
    assert all(part.table.schema == together.table.schema for part in parts)
    counted = sum(sum(part.undefined.values()) for part in parts)
    assert counted == sum(together.undefined.values())
