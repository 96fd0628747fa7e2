"""FHIR's dates and times: which days one may be of, and its moment.

`2024`, `2024-03`, `2024-03-05` and `2024-03-05T08:00:00.123+01:00` (or `Z`). A time without zone,
which FHIR doesn't allow and exports have, is by the hospital's clock.
"""

from __future__ import annotations

import calendar
import re
from datetime import UTC, date, datetime, tzinfo
from functools import lru_cache
from typing import NamedTuple

_FORM = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(T\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:\d\d)?)?)?)?",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = _EPOCH.toordinal()
_DAY_US = 86_400_000_000


class When(NamedTuple):
    """``first``, ``last``: the days that it may be of, proleptic ordinals; ``moment``: microseconds
    since 1970 in UTC, of its beginning."""

    first: int
    last: int
    moment: int


@lru_cache(maxsize=1 << 12)
def when(text: str, zone: tzinfo | None) -> When:
    """Read a date or time.

    zone : the hospital's clock; None: days are as they are written, and what has no zone is UTC

    Raises ValueError for what is none, TypeError for what is no text.

    >>> when("2024-02", None).last - when("2024-02", None).first
    28
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError("no date of FHIR")
    year, month, day, time = found.groups()
    if time is not None:
        return _moment(text, zone)
    start = date(int(year), int(month or 1), int(day or 1))
    first = start.toordinal()
    if day is not None:
        last = first
    elif month is not None:
        last = first + calendar.monthrange(start.year, start.month)[1] - 1
    else:
        last = date(start.year, 12, 31).toordinal()
    midnight = (first - _EPOCH_DAY) * _DAY_US
    if zone is not None:
        offset = datetime(start.year, start.month, start.day, tzinfo=zone).utcoffset()
        assert offset is not None
        midnight -= round(offset.total_seconds() * 1_000_000)
    return When(first, last, midnight)


def _moment(text: str, zone: tzinfo | None) -> When:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        at = at.replace(tzinfo=zone or UTC)
    elif zone is not None:
        at = at.astimezone(zone)
    since = at - _EPOCH
    moment = since.days * _DAY_US + since.seconds * 1_000_000 + since.microseconds
    return When(at.toordinal(), at.toordinal(), moment)


def parts(text: str) -> tuple[int, int | None, int | None]:
    """Year, month and day of a birth date, of which a time is left out. Raises ValueError."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError("no date of FHIR")
    year, month, day = (int(one) if one else None for one in found.groups()[:3])
    assert year is not None
    return year, month, day
