"""T11: where figures are most of what hospitals send, the report says so, and what sends less."""

from __future__ import annotations

from typing import Any

import pytest

from wardround.common.run.traffic import beside_training, traffic_notes


def rounds(count: int, up: int, sent: int) -> list[dict[str, Any]]:
    one = {"training_bytes": {"up": up, "down": 9}, "accepted": ["a", "b", "c"], "bytes_up": sent}
    return [one] * count


@pytest.mark.parametrize(
    ("count", "up", "sent", "every", "told"),
    [
        (200, 359, 147_776, 1, "99% wasn't training"),  # a model of 12 numbers
        (200, 359, 147_776, 10, ""),
        (5, 359, 147_776, 1, ""),
        (200, 40_000, 130_000, 1, ""),
    ],
)
def test_it_is_told_where_it_is_most_and_not_yet_rarer(
    count: int, up: int, sent: int, every: int, told: str
) -> None:
    notes = traffic_notes(rounds(count, up, sent), every)
    assert len(notes) == bool(told) and all(told in note for note in notes)


def test_rounds_that_say_nothing_count_nowhere() -> None:
    assert beside_training([{"bytes_up": 5, "accepted": []}]) is None
    assert beside_training([*rounds(1, 10, 60), {"bytes_up": 5, "accepted": []}]) == 0.5
