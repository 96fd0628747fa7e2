"""Tests of differences between groups, of counts, means and variances that were summed.

As scipy.stats has them: ``ttest_ind_from_stats``, ``f_oneway``, ``chi2_contingency``,
``fisher_exact``, ``mannwhitneyu`` (normal, with ties), ``kruskal``. Odds ratios have Woolf's
interval, differences of proportions Newcombe's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
LEVEL = 0.95


class Of(NamedTuple):
    """A group: how many, mean, variance (n - 1)."""

    rows: float
    mean: float
    variance: float

    def resized(self, rows: float) -> Of:
        """The same of another number."""
        return Of(rows, self.mean, self.variance)


class Outcome(NamedTuple):
    """A test's outcome. ``within``: degrees of freedom of the denominator, where there are two."""

    statistic: float
    freedom: float
    p: float
    within: float = math.nan


class Estimate(NamedTuple):
    """With its interval of 95 %."""

    value: float
    low: float
    high: float


# --- means ----------------------------------------------------------------------------------------
def standard_error(first: Of, second: Of, pooled: bool) -> tuple[float, float]:
    """Of the difference of two means, and its degrees of freedom (Welch's unless ``pooled``)."""
    if pooled:
        freedom = first.rows + second.rows - 2
        within = (first.rows - 1) * first.variance + (second.rows - 1) * second.variance
        return math.sqrt(within / freedom * (1 / first.rows + 1 / second.rows)), freedom
    parts = [one.variance / one.rows for one in (first, second)]
    below = sum(part**2 / (one.rows - 1) for part, one in zip(parts, (first, second), strict=True))
    return math.sqrt(sum(parts)), sum(parts) ** 2 / below if below else math.nan


def t_test(first: Of, second: Of, difference: float, pooled: bool) -> Outcome:
    """Of two groups; NaN where neither varies. ``difference``: of the means, with all digits."""
    error, freedom = standard_error(first, second, pooled)
    if not error > 0:
        return Outcome(math.nan, freedom, math.nan)
    return t_of(difference / error, freedom)


def t_of(statistic: float, freedom: float) -> Outcome:
    """Two-sided."""
    return Outcome(statistic, freedom, float(2 * stats.t.sf(abs(statistic), freedom)))


def t_interval(value: float, error: float, freedom: float) -> Estimate:
    """Of a difference."""
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    return Estimate(value, value - half, value + half)


def anova(groups: Sequence[Of], shifts: Sequence[float]) -> tuple[Outcome, float, float]:
    """One-way; then the sums of squares between and within.

    shifts : the means, from any common number: with all digits of their differences
    """
    counts, means = np.array([one.rows for one in groups]), np.array(shifts)
    within = sum((one.rows - 1) * one.variance for one in groups if one.rows > 1)
    grand = (counts @ means) / counts.sum()
    between = float(counts @ (means - grand) ** 2)
    above, below = len(groups) - 1.0, float(counts.sum()) - len(groups)
    if not (within > 0 and below > 0):
        return Outcome(math.nan, above, math.nan, below), between, within
    statistic = between / above / (within / below)
    return f_of(statistic, above, below), between, within


def f_of(statistic: float, above: float, below: float) -> Outcome:
    """Of an F statistic."""
    return Outcome(statistic, above, float(stats.f.sf(statistic, above, below)), below)


# --- counts ---------------------------------------------------------------------------------------
def used(table: Floats) -> Floats:
    """A table without rows and columns that are empty."""
    found: Floats = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    return found


def chi_square(table: Floats, correction: bool) -> Outcome | None:
    """Pearson's; None of fewer than two rows or columns. ``correction``: Yates', of two by two."""
    if min(used(table).shape) < 2:
        return None
    found = stats.chi2_contingency(used(table), correction=correction)
    return Outcome(float(found.statistic), float(found.dof), float(found.pvalue))


def fisher(table: Floats) -> float | None:
    """The two-sided exact p of two by two; None of another table."""
    if used(table).shape != (2, 2):
        return None
    return float(stats.fisher_exact(used(table).astype(np.int64))[1])


def cramer(table: Floats) -> float | None:
    """Cramér's V, without correction."""
    found = chi_square(table, False)
    if found is None:
        return None
    return math.sqrt(found.statistic / table.sum() / (min(used(table).shape) - 1))


def odds_ratio(table: Floats) -> Estimate | None:
    """a d / (b c) of two by two, Woolf's interval; None where a cell is empty."""
    if table.shape != (2, 2) or not (table > 0).all():
        return None
    log = math.log(table[0, 0] * table[1, 1] / (table[0, 1] * table[1, 0]))
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * math.sqrt(float((1 / table).sum()))
    return Estimate(math.exp(log), math.exp(log - half), math.exp(log + half))


def risk_difference(table: Floats) -> Estimate | None:
    """Of two by two, the share of the first column in the first row less that in the second;
    Newcombe's interval of Wilson's scores."""
    if table.shape != (2, 2) or not (table.sum(axis=1) > 0).all():
        return None
    counts, sizes = table[:, 0], table.sum(axis=1)
    shares, z = counts / sizes, float(stats.norm.ppf((1 + LEVEL) / 2))
    middle = (counts + z**2 / 2) / (sizes + z**2)
    half = z / (sizes + z**2) * np.sqrt(counts * (1 - shares) + z**2 / 4)
    low, high = middle - half, middle + half
    value = float(shares[0] - shares[1])
    below = math.hypot(shares[0] - low[0], high[1] - shares[1])
    above = math.hypot(high[0] - shares[0], shares[1] - low[1])
    return Estimate(value, value - below, value + above)


# --- ranks ----------------------------------------------------------------------------------------
def rank_sums(table: Floats) -> Floats:
    """Of G groups the sum of mid-ranks, by counts of the values in their order (G x values)."""
    together = table.sum(axis=0)
    ranks = np.cumsum(together) - (together - 1) / 2
    found: Floats = table @ ranks
    return found


def tie_factor(table: Floats) -> float:
    """1 less the share of (n^3 - n) that ties have."""
    together, count = table.sum(axis=0), table.sum()
    return float(1 - (together**3 - together).sum() / (count**3 - count))


def mann_whitney(table: Floats) -> Outcome:
    """U of the first of two groups, and the two-sided normal p with correction for ties and
    continuity; NaN where all values are one."""
    first, second = table.sum(axis=1)
    statistic = float(rank_sums(table)[0] - first * (first + 1) / 2)
    return u_test(statistic, first, second, tie_factor(table))


def u_test(statistic: float, first: float, second: float, ties: float) -> Outcome:
    """By U, the groups' sizes and the factor of ties."""
    variance = first * second * (first + second + 1) / 12 * ties
    if not variance > 0:
        return Outcome(statistic, math.nan, math.nan)
    away = max(statistic, first * second - statistic) - first * second / 2 - 0.5
    return Outcome(
        statistic, math.nan, min(1.0, float(2 * stats.norm.sf(away / math.sqrt(variance))))
    )


def kruskal(table: Floats) -> Outcome:
    """H of several groups, with correction for ties; NaN where all values are one."""
    counts, total = table.sum(axis=1), table.sum()
    ties = tie_factor(table)
    if not ties > 0:
        return Outcome(math.nan, len(counts) - 1.0, math.nan)
    middle = (total + 1) / 2
    apart = float((counts * (rank_sums(table) / counts - middle) ** 2).sum())
    statistic = 12 / (total * (total + 1)) * apart / ties
    freedom = len(counts) - 1.0
    return Outcome(statistic, freedom, float(stats.chi2.sf(statistic, freedom)))
