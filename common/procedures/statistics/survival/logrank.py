"""The log-rank test of two or more groups from their tables at common times (Mantel 1966).

O - E of each group, and its hypergeometric covariance, summed over times; the statistic is chi
square with one degree of freedom fewer than groups (lifelines ``multivariate_logrank_test``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from wardround.common.procedures.statistics.survival.curves import Floats, LifeTable


@dataclass(frozen=True)
class LogRank:
    """observed, expected : events of each group, (G,)"""

    statistic: float
    freedom: int
    p: float
    observed: Floats
    expected: Floats


def log_rank(tables: Sequence[LifeTable]) -> LogRank | None:
    """Of G tables with the same times; None where it is not defined: one group, or no event while
    two of them are at risk."""
    risk = np.stack([one.at_risk for one in tables])
    events = np.stack([one.events for one in tables])
    n, d = risk.sum(0), events.sum(0)
    used = (d > 0) & (n > 0)
    risk, events, n, d = risk[:, used], events[:, used], n[used], d[used]
    share = risk / n
    expected = share @ d
    scale = np.where(n > 1, d * (n - d) / np.maximum(n - 1, 1.0), 0.0)
    spread = np.diag(share @ scale) - (share * scale) @ share.T
    kept = np.diag(spread) > 0  # a group that is never at risk beside another says nothing
    freedom = int(kept.sum()) - 1
    if freedom < 1:
        return None
    apart = (events.sum(1) - expected)[kept][:-1]
    matrix = spread[np.ix_(kept, kept)][:-1, :-1]
    try:
        statistic = float(apart @ np.linalg.solve(matrix, apart))
    except np.linalg.LinAlgError:
        return None
    p = float(chi2.sf(statistic, freedom))
    return LogRank(statistic, freedom, p, events.sum(1), expected)
