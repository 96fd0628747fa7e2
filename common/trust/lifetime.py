"""How long a signed description counts: from when it was signed until ``valid_until``.

A server that keeps a newer description from hospitals, and so hides a revocation, can do so no
longer than that: a hospital does nothing under one that has ended by its own clock. Nothing else
ends with it: who has an old one may still connect, and gets the new one.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from wardround.common.errors import DescriptionExpired
from wardround.common.trust.description import Description

CLOCKS = timedelta(hours=1)
"""A hospital's clock may be so far behind the authority's."""
_SOON = timedelta(days=7)
_RENEW = "the coordinator renews it: wardround provision FILE"
_GET = (
    f"{_RENEW}, and its server hands it on (or bring it: wardround client enroll KIT --answer "
    "federation.signed)"
)


def check_in_force(one: Description, now: datetime) -> None:
    """Raise DescriptionExpired unless the description counts at ``now``, by one's own clock.

    The sentence is the same at every moment: it is asked for again and again.
    """
    what = f"the federation's signed description (version {one.version})"
    if not one.valid_until:
        raise DescriptionExpired(
            f"{what} is of an earlier wardround, and says no date until which it is valid; {_GET}"
        )
    if is_ahead(one, now):
        raise DescriptionExpired(
            f"{what} was signed on {_time(one.issued)}, which is later than this machine's clock; "
            "set the clock, here or where it was signed"
        )
    if now > datetime.fromisoformat(one.valid_until):
        raise DescriptionExpired(
            f"{what} has expired by this machine's clock: it was valid until "
            f"{_time(one.valid_until)}; {_GET}"
        )


def is_ahead(one: Description, now: datetime) -> bool:
    """Whether it was signed later than a clock that is a little behind could say."""
    return now + CLOCKS < datetime.fromisoformat(one.issued)


def warning(one: Description, now: datetime) -> str:
    """A line for people if it ends soon or has ended; '' if all is well.

    Soon: within a week, or the last quarter of a life of less than four.
    """
    try:
        check_in_force(one, now)
    except DescriptionExpired as error:
        return str(error)
    until = datetime.fromisoformat(one.valid_until)
    if until - now > min(_SOON, (until - datetime.fromisoformat(one.issued)) / 4):
        return ""
    return (
        f"the federation's signed description (version {one.version}) is valid until "
        f"{_time(one.valid_until)}, {days_left(one, now)} more days; {_RENEW}"
    )


def days_left(one: Description, now: datetime) -> int:
    """Whole days that a description in force is still valid for."""
    return (datetime.fromisoformat(one.valid_until) - now).days


def is_due(one: Description, life: timedelta, now: datetime) -> bool:
    """Whether the authority should sign it anew: half of its life is over, or its life is another
    than is wanted."""
    if not one.valid_until:
        return True
    issued, until = map(datetime.fromisoformat, (one.issued, one.valid_until))
    return until - issued != life or now - issued >= life / 2


def stamp(moment: datetime) -> str:
    """A time as descriptions have it: ISO 8601, UTC, to the second."""
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def _time(text: str) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M} UTC"
