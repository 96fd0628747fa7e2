"""Dates written as text. ISO 8601 is read as it is; any other form is asked for where a day and a
month can't be told apart: 03/04/05 has six readings.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wardround.common.errors import DataError
from wardround.common.tasks.data.reading.texts import normal_texts, uniques

_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?$"
_THREE = re.compile(r"([0-9]{1,4})([./-])([0-9]{1,2})\2([0-9]{1,4})(?: (.*))?")
_TIMES = (("%H:%M:%S", r"[0-9]{1,2}:[0-9]{2}:[0-9]{2}"), ("%H:%M", r"[0-9]{1,2}:[0-9]{2}"))


def dates_of(values: pa.Array, form: str | None) -> pa.Array | None:
    """Different texts as date32, or timestamp[us] where one has a time of day; None unless all of
    them are dates: by ``form``, or of ISO 8601."""
    if form is not None:
        return _by_form(values, form)
    if _all(values, _DATE):
        return _cast(values, pa.date32())
    if _all(values, rf"{_TIME}|{_DATE}"):
        return _cast(values, pa.timestamp("us"))
    return None


def read_dates(
    column: pa.ChunkedArray, form: str | None, place: Callable[[int], str]
) -> pa.ChunkedArray:
    """A column of dates as timestamp[us], null where it is null.

    form : as ``strptime`` has it; None finds it where all cells together leave one reading
    place : of a row, for messages. Raises DataError at a cell that is no date, and where several
    readings are possible.
    """
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return column.cast(pa.timestamp("us"))
    index, values = uniques(column)
    if values.type != pa.string():
        raise DataError(f"{place(0)}: a column of {values.type}, not of dates; export it as dates")
    texts = normal_texts(values)
    known = form or find_form(texts, lambda number: place(int(np.argmax(index == number))))
    found = [_instant(text, known) for text in texts.to_pylist()]
    if None in found:
        row = int(np.argmax(index == found.index(None)))
        way = f"of the form {known}" if known else "of ISO 8601 (2024-01-31)"
        raise DataError(
            f"{place(row)}: no date {way}; mend the cell, name its text in task.missing_values, or "
            'set the form, as task.dialect.dates = "%d.%m.%Y"'
        )
    instants = pa.array(found, pa.timestamp("us"))
    return pa.chunked_array([instants.take(pa.array(index, mask=index < 0))])


def find_form(values: pa.Array, place: Callable[[int], str]) -> str | None:
    """The one form that all texts can have; None for ISO 8601. Raises DataError, by the place of
    text N, where they can have several, or none."""
    if not len(values) or _all(values, rf"{_TIME}|{_DATE}"):
        return None
    forms: set[str] | None = None
    for number, text in enumerate(values.to_pylist()):
        possible = forms_of(text)
        forms = possible if forms is None else forms & possible
        if not forms:
            raise DataError(
                f"{place(number)}: no date, or of another form than those above it; mend the cell, "
                'or set the form, as task.dialect.dates = "%d.%m.%Y"'
            )
    assert forms is not None
    if len(forms) > 1:
        shown = " or ".join(f'"{form}"' for form in sorted(forms))
        raise DataError(f"{place(0)}: dates that can be read as {shown}; set task.dialect.dates")
    return forms.pop()


def forms_of(text: str | None) -> set[str]:
    """The forms that one text can have, of day, month and year in the orders that people use."""
    match = _THREE.fullmatch(text or "")
    if match is None:
        return set()
    first, mark, _, last, time = match.groups()
    tail = next((f" {form}" for form, known in _TIMES if re.fullmatch(known, time or "")), "")
    if time is not None and not tail:
        return set()
    if len(first) == 4:
        orders = [f"%Y{mark}%m{mark}%d"]
    else:
        year = "%Y" if len(last) == 4 else "%y"
        orders = [f"%d{mark}%m{mark}{year}", f"%m{mark}%d{mark}{year}"]
        if mark == ".":
            orders = orders[:1]  # nobody writes a month first with points
        if year == "%y" and mark != ".":
            orders.append(f"%y{mark}%m{mark}%d")
    return {f"{order}{tail}" for order in orders if _instant(text, f"{order}{tail}") is not None}


def _instant(text: str | None, form: str | None) -> datetime | None:
    try:
        if text is None:
            return None
        found = datetime.fromisoformat(text) if form is None else datetime.strptime(text, form)
    except ValueError:
        return None
    return found.replace(tzinfo=None)


def _by_form(values: pa.Array, form: str) -> pa.Array | None:
    found = [_instant(text, form) for text in values.to_pylist()]
    if None in found:
        return None
    instants = pa.array(found, pa.timestamp("us"))
    return instants if re.search(r"%[HIMSfpXcT]", form) else instants.cast(pa.date32())


def _all(values: pa.Array, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(values, pattern), min_count=0).as_py())


def _cast(values: pa.Array, kind: pa.DataType) -> pa.Array | None:
    try:
        return values.cast(kind)
    except pa.ArrowException:
        return None
