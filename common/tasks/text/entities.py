"""Figures of named entities: exact matches of span and type, counted over hospitals.

Tags are read as conlleval does (Tjong Kim Sang and De Meulder 2003, CoNLL shared task), leniently:
an I- after O, or after another type, begins an entity too. A word that is predicted half right is
one false positive and one false negative.

Shapes: N rows, T tokens, L tags (O, then B- and I- of each type), E types, W tagged words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.figures.figure import LOSS, Figure
from wardround.common.figures.sums import Sums, ratio
from wardround.common.tasks.text.rows import IGNORED

Ints = NDArray[np.int64]
_SCORES = ("f1", "precision", "recall")


def entity_spans(tags: Ints, sentences: Ints) -> tuple[Ints, Ints, Ints]:
    """First word, last word and type of every entity, in order.

    Parameters
    ----------
    tags : W, numbers in 0..L-1: 0 is O, 2 k + 1 and 2 k + 2 are B- and I- of type k
    sentences : W, equal for the words of one sentence, which stand together

    >>> tags, sentences = np.array([1, 2, 0, 4]), np.zeros(4, dtype=np.int64)  # B-0 I-0 O I-1
    >>> [part.tolist() for part in entity_spans(tags, sentences)]
    [[0, 3], [1, 3], [0, 1]]
    """
    inside = tags > 0
    kind = (tags - 1) // 2
    same = np.zeros(len(tags), dtype=np.bool_)  # goes on with the entity of the word before
    same[1:] = (
        inside[1:]
        & inside[:-1]
        & (tags[1:] % 2 == 0)
        & (kind[1:] == kind[:-1])
        & (sentences[1:] == sentences[:-1])
    )
    first = np.flatnonzero(inside & ~same)
    last = np.flatnonzero(inside & ~np.append(same[1:], False))
    return first, last, kind[first]


def entity_sums(truth: Ints, predicted: Ints, types: int) -> Sums:
    """``true_positives``, ``false_positives`` and ``false_negatives``, E; ``examples``, 1.

    Parameters
    ----------
    truth : N x T, ``IGNORED`` where there is no word
    predicted : N x T, tag numbers, looked at where there is a word
    """
    rows, _ = np.nonzero(truth != IGNORED)
    words = truth != IGNORED
    true, guessed = (_keys(tags[words], rows, types) for tags in (truth, predicted))
    found = np.intersect1d(true, guessed, assume_unique=True)
    counts = [np.bincount(one % types, minlength=types) for one in (true, guessed, found)]
    in_truth, in_guess, in_both = (count.astype(np.float64) for count in counts)
    return {
        "true_positives": in_both,
        "false_positives": in_guess - in_both,
        "false_negatives": in_truth - in_both,
        "examples": np.array([float(len(truth))]),
    }


def entity_counts(truth: Ints, predicted: Ints, types: int) -> Ints:
    """The first three of ``entity_sums`` of each row: N x 3 x E."""
    rows, _ = np.nonzero(truth != IGNORED)
    words = truth != IGNORED
    found = np.zeros((len(truth), 3, types), dtype=np.int64)
    if not len(rows):
        return found
    true, guessed = (_keys(tags[words], rows, types) for tags in (truth, predicted))
    hit = np.isin(guessed, true, assume_unique=True)
    missed = true[np.isin(true, guessed, assume_unique=True, invert=True)]
    for which, keys in enumerate((guessed[hit], guessed[~hit], missed)):
        first = keys // types // (len(rows) + 1)
        found[:, which] = np.bincount(
            rows[first] * types + keys % types, minlength=len(truth) * types
        ).reshape(len(truth), types)
    return found


def _keys(tags: Ints, rows: Ints, types: int) -> Ints:
    """One number for each entity, by span and type: equal numbers are equal entities, so counting
    hits is an intersection."""
    first, last, kind = entity_spans(tags, rows.astype(np.int64))
    return (first * (len(tags) + 1) + last) * types + kind


def entity_figures(sums: Mapping[str, NDArray[Any]], types: Sequence[str]) -> dict[str, float]:
    """``precision``, ``recall`` and ``f1`` over all types (micro) and of each, as ``f1_TYPE``, with
    ``support_TYPE``, how many there are. NaN where nothing was there to be counted.

    Raises ValueError if the sums aren't those of ``entity_sums`` for these types.
    """
    names = ("true_positives", "false_positives", "false_negatives")
    counts = []
    for name in names:
        value = np.asarray(sums.get(name, np.zeros(0)), dtype=np.float64)
        if value.shape != (len(types),) or not np.isfinite(value).all():
            raise ValueError(f"sum '{name}': expected {len(types)} finite numbers")
        counts.append(value)
    hits, extra, missed = counts
    figures = _figures(hits.sum(), extra.sum(), missed.sum(), "")
    for number, name in enumerate(types):
        figures |= _figures(hits[number], extra[number], missed[number], f"_{name}")
        figures[f"support_{name}"] = float(hits[number] + missed[number])
    return figures | {"examples": float(sums["examples"][0])}


def described_figures(types: Sequence[str]) -> tuple[Figure, ...]:
    """What the figures of ``entity_figures`` are, and the loss."""
    suffixes = ["", *(f"_{name}" for name in types)]
    scores = [Figure(f"{what}{end}", "higher") for end in suffixes for what in _SCORES]
    support = [Figure(f"support_{name}") for name in types]
    return (*scores, *support, Figure("examples"), LOSS)


def _figures(hits: float, extra: float, missed: float, suffix: str) -> dict[str, float]:
    return {
        f"f1{suffix}": float(ratio(2 * hits, 2 * hits + extra + missed)),
        f"precision{suffix}": float(ratio(hits, hits + extra)),
        f"recall{suffix}": float(ratio(hits, hits + missed)),
    }
