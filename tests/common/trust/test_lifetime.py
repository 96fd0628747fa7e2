"""When a signed description counts: from when it was signed until its ``valid_until``."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardround.common.errors import DescriptionExpired
from wardround.common.process import checks
from wardround.common.trust.description import Description
from wardround.common.trust.identity import Identity
from wardround.common.trust.lifetime import check_in_force, days_left, is_due, stamp, warning

ISSUED = datetime(2026, 3, 4, 12, tzinfo=UTC)
HOUR, DAY, SECOND = timedelta(hours=1), timedelta(days=1), timedelta(seconds=1)


def lasting(life: timedelta) -> Description:
    key, until = Identity.generate().public, stamp(ISSUED + life)
    return Description("heart", 3, "localhost:8443", "", key, {}, (), stamp(ISSUED), until)


ONE = lasting(30 * DAY)
END = ISSUED + 30 * DAY


def refused(one: Description, now: datetime, message: str) -> None:
    with pytest.raises(DescriptionExpired, match=message) as caught:
        check_in_force(one, now)
    assert "\n" not in str(caught.value) and warning(one, now) == str(caught.value)
    found = checks.description(one, now)
    assert (found.state, found.text) == ("error", str(caught.value))


def test_it_counts_from_an_hour_before_it_was_signed_until_its_last_second() -> None:
    for now in (ISSUED - HOUR, ISSUED, END - SECOND, END):
        check_in_force(ONE, now)
    expired = r"\(version 3\) has expired.* until 2026-04-03 12:00 UTC; .*wardround provision FILE"
    refused(ONE, END + SECOND, expired)
    refused(ONE, END + 4000 * DAY, expired)
    refused(ONE, ISSUED - HOUR - SECOND, "signed on 2026-03-04 12:00 UTC.*clock; set the clock")


def test_one_without_an_end_is_in_force_at_no_time() -> None:
    for now in (ISSUED, END + DAY, ISSUED - DAY):
        refused(replace(ONE, valid_until=""), now, "no date until which.*wardround provision FILE")


@pytest.mark.parametrize(
    ("days", "warned"), [(30, 7 * DAY), (366, 7 * DAY), (28, 7 * DAY), (4, DAY), (1, 6 * HOUR)]
)
def test_its_end_is_told_a_week_before_or_in_the_last_quarter(days: int, warned: timedelta) -> None:
    one = lasting(days * DAY)
    end = ISSUED + days * DAY
    assert warning(one, ISSUED) == warning(one, end - warned - SECOND) == ""
    line = warning(one, end - warned)
    assert f"{warned.days} more days; the coordinator renews it" in line and "\n" not in line
    assert checks.description(one, end - warned).state == "warning"
    found = checks.description(one, end - warned - SECOND)
    assert (found.state, days_left(one, end - warned - SECOND)) == ("ok", warned.days)
    assert f"valid for {warned.days} days, until {one.valid_until}" in found.text


def test_it_is_due_when_half_of_its_life_is_over_or_another_life_is_wanted() -> None:
    life = 30 * DAY
    assert not is_due(ONE, life, ISSUED - DAY) and not is_due(ONE, life, ISSUED + 15 * DAY - SECOND)
    assert is_due(ONE, life, ISSUED + 15 * DAY) and is_due(ONE, life, END + DAY)
    assert is_due(ONE, 7 * DAY, ISSUED) and is_due(ONE, 31 * DAY, ISSUED)
    assert is_due(replace(ONE, valid_until=""), life, ISSUED)


@given(st.lists(st.datetimes(datetime(1000, 1, 2), datetime(9999, 12, 30)), min_size=2, max_size=2))
def test_stamps_are_ordered_as_times_are(times: list[datetime]) -> None:
    one, other = (time.replace(microsecond=0, tzinfo=UTC) for time in times)
    assert (stamp(one) < stamp(other)) == (one < other)
    assert datetime.fromisoformat(stamp(one)) == one
    later = replace(ONE, issued=stamp(other)).order
    assert (replace(ONE, issued=stamp(one)).order < later) == (one < other)
    assert replace(ONE, version=2, issued=stamp(one)).order < later
