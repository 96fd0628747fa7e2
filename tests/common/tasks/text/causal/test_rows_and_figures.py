"""Packing, targets, and figures against counts by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardround.common.figures.sums import add_sums
from wardround.common.tasks.text.causal.figures import answer_figures, answer_sums
from wardround.common.tasks.text.causal.rows import (
    CHOOSING,
    RIGHT,
    InstructionRows,
    decoded,
    flat,
    packed,
    planes,
    positions,
)
from wardround.common.tasks.text.causal.template import Encoded


def rows_of(documents: list[Encoded], right: list[int], choosing: bool) -> InstructionRows:
    tokens, branches, starts = flat(documents)
    count = len(documents)
    return InstructionRows(
        tokens,
        branches,
        starts,
        np.array(right, dtype=np.int64),
        np.full(count, choosing),
        (),
        np.zeros((count, 2), dtype=np.int64),
        np.array([str(number) for number in range(count)]),
        np.zeros(count, dtype=np.bool_),
    )


def document(prompt: int, *answers: int) -> Encoded:
    return Encoded([5] * prompt, [False] * prompt, [[9] * size for size in answers])


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_packing_loses_nothing_and_never_overfills(lengths: list[int]) -> None:
    found = packed(np.array(lengths, dtype=np.int64), 40)
    assert sorted(number for row in found for number in row) == list(range(len(lengths)))
    assert all(sum(lengths[number] for number in row) <= 40 for row in found)
    # two rows that are both at most half full would have been one
    assert sum(2 * sum(lengths[n] for n in row) <= 40 for row in found) <= 1


@given(st.data())
def test_rows_that_are_chosen_are_their_documents(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3)), min_size=1))
    rows = rows_of([document(a, b) for a, b in sizes], [0] * len(sizes), False)
    picked = np.array(data.draw(st.lists(st.integers(0, len(sizes) - 1), max_size=8)), dtype=int)
    part = rows.select(picked)
    assert part.lengths.tolist() == [sum(sizes[number]) for number in picked]
    whole, _ = planes(rows, 8, False)
    some, _ = planes(part, 8, False)
    np.testing.assert_array_equal(some, whole[picked])


def test_positions_go_on_from_the_prompt_in_every_branch() -> None:
    branches = np.array([0, 0, 0, 1, 1, 2, 3, 3])
    assert positions(branches).tolist() == [0, 1, 2, 3, 4, 3, 3, 4]


def test_targets_say_document_branch_and_what_is_right() -> None:
    rows = rows_of([document(2, 1, 2), document(1, 1, 1)], [1, 0], True)
    _, targets = planes(rows, 9, True)
    documents, branches, flags = decoded(targets[targets > 0])
    assert documents.tolist() == [1, 1, 1, 2, 2] and branches.tolist() == [1, 2, 2, 1, 2]
    assert flags.tolist() == [
        CHOOSING,
        CHOOSING | RIGHT,
        CHOOSING | RIGHT,
        CHOOSING | RIGHT,
        CHOOSING,
    ]


@pytest.mark.parametrize("pack", [False, True])
def test_figures_are_counts_by_hand(pack: bool) -> None:
    """Three questions of two choices (1 and 2 tokens): the sum prefers the short one, the mean the
    likelier tokens."""
    rows = rows_of([document(2, 1, 2)] * 3, [1, 1, 0], True)
    _, targets = planes(rows, 15 if pack else 5, pack)
    outputs = np.zeros((*targets.shape, 2), dtype=np.float32)
    scored = targets > 0
    # likelihoods of each document: short answer, then the long one's two tokens
    outputs[scored] = [
        (-1.5, 1), (-0.5, 1), (-0.5, 1),  # long right: -1.0, mean -0.5; all hits
        (-0.9, 0), (-0.5, 0), (-0.5, 1),  # long right: sum -1.0 loses, mean -0.5 wins
        (-1.0, 1), (-2.0, 0), (-2.0, 0),  # short right
    ]  # fmt: skip
    for mean, right in ((False, [1, 0, 1]), (True, [1, 1, 1])):
        sums = answer_sums(outputs, targets, 2, mean) | {"loss": np.array([1.5])}
        figures = answer_figures(sums)
        assert figures["accuracy"] == pytest.approx(sum(right) / 3)
        assert figures["exact_match"] == pytest.approx(2 / 3)
        assert figures["token_accuracy"] == pytest.approx(4 / 5)
        assert figures["perplexity"] == pytest.approx(math.exp((0.5 * 4 + 1.0) / 5))
        assert figures["loss"] == 1.5 / (1 if pack else 3) and figures["examples"] == 3
    assert sums["confusion"].tolist() == [[1, 0], [0, 2]]


def test_sums_of_halves_are_those_of_the_whole_and_nothing_is_nan_free() -> None:
    rows = rows_of([document(2, 1, 2)] * 4, [1, 0, 1, 0], True)
    _, targets = planes(rows, 5, False)
    outputs = np.random.default_rng(1).normal(-1, 0.3, (*targets.shape, 2)).astype(np.float32)
    whole = answer_sums(outputs, targets, 2, False)
    halves = add_sums([answer_sums(outputs[k::2], targets[k::2], 2, False) for k in (0, 1)])
    for name, value in whole.items():
        np.testing.assert_allclose(halves[name], value, rtol=1e-12)
    none = answer_sums(outputs[:0], targets[:0], 2, False) | {"loss": np.zeros(1)}
    figures = answer_figures(none)
    assert math.isnan(figures["perplexity"]) and math.isnan(figures["macro_f1"])
    with pytest.raises(ValueError, match="sum 'rows'"):
        answer_figures({**none, "rows": np.zeros(2)})
