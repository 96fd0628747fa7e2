"""Words agreed on from added tables: exactly the union with added counts, or a refusal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.common.errors import TaskError
from wardround.common.tasks.tabular import TabularTask
from wardround.common.tasks.vocabulary import (
    LONGEST_WORD_BYTES,
    MOST_WORDS,
    SHAPE,
    read_words,
    write_words,
)

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50)


def fits(word: str) -> bool:
    return len(word.encode()) <= LONGEST_WORD_BYTES


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.dictionaries(WORDS.filter(fits), st.integers(0, 10**6), max_size=12), max_size=5)
)
def test_added_tables_read_as_the_union_with_added_counts(hospitals) -> None:
    table = sum((write_words(words) for words in hospitals), np.zeros(SHAPE))
    expected: dict[str, int] = {}
    for words in hospitals:
        for word, count in words.items():
            expected[word] = expected.get(word, 0) + count
    assert read_words(table) == dict(sorted(expected.items()))


@pytest.mark.parametrize("seed", range(5))
def test_the_most_words_of_a_thousand_hospitals_are_found(seed) -> None:
    words = [f"category/{seed}/{index}" for index in range(MOST_WORDS)]
    table = sum(write_words({w: 3 for w in words[part::7]}) for part in range(7))
    many = 143 * table  # as if 143 hospitals had written each of the seven tables
    assert read_words(many) == dict.fromkeys(sorted(words), 3 * 143)


def test_more_words_than_can_be_told_apart_are_refused() -> None:
    table = write_words({f"word {index}": 1 for index in range(700)})
    with pytest.raises(ValueError, match=f"more than {MOST_WORDS}"):
        read_words(table)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, SHAPE[0] - 1), st.integers(0, SHAPE[1] - 1), st.sampled_from([1.0, -1.0, 0.5])
)
def test_a_table_that_is_no_sum_is_refused_or_its_words_are_kept(row, column, change) -> None:
    """What a hospital poisons may add or lose nothing unseen but a count."""
    table = write_words({"a": 5, "b": 7}) + write_words({"b": 6})
    table[row, column] += change
    try:
        assert set(read_words(table)) == {"a", "b"}
    except ValueError as error:
        assert "none that hospitals wrote" in str(error)


def test_long_and_empty_words_are_refused() -> None:
    for word in ("x" * (LONGEST_WORD_BYTES + 1), ""):
        with pytest.raises(ValueError, match="bytes; at most"):
            write_words({word: 1})
    with pytest.raises(ValueError, match="has shape"):
        read_words(np.zeros((3, 3)))


def test_too_many_categories_name_the_setting() -> None:
    task = TabularTask(columns={"target": "y", "categorical": ["c"]})
    totals = {"words": write_words({f"category/c/{i}": 5 for i in range(700)})}
    with pytest.raises(TaskError, match="declare them in task.columns.categories|Declare them"):
        task.condense(totals)
