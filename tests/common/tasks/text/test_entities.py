"""Entities are counted as conlleval and seqeval count them, and counts add over hospitals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.common.figures.sums import add_sums
from wardround.common.tasks.text.entities import entity_figures, entity_spans, entity_sums
from wardround.common.tasks.text.iob import tag_names
from wardround.common.tasks.text.rows import IGNORED

TYPES = ["MISC", "PER"]
NAMES = tag_names(TYPES)


def table(sentences: list[list[str]], width: int = 12) -> np.ndarray:
    """N x T tag numbers; words stand at every second token, the rest is ignored."""
    found = np.full((len(sentences), 2 * width), IGNORED, dtype=np.int64)
    for row, tags in enumerate(sentences):
        found[row, 1 : 1 + 2 * len(tags) : 2] = [NAMES.index(tag) for tag in tags]
    return found


def guesses(sentences: list[list[str]]) -> np.ndarray:
    """The same as predictions: a model says something of ignored tokens too."""
    numbers = table(sentences)
    return np.where(numbers == IGNORED, 1, numbers)


def test_the_published_example_of_seqeval() -> None:
    """README of chakki-works/seqeval: f1 0.50; MISC 0 0 0 of 1, PER 1 1 1 of 1."""
    truth = [["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    guess = [["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    figures = entity_figures(entity_sums(table(truth), guesses(guess), 2), TYPES)
    assert figures == {
        "f1": 0.5,
        "precision": 0.5,
        "recall": 0.5,
        "f1_MISC": 0.0,
        "precision_MISC": 0.0,
        "recall_MISC": 0.0,
        "support_MISC": 1.0,
        "f1_PER": 1.0,
        "precision_PER": 1.0,
        "recall_PER": 1.0,
        "support_PER": 1.0,
        "examples": 2.0,
    }


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("O I-PER I-PER O", [(1, 2, "PER")]),
        ("B-PER B-PER", [(0, 0, "PER"), (1, 1, "PER")]),
        ("B-PER I-MISC I-MISC", [(0, 0, "PER"), (1, 2, "MISC")]),
        ("I-PER I-MISC B-MISC", [(0, 0, "PER"), (1, 1, "MISC"), (2, 2, "MISC")]),
        ("O O", []),
    ],
)
def test_spans_begin_where_conlleval_says(tags: str, spans: list) -> None:
    numbers = np.array([NAMES.index(tag) for tag in tags.split()])
    first, last, kind = entity_spans(numbers, np.zeros(len(numbers), dtype=np.int64))
    assert [(a, b, TYPES[k]) for a, b, k in zip(first, last, kind, strict=True)] == spans


def slow_entities(tags: list[str]) -> set[tuple[int, int, str]]:
    """Word by word, after conlleval.pl's startOfChunk and endOfChunk for IOB."""
    found, begun, kind = set(), None, ""
    for place, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        if begun is not None and (prefix in "OB" or name != kind):
            found.add((begun, place - 1, kind))
            begun = None
        if prefix != "O" and begun is None:
            begun, kind = place, name
    return found


pairs = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=12)


@settings(deadline=None, max_examples=200)
@given(sentences=st.lists(pairs, min_size=1, max_size=5), cut=st.integers(0, 5))
def test_counts_are_those_of_a_slow_decoder_and_add_over_hospitals(sentences, cut) -> None:
    truth = [[a for a, _ in sentence] for sentence in sentences]
    guess = [[b for _, b in sentence] for sentence in sentences]
    whole = entity_sums(table(truth), guesses(guess), 2)
    for number, name in enumerate(TYPES):
        of_type = [
            [{e for e in slow_entities(tags) if e[2] == name} for tags in side]
            for side in (truth, guess)
        ]
        hits = sum(len(a & b) for a, b in zip(*of_type, strict=True))
        assert whole["true_positives"][number] == hits
        assert whole["false_negatives"][number] == sum(map(len, of_type[0])) - hits
        assert whole["false_positives"][number] == sum(map(len, of_type[1])) - hits
    parts = [
        entity_sums(table(truth[part]), guesses(guess[part]), 2)
        for part in (slice(cut), slice(cut, None))
    ]
    added = add_sums(parts)
    assert all(np.array_equal(added[name], whole[name]) for name in whole)


def test_figures_of_nothing_are_undefined_and_wrong_sums_refused() -> None:
    sums = entity_sums(table([["O", "O"]]), guesses([["O", "O"]]), 2)
    figures = entity_figures(sums, TYPES)
    assert math.isnan(figures["f1"]) and math.isnan(figures["recall_PER"])
    assert figures["support_PER"] == 0 and figures["examples"] == 1
    with pytest.raises(ValueError, match="true_positives.*expected 3"):
        entity_figures(sums, ["A", "B", "C"])
