"""A share of what can't be read may be left out, listed at home; beyond it nothing is."""

from __future__ import annotations

import logging

import pytest

from wardround.common.errors import DataError
from wardround.common.tasks.data.allowance import Unread, allowed, allowing


def test_a_share_holds_within_and_no_longer() -> None:
    assert allowed(0.01) == 0.01
    with allowing(0.2):
        assert allowed(0.01) == 0.2
        with allowing(None):
            assert allowed(0.01) == 0.01
    assert allowed(0.0) == 0.0


def unread(count: int, share: float) -> Unread:
    found = Unread("rows", share)
    for row in range(count):
        found.add(f"x.csv:{row + 2}: not a number; mend it")
    return found


def test_up_to_the_share_each_is_listed_and_the_count_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "wardround"):
        found = unread(2, 0.01).left_out(200)
    assert str(found) == "2 rows were left out: they can't be read; this hospital's log lists them"
    assert [record.getMessage() for record in caplog.records] == [
        "left out: x.csv:2: not a number; mend it",
        "left out: x.csv:3: not a number; mend it",
    ]


def test_beyond_it_all_are_named_in_one_line() -> None:
    with pytest.raises(DataError) as error:
        unread(3, 0.01).left_out(200)
    assert str(error.value) == (
        "3 of 200 rows can't be read, and left_out_share is 1 %: x.csv:2: not a number; mend it | "
        "x.csv:3: not a number; mend it | x.csv:4: not a number; mend it"
    )
    with pytest.raises(DataError, match=r"x\.csv:21: .* \| and 5 more$"):
        unread(25, 0.0).left_out(200)


def test_one_alone_reads_as_it_does_without_a_share() -> None:
    with pytest.raises(DataError) as error:
        unread(1, 0.0).left_out(200)
    assert str(error.value) == "x.csv:2: not a number; mend it"
    assert unread(0, 0.0).left_out(0).count == 0
