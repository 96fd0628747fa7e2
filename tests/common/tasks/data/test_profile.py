"""A look at a table: kinds, units, gaps, spellings, and columns that give the target away."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from wardround.common.tasks.data.profile import copies, header_unit, profile, usual_unit

ROWS = 60


def kinds(**columns: object) -> dict[str, str]:
    return {name: one.kind for name, one in profile(pa.table(columns)).columns.items()}


def test_kinds_of_typed_columns() -> None:
    draw = np.random.default_rng(1)
    days = np.arange(ROWS).astype("datetime64[D]")
    assert kinds(
        crp=draw.normal(size=ROWS),
        age=draw.integers(18, 90, ROWS),
        died=np.arange(ROWS) % 2,
        smoker=np.arange(ROWS) % 3 == 0,
        admitted=days,
        constant=np.ones(ROWS),
        nothing=pa.nulls(ROWS, pa.float64()),
        pat_nr=np.arange(ROWS) // 4,
        row=np.arange(ROWS) + 1,
        big=np.arange(ROWS) % 7 + 2**53,
    ) == {
        "crp": "number",
        "age": "integer",
        "died": "binary",
        "smoker": "binary",
        "admitted": "date",
        "constant": "constant",
        "nothing": "empty",
        "pat_nr": "identifier",
        "row": "identifier",
        "big": "identifier",
    }


def test_kinds_of_texts() -> None:
    assert kinds(
        sex=["M", "F", "f", "m "] * 15,
        ward=["icu", "er", "surgery"] * 20,
        crp=["1.5", ".", "2", "1e1", "7"] * 12,
        code=["007", "012", "1234", "02"] * 15,
        born=["03.04.1950", "2001-01-01 12:00", "."] * 20,
        note=[f"Came on day {n} with a cough, and left" for n in range(ROWS)],
        mrn=[f"A{n:05}" for n in range(ROWS)],
    ) == {
        "sex": "binary",
        "ward": "category",
        "crp": "number",
        "code": "category",  # a leading zero would be lost in a number
        "born": "date",
        "note": "text",
        "mrn": "identifier",
    }


def test_numbers_among_texts_gaps_and_what_is_neither() -> None:
    column = profile(
        pa.table({"x": ["4", ".", None, "1", " 2 ", "unk", "10", *["3"] * 20, "1,5"]})
    )["x"]
    assert (column.gaps, dict(column.gap_texts)) == (3, {".": 1, "unk": 1})
    assert (column.low, column.median, column.high) == (1.0, 3.0, 10.0)
    assert (column.odd, column.first_odd) == (1, 27)


def test_a_sentinel_counts_as_a_gap_only_where_no_other_number_is_negative() -> None:
    values = [-9.0, -9.0, *range(1, 20)]
    (column,) = profile(pa.table({"x": values})).columns.values()
    assert (dict(column.gap_texts), column.gaps, column.low) == ({"-9": 2}, 2, 1.0)
    (column,) = profile(pa.table({"base_excess": [*values, -3.0]})).columns.values()
    assert (dict(column.gap_texts), column.low) == ({}, -9.0)


def test_spellings_of_one_category_and_only_shared_names_are_shown() -> None:
    column = profile(
        pa.table({"ward": ["ICU"] * 6 + ["icu", "Icu "] + ["er"] * 5 + ["Smith"] * 4})
    )["ward"]
    assert column.groups["ICU"] == {"ICU": 6, "icu": 1, "Icu": 1}
    assert column.shared == {"ICU": 8, "er": 5}
    assert "Smith" not in repr(column)


@pytest.mark.parametrize(
    ("name", "base", "unit"),
    [
        ("Kreatinin [mg/dL]", "Kreatinin", "mg/dL"),
        ("glucose (mmol/l)", "glucose", "mmol/l"),
        ("eGFR [ml/min/1.73m2]", "eGFR", "ml/min/1.73m2"),
        ("sodium_mmol_l", "sodium", "mmol/l"),
        ("length in cm", "length", "cm"),
        ("sex (m/f)", "sex (m/f)", None),
        ("smoker (ja)", "smoker (ja)", None),
        ("time_s", "time_s", None),
        ("mg", "mg", None),
    ],
)
def test_the_unit_of_a_header(name: str, base: str, unit: str | None) -> None:
    assert header_unit(name) == (base, unit)


def test_two_ways_to_write_a_unit_are_one() -> None:
    assert usual_unit("µmol / L") == usual_unit("umol/l") != usual_unit("mmol/l")


def test_what_gives_a_target_away() -> None:
    draw = np.random.default_rng(2)
    died = (draw.random(200) < 0.3).astype(int)
    nearly = died.copy()
    nearly[np.flatnonzero(died == 0)[:2]] = 1
    table = pa.table(
        {
            "died": died,
            "copy": died.astype(float),
            "outcome": np.where(died == 1, "dead", "alive"),
            "checked": nearly,
            "death_date": pa.array(np.where(died == 1, "2020-01-01", None)),
            "score": died + draw.random(200) * 0.9,
            "age": draw.integers(18, 90, 200),
            "sex": draw.integers(0, 2, 200),
            "constant": np.ones(200),
        }
    )
    found = {name: (one.how, one.wrong) for name, one in copies(table, "died").items()}
    assert found == {
        "copy": ("equal", 0),
        "outcome": ("recoded", 0),
        "checked": ("nearly", 2),
        "death_date": ("gaps", 0),
        "score": ("parts", 0),
    }


def test_a_number_in_another_unit_gives_a_number_away() -> None:
    draw = np.random.default_rng(3)
    cost = draw.gamma(2.0, 1e4, 100)
    table = pa.table(
        {"cost": cost, "cents": cost * 100, "same": cost, "stay": draw.normal(size=100)}
    )
    assert {name: one.how for name, one in copies(table, "cost").items()} == {
        "cents": "recoded",
        "same": "equal",
    }


def test_a_few_rows_show_no_copy() -> None:
    table = pa.table({"died": [0, 1] * 5, "x": [0, 1] * 5})
    assert copies(table, "died") == {}
