"""Summaries, tables, correlations and tests of groups beside numpy and scipy: for
``benchmarks/statistics.py``.

What is shown rounded, or of bins, says by how much it may be off: its difference is given in parts
of that, and 1 is the limit. Tests have all digits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

Values = Mapping[str, Any]


def counts(
    frames: Mapping[str, pd.DataFrame], ask: Callable[..., Mapping[str, Any]]
) -> Iterable[tuple[str, float, float | None, str]]:
    """Differences of everything that counts and compares."""
    pooled = pd.concat(frames.values())
    numbers = {"columns": ["age", "dose"]}
    found = ask(
        {"name": "summary", "kind": "summary"} | numbers,
        {"name": "table", "kind": "crosstab", "rows": "arm", "columns": "event"},
        {"name": "correlation", "kind": "correlation"} | numbers,
        {"name": "t", "kind": "t_test", "by": "event"} | numbers,
        {"name": "paired", "kind": "paired_t_test", "before": "age", "after": "dose"},
        {"name": "anova", "kind": "anova", "by": "arm"} | numbers,
        {"name": "ranks", "kind": "mann_whitney", "by": "event"} | numbers,
        {"name": "kruskal", "kind": "kruskal", "by": "arm"} | numbers,
    )
    yield from _summary(lines(found["summary"], "numbers"), pooled)
    yield from _table(found["table"], pooled)
    pair = lines(found["correlation"], "pairs")[1]
    off = abs(pair["r"] - pooled[["age", "dose"]].corr().iloc[0, 1]) / pair["r ±"]
    yield "correlation, in parts of its ±", float(off), 1.0, "pandas"
    yield from _tests(found, pooled)


def lines(analysis: Values, name: str = "") -> list[dict[str, Any]]:
    """Rows of a table as mappings; of columns named '±' each behind the one before it."""
    table = next(one for one in analysis["tables"] if one["name"] == name)
    head = [f"{table['head'][n - 1]} ±" if h == "±" else h for n, h in enumerate(table["head"])]
    return [dict(zip(head, row, strict=True)) for row in table["rows"]]


def _summary(
    shown: Iterable[Values], pooled: pd.DataFrame
) -> Iterable[tuple[str, float, float | None, str]]:
    means, quantiles, wide = [0.0], [0.0], [0.0]
    for line in shown:
        values = pooled[line["column"]].dropna().to_numpy()
        if line["mean"] is not None:
            means.append(abs(line["mean"] - values.mean()) / line["mean ±"])
        for p in (5, 25, 50, 75, 95):
            if line[f"{p} %"] is not None:
                error = line[f"{p} % ±"]
                quantiles.append(abs(line[f"{p} %"] - np.quantile(values, p / 100)) / error)
                wide.append(error / values.std())
    yield "mean, in parts of its ±", max(means), 1.0, "numpy"
    yield "quantiles, in parts of their ±", max(quantiles), 1.0, "numpy"
    yield "± of quantiles over the deviation", max(wide), None, "numpy"


def _table(found: Values, pooled: pd.DataFrame) -> Iterable[tuple[str, float, float | None, str]]:
    cells = pd.crosstab(pooled["arm"], pooled["event"]).to_numpy()
    if found["values"]["of"] != "exact counts":
        return
    figures = {line["figure"]: line for line in lines(found, "tests")}
    for name, corrected in (("chi-square", False), ("chi-square, continuity-corrected", True)):
        if name in figures:
            expected = stats.chi2_contingency(cells, correction=corrected)
            off = abs(figures[name]["value"] - expected.statistic)
            yield name, float(off), 0.0, "scipy"
            yield f"{name}: p", float(abs(figures[name]["p"] - expected.pvalue)), 0.0, "scipy"
    if "Fisher's exact test" in figures:
        off = abs(figures["Fisher's exact test"]["p"] - stats.fisher_exact(cells)[1])
        yield "Fisher: p", float(off), 0.0, "scipy"


def _tests(
    found: Mapping[str, Values], pooled: pd.DataFrame
) -> Iterable[tuple[str, float, float | None, str]]:
    off: dict[str, list[float]] = {name: [] for name in ("t", "F", "U", "H", "p of U")}
    for line in lines(found["t"]):
        groups = _groups(pooled, line["column"], "event")
        expected = stats.ttest_ind(*groups, equal_var=line["test"] == "Student").statistic
        off["t"].append(abs(line["t"] / expected - 1))
    for line in lines(found["anova"]):
        expected = stats.f_oneway(*_groups(pooled, line["column"], "arm")).statistic
        off["F"].append(abs(line["F"] / expected - 1))
    for line in lines(found["ranks"]):
        test = stats.mannwhitneyu(*_groups(pooled, line["column"], "event"), method="asymptotic")
        off["U"].append(max(0.0, abs(line["U"] - test.statistic) - line["U ±"]))
        if not line["U ±"]:
            off["p of U"].append(abs(line["p"] / test.pvalue - 1))
    for line in lines(found["kruskal"]):
        expected = stats.kruskal(*_groups(pooled, line["column"], "arm")).statistic
        off["H"].append(max(0.0, abs(line["H"] - expected) - line["H ±"]))
    both = pooled[["age", "dose"]].dropna()
    expected = stats.ttest_rel(both["dose"], both["age"]).statistic
    for line in lines(found["paired"]):
        yield "paired t, relative", abs(line["t"] / expected - 1), 1e-12, "scipy"
    yield "t, relative", max(off["t"], default=0.0), 1e-12, "scipy"
    yield "F, relative", max(off["F"], default=0.0), 1e-12, "scipy"
    yield "Mann-Whitney U, beyond its ±", max(off["U"], default=0.0), 1e-9, "scipy"
    yield "its p where it is exact, relative", max(off["p of U"], default=0.0), 1e-9, "scipy"
    yield "Kruskal-Wallis H, beyond its ±", max(off["H"], default=0.0), 1e-9, "scipy"


def _groups(pooled: pd.DataFrame, column: str, by: str) -> list[Any]:
    rows = pooled[[column, by]].dropna()
    return [part[column].to_numpy() for _, part in rows.groupby(by)]
