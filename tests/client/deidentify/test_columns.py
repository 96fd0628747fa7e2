"""What becomes of columns: intervals kept, old ages merged, small areas gone, k by hand."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from wardround.client.deidentify import columns as do
from wardround.client.deidentify.anonymity import anonymity
from wardround.client.deidentify.roles import role_of
from wardround.common.tasks.data.profile import profile

KEY, OTHER = bytes(32), bytes(range(32))


def column(values: list[object], kind: pa.DataType | None = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, kind)])


@given(
    st.lists(st.tuples(st.integers(0, 5), st.dates(date(1901, 1, 1), date(2098, 1, 1))), min_size=1)
)
def test_intervals_of_a_patient_are_kept_and_no_date_stays(rows: list[tuple[int, date]]) -> None:
    patients = column([str(who) for who, _ in rows])
    dates = column([when for _, when in rows], pa.date32())
    moved = do.shifted(dates, do.shifts(patients, KEY)).to_pylist()
    by = {}
    for (who, when), then in zip(rows, moved, strict=True):
        days = (then - when).days
        assert 1 <= abs(days) <= 365
        assert by.setdefault(who, days) == days


def test_who_is_nobody_has_no_shifted_date_and_another_key_shifts_otherwise() -> None:
    patients = column(["a", None, *(str(i) for i in range(40))])
    one, other = do.shifts(patients, KEY), do.shifts(patients, OTHER)
    assert one[1] == 0 and (one != other).sum() > 35 and len(set(one.tolist())) > 35
    dates = column([date(2020, 1, 1)] * 42, pa.date32())
    moved = do.shifted(dates, one).to_pylist()
    assert moved[1] is None and moved[0] == date(2020, 1, 1) + timedelta(days=int(one[0]))


def test_days_stay_days_and_moments_moments() -> None:
    days = np.array([3, 3])
    read = [datetime(2024, 1, 1), datetime(2024, 2, 1)]  # as dates that aren't ISO 8601 are read
    assert do.shifted(column(read), days).type == pa.date32()
    moments = do.shifted(column([read[0], read[1].replace(hour=7)]), days).to_pylist()
    assert moments == [datetime(2024, 1, 4), datetime(2024, 2, 4, 7)]


def test_people_are_found_by_a_column_s_name_or_by_titles_in_it() -> None:
    titled = ["Dr. Novak", "Prof. Dr. Weiß", "Frau Öztürk", None] * 5
    table = pa.table(
        {
            "Hausarzt": ["N", "W", "N", "W"] * 5,
            "seen_by": titled,
            "ward": ["Dr-Koch-Ward", "B2", "B2", "B2"] * 5,
        }
    )
    found = {
        name: role_of(one, table.column(name), None) for name, one in profile(table).columns.items()
    }
    assert found == {"Hausarzt": "name", "seen_by": "name", "ward": "plain"}


def test_a_pseudonym_follows_a_patient_whatever_the_file_s_type() -> None:
    texts, numbers = column(["17", "2", None]), column([17, 2, None], pa.int64())
    found = do.pseudonyms(texts, KEY).to_pylist()
    assert found == do.pseudonyms(numbers, KEY).to_pylist()
    assert found == do.pseudonyms(column([17.0, 2.0, None]), KEY).to_pylist()
    assert found[2] is None and len(set(found)) == 3 and len(found[0]) == 16
    assert found != do.pseudonyms(texts, OTHER).to_pylist()


def test_old_ages_births_and_small_areas() -> None:
    assert do.ages(column([89, 90, 104, None])).to_pylist() == [89, 90, 90, None]
    assert do.ages(column([89.5, 91.2])).to_pylist() == [90.0, 90.0]
    births = column([date(1936, 5, 1), date(1937, 5, 1), None], pa.date32())
    assert do.birth_years(births, 2026).to_pylist() == [None, 1937, None]
    assert do.years(births).to_pylist() == [1936, 1937, None]
    codes = column(["03601", "10115", "2139", "", None])
    assert do.zip3(codes).to_pylist() == ["000", "101", "021", "", None]
    assert do.areas(column([10115, 2139])).to_pylist() == ["10", "02"]


def test_k_is_counted_over_the_columns_together() -> None:
    table = pa.table(
        {
            "age": [40] * 6 + [41] * 4 + [90],
            "sex": ["F"] * 6 + ["F", "F", "F", None] + ["M"],
        }
    )
    found = anonymity(table, ["age", "sex"])
    assert (found.k, found.below, found.unique, found.rows) == (1, 5, 2, 11)
    assert anonymity(table, []).k == 11


def test_k_of_a_made_up_extract_is_what_a_dictionary_counts() -> None:
    draw = np.random.default_rng(0)
    age, sex, area = (
        draw.integers(20, 91, 5000),
        draw.integers(0, 2, 5000),
        draw.integers(0, 5, 5000),
    )
    table = pa.table({"age": age, "sex": sex, "area": area})
    groups: dict[tuple[int, ...], int] = {}
    for row in zip(age.tolist(), sex.tolist(), area.tolist(), strict=True):
        groups[row] = groups.get(row, 0) + 1
    found = anonymity(table, ["age", "sex", "area"])
    assert found.below == sum(size for size in groups.values() if size < 5)
    assert found.k == min(groups.values())
