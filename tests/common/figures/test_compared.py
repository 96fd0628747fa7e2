"""Models side by side: the hospitals' mean stands for them, all rows mixed are never starred."""

from __future__ import annotations

import pytest
from scipy import stats

from wardround.common.figures.compared import (
    compared,
    intervals,
    mean_interval,
    mean_over,
    same_hospitals,
    span_of,
    standing_row,
)
from wardround.common.figures.figure import BINARY, REGRESSION, FigureTable

KINDS = ["local", "federated"]
AUC = FigureTable(BINARY, "auc").primary
# three hospitals with prevalences far apart: scores of local models in one pot rank hospitals
TABLE = [
    {"hospital": "north", "local": {"auc": 0.776}, "federated": {"auc": 0.777}},
    {"hospital": "south", "local": {"auc": 0.78}, "federated": {"auc": 0.779}},
    {"hospital": "west", "local": {"auc": 0.758}, "federated": {"auc": 0.759}},
    {"hospital": "mean", "local": {"auc": 0.7713}, "federated": {"auc": 0.7717}},
    {"hospital": "overall", "local": {"auc": 0.896}, "federated": {"auc": 0.656}},
]


def test_the_mean_is_the_headline_and_the_mixture_has_no_star() -> None:
    stars = {row["hospital"]: [s for _, s in compared(row, KINDS, AUC, str)] for row in TABLE}
    assert stars["mean"] == [False, False] and stars["overall"] == [False, False]
    assert standing_row(TABLE, AUC, KINDS)["hospital"] == "mean"
    assert AUC.name_of("overall") == "all rows, hospitals mixed"
    none = [row | {"local": {}, "federated": {}} for row in TABLE[:4]]  # no hospital has its own
    assert standing_row([*none, TABLE[4]], AUC, KINDS)["hospital"] == "overall"
    rmse = FigureTable(REGRESSION, "rmse").primary
    assert rmse.may_star("overall") and rmse.name_of("overall") == "all rows together"


def test_a_star_is_for_what_chance_can_hardly_have_made() -> None:
    names = ["a", "b", "c", "d"]
    pairs = [(0.70, 0.72), (0.60, 0.63), (0.80, 0.82), (0.75, 0.78)]  # always better, and far apart
    rows = [
        {"hospital": name, "local": {"auc": x}, "federated": {"auc": y}}
        for name, (x, y) in zip(names, pairs, strict=True)
    ]
    mean = {"hospital": "mean", "local": {"auc": 0.7125}, "federated": {"auc": 0.7375}}
    assert stats.ttest_rel(*zip(*pairs, strict=True)).pvalue < 0.05
    assert [star for _, star in compared(mean, KINDS, AUC, str, [*rows, mean])] == [False, True]
    rows[0]["federated"] = {"auc": 0.66}
    assert [star for _, star in compared(mean, KINDS, AUC, str, [*rows, mean])] == [False, False]
    one = rows[1] | {"intervals": {"local": {"auc": [0.58, 0.61]}, "federated": {"auc": [0.62, 1]}}}
    assert [star for _, star in compared(one, KINDS, AUC, str)] == [False, True]
    one["intervals"]["local"]["auc"][1] = 0.63
    assert [star for _, star in compared(one, KINDS, AUC, str)] == [False, False]
    assert span_of(one, "local", AUC) == (0.58, 0.63) and span_of(rows[1], "local", AUC) is None


def test_the_interval_over_hospitals_is_students() -> None:
    values = [0.776, 0.78, 0.758]
    expected = stats.t.interval(0.95, 2, stats.tmean(values), stats.sem(values))
    assert mean_interval(values) == pytest.approx(expected)
    assert mean_interval(values[:2]) is None and mean_interval([0.5, 0.99, 0.99])[1] == 1.0
    assert intervals(TABLE, KINDS, AUC).startswith(f"local {expected[0]:.3f} to")
    assert intervals(TABLE, KINDS, FigureTable(BINARY, "loss").primary) == ""


def test_a_bound_stands_beside_its_figure() -> None:
    row = {"hospital": "mean", "local": {"auc": 0.651, "auc_error_bound": 0.079}}
    assert compared(row, ["local", "pooled"], AUC, str)[0] == ("0.651 ±0.079", False)


def test_a_mean_of_fewer_hospitals_than_are_shown_says_so() -> None:
    """One has rows of one class only: no area under a curve is defined there."""
    lone = {"hospital": "lone", "local": {"auc": None, "accuracy": 1.0}}
    assert mean_over(TABLE, KINDS, AUC) == ""
    assert "of 3 of 4 hospitals" in mean_over([lone, *TABLE], KINDS, AUC)
    assert mean_over([lone], KINDS, AUC) == "", "no mean at all"


def test_means_of_different_hospitals_are_said_to_be_no_comparison() -> None:
    """Precision is undefined where a model finds nobody: of three hospitals for one, of one for the
    other model."""
    precision = FigureTable(BINARY, "auc")["precision"]
    table = [
        {"hospital": name, "local": {"precision": local}, "federated": {"precision": federated}}
        for name, local, federated in [("a", 0.5, 0.9), ("b", 0.4, None), ("c", 0.6, None)]
    ]
    said = mean_over(table, KINDS, precision)
    assert "different hospitals" in said and "(local of 3, federated of 1 of 3)" in said
    assert not same_hospitals(table, KINDS, precision)
    assert same_hospitals(table, ["local"], precision) and same_hospitals(TABLE, KINDS, AUC)
    assert mean_over(table, ["local"], precision) == ""
