"""One normal form of a text: what differs in form only is the same, whoever wrote it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardround.common.tasks.data.left_out import LeftOut, added
from wardround.common.text import code, near, normal_text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("größe", unicodedata.normalize("NFD", "größe")),
        (" lost  to\tfollow-up ", "lost to follow-up"),
        ("a\u00a0b", "a b"),
        ("\ufeffage", "age"),
        ("died\u200b", "died"),
    ],
)
def test_differences_of_form_vanish(one: str, other: str) -> None:
    assert normal_text(one) == normal_text(other) and code(one) == code(other)


def test_codes_that_are_one_and_codes_that_are_not() -> None:
    assert [code(x) for x in ("1", "1.0", " 1.00", "1.", "-2.0", "10")] == (
        ["1", "1", "1", "1", "-2", "10"]
    )
    assert len({code(x) for x in ("1", "01", "1.5", "1.50", "v1.0", "A", "a", "10.0.0")}) == 8


@given(st.text(max_size=20))
def test_the_normal_form_of_a_normal_form_is_itself(text: str) -> None:
    assert normal_text(normal_text(text)) == normal_text(text)
    assert code(code(text)) == code(text) == code(normal_text(text))


def test_a_near_miss_is_found_and_a_stranger_is_not() -> None:
    known = ["Größe", "body mass", "age"]
    assert near("GRÖSSE", known) == near("gro\u0308ße", known) == "Größe"
    assert near("body_mass", known) == near("bodymas", known) == "body mass"
    assert near("bmi", known) is None and near("x", []) is None


def test_what_was_left_out_is_counted_by_reason() -> None:
    parts = [LeftOut(1, "rows", "a"), LeftOut(2, "files", "a"), LeftOut(3, "rows", "a")]
    assert added([*parts, LeftOut(0, "rows", "b")]) == (
        LeftOut(4, "rows", "a"),
        LeftOut(2, "files", "a"),
    )
    assert str(parts[0]) == "1 row was left out: a"
    assert str(LeftOut(2, "ends of words", "b")) == "2 ends of words were left out: b"
