"""Tests of groups from counts, means and variances are those of scipy and statsmodels."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import Table2x2
from statsmodels.stats.proportion import confint_proportions_2indep

from wardround.common.procedures.statistics.tests_of_groups import formulas as f

TABLES = [[[12, 5], [7, 19]], [[120, 80, 3], [40, 60, 11], [9, 9, 9]], [[3, 0], [5, 9]]]


def of(values):
    return f.Of(len(values), values.mean(), values.var(ddof=1))


@pytest.mark.parametrize("pooled", [False, True])
def test_means(pooled):
    rng = np.random.default_rng(1)
    first, second, third = (rng.normal(m, s, n) for m, s, n in [(0, 1, 33), (0.4, 2, 9), (1, 1, 3)])
    found = f.t_test(of(first), of(second), first.mean() - second.mean(), pooled)
    reference = stats.ttest_ind(first, second, equal_var=pooled)
    assert found[:3] == pytest.approx(
        (reference.statistic, reference.df, reference.pvalue), rel=1e-12
    )
    error, freedom = f.standard_error(of(first), of(second), pooled)
    interval = reference.confidence_interval()
    assert f.t_interval(first.mean() - second.mean(), error, freedom)[1:] == pytest.approx(
        tuple(interval), rel=1e-9
    )
    groups = [first, second, third]
    test, between, within = f.anova([of(one) for one in groups], [one.mean() for one in groups])
    expected = stats.f_oneway(*groups)
    assert (test.statistic, test.p) == pytest.approx(tuple(expected), rel=1e-12)
    everything = np.concatenate(groups)
    assert between + within == pytest.approx(((everything - everything.mean()) ** 2).sum())


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("correction", [False, True])
def test_counts(table, correction):
    cells = np.array(table, float)
    empty = np.zeros((len(cells) + 1, cells.shape[1] + 1))
    empty[1:, :-1] = cells  # a level that nobody has
    reference = stats.chi2_contingency(cells, correction=correction)
    found = f.chi_square(empty, correction)
    assert found[:3] == (reference.statistic, reference.dof, reference.pvalue)
    assert f.cramer(empty) == pytest.approx(
        stats.contingency.association(cells.astype(int), "cramer"), rel=1e-12
    )
    if cells.shape == (2, 2):
        assert f.fisher(empty) == stats.fisher_exact(cells.astype(int))[1]
        share = confint_proportions_2indep(
            cells[0, 0], cells[0].sum(), cells[1, 0], cells[1].sum(), method="newcomb"
        )
        assert f.risk_difference(cells)[1:] == pytest.approx(share, rel=1e-9)
    else:
        assert f.fisher(empty) is None and f.odds_ratio(cells) is None


def test_odds():
    cells = np.array(TABLES[0], float)
    reference = Table2x2(cells)
    assert f.odds_ratio(cells) == pytest.approx(
        (reference.oddsratio, *reference.oddsratio_confint()), rel=1e-12
    )
    assert f.odds_ratio(np.array(TABLES[2], float)) is None
    assert f.chi_square(np.array([[3.0, 4.0], [0.0, 0.0]]), True) is None


def test_ranks():
    rng = np.random.default_rng(2)
    groups = [rng.poisson(m, n) for m, n in [(3, 40), (4, 25), (3, 1)]]
    top = max(map(max, groups)) + 1
    table = np.array([np.bincount(one, minlength=top) for one in groups], float)
    expected = stats.mannwhitneyu(groups[0], groups[1], method="asymptotic")
    found = f.mann_whitney(table[:2])
    assert (found.statistic, found.p) == pytest.approx(tuple(expected), rel=1e-12)
    several = f.kruskal(table)
    assert (several.statistic, several.p) == pytest.approx(tuple(stats.kruskal(*groups)), rel=1e-12)
    assert np.isnan(f.mann_whitney(np.array([[5.0], [4.0]])).p)
    assert np.isnan(f.kruskal(np.array([[5.0], [4.0]])).p)
