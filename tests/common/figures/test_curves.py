"""Curves from histograms: scikit-learn's where bins are fine, and no step of few persons."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import auc as area
from sklearn.metrics import confusion_matrix, roc_auc_score

from wardround.common.figures.areas import bin_ends, wilson
from wardround.common.figures.curves import (
    calibration,
    confusion,
    groups_of,
    net_benefit,
    precision_recall,
    roc,
)
from wardround.common.figures.sums import binary_sums

ROWS = 1200


def drawn(prevalence: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    truth = (np.arange(ROWS) < prevalence * ROWS).astype(int)
    logits = rng.normal(2 * truth + np.log(prevalence) - 0.5, 1)
    return 1 / (1 + np.exp(-logits)), truth


def test_fine_curves_are_those_of_the_rows() -> None:
    scores, truth = drawn()
    sums = binary_sums(scores, truth)
    groups = groups_of(sums["positives"], sums["negatives"])
    assert groups is not None and groups.rows == ROWS
    assert area(*roc(groups)) == pytest.approx(roc_auc_score(truth, scores), abs=1e-3)
    for number in (20, 60, 100):  # at a cut all is exact
        cut = groups.low[number]
        guess = scores >= cut
        tp, fp = np.sum(guess & (truth == 1)), np.sum(guess & (truth == 0))
        cuts, model, everyone = net_benefit(groups)
        place = cuts.index(cut)
        odds = cut / (1 - cut)
        assert model[place] == pytest.approx(tp / ROWS - fp / ROWS * odds, rel=1e-12)
        assert everyone[place] == pytest.approx(0.3 - 0.7 * odds, rel=1e-12)
        place = -1 - number  # the lowest cut comes last
        recall, precision = precision_recall(groups)
        assert (recall[place], precision[place]) == (tp / 360, tp / (tp + fp))
        false, found = roc(groups)
        assert (false[place], found[place]) == (fp / 840, tp / 360)
        matrix = confusion_matrix(truth, guess).ravel()  # tn fp fn tp
        found = confusion(sums["positives"], sums["negatives"], cut)
        assert [found[3], found[1], found[2], found[0]] == matrix.tolist()


def test_calibration_has_tenths_of_the_rows_and_wilsons_intervals() -> None:
    scores, truth = drawn()
    sums = binary_sums(scores, truth)
    groups = groups_of(sums["positives"], sums["negatives"])
    assert groups is not None
    parts = calibration(groups)
    assert 9 <= len(parts) <= 10
    order, first = np.argsort(scores), parts[0]
    fits = [
        rows
        for rows in range(ROWS // 10, ROWS // 5)
        if first[2:] == wilson(float(truth[order[:rows]].sum()), rows)
        and abs(scores[order[:rows]].mean() - first[0]) < 1e-3
    ]
    assert fits, "no first tenth of the rows has this mean score and this interval"


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=20, max_size=20),
    st.integers(1, 12),
)
def test_no_step_is_of_few(cells: list[tuple[int, int]], smallest: int) -> None:
    """But where a side of 1/2 has few altogether, which accuracy and its like tell anyway."""
    positives, negatives = (np.array(column, float) for column in zip(*cells, strict=True))
    groups = groups_of(positives, negatives, smallest)
    low_K = bin_ends(20)[0]
    if groups is None:
        return
    assert sum(groups.positives) == positives.sum() and sum(groups.negatives) == negatives.sum()
    for side, there in ((low_K < 0.5, np.array(groups.low) < 0.5),
                        (low_K >= 0.5, np.array(groups.low) >= 0.5)):  # fmt: skip
        for column, whole in ((groups.positives, positives), (groups.negatives, negatives)):
            part = np.array(column)[there]
            assert part.sum() == whole[side].sum(), "a step goes across 1/2"
            assert len(part) == 1 or part.min() >= smallest


def test_rare_events_have_few_steps_and_one_class_none() -> None:
    scores, truth = drawn(0.02)
    sums = binary_sums(scores, truth)
    groups = groups_of(sums["positives"], sums["negatives"], 5)
    assert groups is not None and len(groups.low) <= 24 // 5 + 1
    assert groups_of(sums["positives"], np.zeros(1000)) is None
    assert groups_of(np.ones(7), np.ones(7), 5) is None, "1/2 lies within a bin"
