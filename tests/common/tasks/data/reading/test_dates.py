"""Dates that can be read in several ways are asked for."""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardround.common.errors import DataError
from wardround.common.tasks.data.reading.dates import read_dates


def read(cells: list[str | None], form: str | None = None) -> list[datetime | None]:
    column = pa.chunked_array([pa.array(cells, pa.string())])
    return read_dates(column, form, lambda row: f"x.csv:{row + 2}: column 'seen'").to_pylist()


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["2024-01-31", None, "1899-02-28"], [datetime(2024, 1, 31), None, datetime(1899, 2, 28)]),
        (["2024-01-31 12:30", "2024-02-01T00:00:05.5"],
         [datetime(2024, 1, 31, 12, 30), datetime(2024, 2, 1, 0, 0, 5, 500_000)]),
        (["03.04.1899"], [datetime(1899, 4, 3)]),
        (["03/04/2005", "31/04/2005".replace("04", "05")],
         [datetime(2005, 4, 3), datetime(2005, 5, 31)]),
        (["03/04/2005", "05/31/2005"], [datetime(2005, 3, 4), datetime(2005, 5, 31)]),
        (["31.12.99 23:59"], [datetime(1999, 12, 31, 23, 59)]),
    ],
)  # fmt: skip
def test_a_form_that_all_cells_leave_is_found(cells, expected) -> None:
    assert read(cells) == expected


@pytest.mark.parametrize("cells", [["03/04/05"], ["03/04/2005", "05/06/2005"], ["03-04-05"]])
def test_several_readings_are_asked_for(cells: list[str]) -> None:
    with pytest.raises(DataError, match="x.csv:2: column 'seen': .*set task.dialect") as caught:
        read(cells)
    assert cells[0] not in str(caught.value)
    assert read(["03/04/05"], "%y/%m/%d") == [datetime(2003, 4, 5)]


@pytest.mark.parametrize(
    ("cells", "form", "line"),
    [
        (["2024-01-31", "31.01.2024"], None, 3),
        (["31.01.2024", "soon"], None, 3),
        (["31.02.2024"], None, 2),
        (["31.01.2024", None, "2024-01-31"], "%d.%m.%Y", 4),
    ],
)
def test_a_cell_that_is_no_date_is_named(cells, form: str | None, line: int) -> None:
    with pytest.raises(DataError, match=f"x.csv:{line}: column 'seen': no date"):
        read(cells, form)


@given(st.lists(st.datetimes(datetime(1000, 1, 1), datetime(2200, 1, 1)), min_size=1, max_size=5))
def test_iso_dates_come_back(instants: list[datetime]) -> None:
    assert read([instant.isoformat() for instant in instants]) == instants
