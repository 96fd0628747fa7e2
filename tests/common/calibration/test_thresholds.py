"""Thresholds against all cuts of the same rows, and Wilson's intervals against scipy."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_curve

from wardround.common.calibration.thresholds import RULES, thresholds, thresholds_of
from wardround.common.errors import ConfigError
from wardround.common.figures.curves import groups_of
from wardround.common.figures.sums import add_sums, binary_sums

GENERATOR = np.random.default_rng(1)
TRUTH = (GENERATOR.random(3000) < 0.2).astype(int)
SCORES = 1 / (1 + np.exp(-(GENERATOR.normal(0, 1, 3000) + 2 * TRUTH - 2)))
SUMS = binary_sums(SCORES, TRUTH)
TASK = SimpleNamespace(class_scores=True)


def test_each_rule_is_kept_and_no_other_cut_keeps_it_better() -> None:
    false, true, cuts = roc_curve(TRUTH, SCORES, drop_intermediate=False)
    found = {one.rule: one for one in thresholds(SUMS, RULES)}
    for share in (0.8, 0.9, 0.95):
        one = found[f"sensitivity={share}"]
        best = cuts[true >= share].max()
        assert np.mean(SCORES[TRUTH == 1] >= one.threshold) >= share
        assert one.threshold <= best < one.threshold + 0.02
        other = found[f"specificity={share}"]
        least = cuts[1 - false >= share].min()
        assert np.mean(SCORES[TRUTH == 0] < other.threshold) >= share
        assert least - 0.02 < other.threshold <= least + 0.02
    youden = found["youden"].figures
    sum_ = youden["sensitivity"][0] + youden["specificity"][0]  # type: ignore[operator]
    assert sum_ == pytest.approx((true - false).max() + 1, abs=0.01)
    for odds in (0.05, 0.1, 0.2, 0.3):
        benefit = (true * TRUTH.sum() - odds / (1 - odds) * false * (1 - TRUTH).sum()) / 3000
        value = found[f"net_benefit={odds}"].figures["net_benefit"][0]
        assert value == pytest.approx(benefit.max(), abs=0.002)


def test_figures_are_of_the_rows_at_that_threshold_with_wilsons_intervals() -> None:
    one = thresholds(SUMS, ["youden"])[0]
    called = SCORES >= one.threshold
    cells = {
        "sensitivity": (called & (TRUTH == 1), TRUTH == 1),
        "specificity": (~called & (TRUTH == 0), TRUTH == 0),
        "ppv": (called & (TRUTH == 1), called),
        "npv": (~called & (TRUTH == 0), ~called),
        "selection_rate": (called, np.ones(3000)),
    }
    for name, (count, of) in cells.items():
        test = binomtest(int(count.sum()), int(of.sum()))
        ends = test.proportion_ci(method="wilson")
        assert one.figures[name] == pytest.approx([test.statistic, *ends], abs=6e-4), name


def test_hospitals_sums_give_what_their_rows_together_give() -> None:
    parts = np.split(np.arange(3000), [1, 34, 900])
    added = add_sums([binary_sums(SCORES[part], TRUTH[part]) for part in parts])
    assert thresholds(added) == thresholds(SUMS)
    text = thresholds_of(TASK, added)  # type: ignore[arg-type]
    assert [one["rule"] for one in json.loads(text)["thresholds"]] == list(RULES)


def test_where_none_can_be_chosen_there_is_no_file() -> None:
    few = binary_sums(SCORES[:50], np.zeros(50, dtype=int))
    assert thresholds_of(TASK, few) == thresholds_of(TASK, None) == ""  # type: ignore[arg-type]
    no_classes = SimpleNamespace(class_scores=False)
    assert thresholds_of(no_classes, SUMS) == ""  # type: ignore[arg-type]
    for wrong in ("sensitivity=1", "auc=0.9", "youden=1", "specificity=x"):
        with pytest.raises(ConfigError, match="is no rule; give sensitivity=0.9"):
            thresholds(SUMS, [wrong])


def test_published_ones_lie_where_shown_curves_have_steps() -> None:
    """So a threshold beside a curve tells no cell of fewer than 5 rows of either class."""
    groups = groups_of(SUMS["positives"], SUMS["negatives"], 5)
    assert groups is not None
    text = thresholds_of(TASK, SUMS, "test", smallest=5)  # type: ignore[arg-type]
    chosen = [one["threshold"] for one in json.loads(text)["thresholds"]]
    assert all(min(abs(cut - low) for low in groups.low) < 1e-5 * max(cut, 1e-9) for cut in chosen)
    cuts = sorted({0.0, *chosen, 1.1})
    for low, high in zip(cuts, cuts[1:], strict=False):
        between = (low <= SCORES) & (high > SCORES)
        assert min(np.sum(TRUTH[between]), np.sum(1 - TRUTH[between])) >= 5
    free = [one.threshold for one in thresholds(SUMS)]
    assert set(free) - set(chosen)  # without the bound they lie elsewhere
