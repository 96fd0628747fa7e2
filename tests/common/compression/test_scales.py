"""A layer's scale: the rule by hand, what one hospital can make of it, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardround.common.compression.scales import (
    MOST_RATIO,
    check_scales,
    first_scales,
    layers,
    next_scales,
)
from wardround.common.errors import RequestRefused
from wardround.common.flower.arrays import ArraySpec

LAYOUT = {
    "b.bias": ArraySpec((12,), "float32"),
    "a.weight": ArraySpec((12, 4, 3), "float32"),
    "a.tracked": ArraySpec((), "int64"),
    "scalar": ArraySpec((), "float32"),
    "statistics": ArraySpec((4,), "float32"),
}
MOVED = ["b.bias", "a.weight", "a.tracked", "scalar"]


def test_the_first_scales_follow_from_shapes() -> None:
    """0.3 / sqrt(3 x 12) of both the rows of 4 x 3 and the vector of 12; 0.3 / sqrt(3) of one."""
    names = layers(LAYOUT, MOVED)
    assert names == ["a.weight", "b.bias", "scalar"]
    found = first_scales(LAYOUT, names, 0.3)
    assert found == pytest.approx([0.05, 0.05, 0.3 / np.sqrt(3)])


def test_the_rule_by_hand() -> None:
    """Mean squares 1.44, 9 (bounded), 1e-6 (bounded) and as it was, in scales of 1."""
    ratios = np.array([1.44, 9.0, 1e-6, 1.0])
    assert next_scales(np.ones(4), ratios) == pytest.approx([1.2, 2.0, 0.5, 1.0])


@pytest.mark.parametrize("hospitals", [3, 5, 10])
def test_one_hospital_moves_a_scale_no_further(hospitals: int) -> None:
    """It always adds the most that there is; the others' changes have a root mean square of 1. The
    scale ends at sqrt((n - 1) / (n - 2)), from whichever side it came."""
    for start in (1e-3, 50.0):
        scale = np.array([start])
        for _ in range(200):
            honest = min(1 / float(scale[0]) ** 2, MOST_RATIO)
            ratio = ((hospitals - 1) * honest + MOST_RATIO) / hospitals
            scale = next_scales(scale, np.array([ratio]))
        assert scale[0] == pytest.approx(np.sqrt((hospitals - 1) / (hospitals - 2)), rel=1e-3)


@given(
    st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=12),
    st.floats(1e-4, 1e2),
    st.integers(0, 11),
)
def test_what_the_rule_makes_is_taken(ratios: list[float], start: float, seen: int) -> None:
    """Also of ratios that no honest hospital adds, by one that saw every round, or one of them."""
    first = np.array([start])
    made = [first]
    for ratio in ratios:
        made.append(next_scales(made[-1], np.array([ratio])))
    last = len(made)
    check_scales(made[-1], last, first)
    before = min(seen, last - 1)
    check_scales(made[-1], last, first, made[before - 1] if before else None, before)


@pytest.mark.parametrize(
    ("scales", "server_round", "told"),
    [
        ([0.1, 0.11], 1, "in 0 rounds"),
        ([0.1, 0.41], 3, "of layer 2 is 0.41"),
        ([0.024, 0.1], 3, "makes 0.025 to 0.4"),
        ([0.1, np.nan], 2, "finite"),
        ([0.1], 2, "one finite number for each layer"),
    ],
)
def test_what_it_cant_make_is_refused(scales: list[float], server_round: int, told: str) -> None:
    with pytest.raises(RequestRefused, match=told):
        check_scales(np.array(scales), server_round, np.array([0.1, 0.1]))


def test_a_hospital_goes_by_what_it_was_shown_last() -> None:
    first, shown = np.array([1.0]), np.array([0.25])
    check_scales(np.array([0.5]), 6, first, shown, 5)
    with pytest.raises(RequestRefused, match="in 1 rounds"):
        check_scales(np.array([0.6]), 6, first, shown, 5)
