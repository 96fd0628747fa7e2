"""Limits are exact: scipy's tails, and few false alarms at any number of rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom, mannwhitneyu

from wardround.common.drift.compare import (
    ALPHA,
    chances,
    compare,
    psi,
    reachable,
    shifted,
    ways,
)
from wardround.common.drift.counts import Column, Counts
from wardround.common.drift.field import Field, fields_of
from wardround.common.tasks.schema import Input, Output, Schema

WIDE = 12
SCHEMA = Schema(
    task="tabular",
    kind="binary",
    target="y",
    inputs=(
        *(Input(name=f"x{n}", kind="number", mean=0.0, std=1.0) for n in range(WIDE)),
        Input(name="ward", kind="category", categories=("a", "b", "c")),
    ),
    outputs=(Output(name="probability", kind="probability", of="1"),),
)
FIELDS = fields_of(SCHEMA)


def rows(generator: np.random.Generator, n: int, positive: float = 0.3) -> dict[str, Column]:
    """Undrifted rows: numbers with gaps, categories of which one is rare, a model's scores."""
    found: dict[str, Column] = {}
    for field in FIELDS[:WIDE]:
        values = generator.normal(0, 1, n)
        values[generator.random(n) < 0.1] = np.nan
        found[field.key] = Column(values)
    ward = generator.choice([0, 1, 2, -2], n, p=[0.6, 0.35, 0.045, 0.005])
    found[FIELDS[WIDE].key] = Column(ward)
    truth = (generator.random(n) < positive).astype(np.int64)
    logit = generator.normal(2.5 * truth - 1.8, 1.0)
    found[FIELDS[WIDE + 1].key] = Column(1 / (1 + np.exp(-logit)))
    found[FIELDS[WIDE + 2].key] = Column(truth)
    return found


def counts(generator: np.random.Generator, n: int) -> Counts:
    return Counts.of(FIELDS, rows(generator, n))


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.data())
def test_no_chance_is_told_too_small_and_far_ones_are_scipys(
    n: int, total: int, data: st.DataObject
) -> None:
    whole = n + total
    marked = data.draw(st.integers(0, whole))
    x = data.draw(st.integers(max(0, n + marked - whole), min(n, marked)))
    tails = hypergeom.cdf(x, whole, marked, n), hypergeom.sf(x - 1, whole, marked, n)
    exact = min(1.0, 2 * min(tails))
    (found,) = chances(*(np.array([float(v)]) for v in (x, n, marked, whole)))
    assert found >= exact * (1 - 1e-9)
    if exact < 1e-4:
        assert found <= exact * 1.25


def test_tarones_number_counts_only_what_could_reach_its_limit() -> None:
    marked = np.array([1.0, 2.0, 3.0, 100.0, 120.0, 2.0])
    n, whole = np.full(6, 50.0), np.full(6, 250.0)
    # the least chance that 1, 2, 3 marked rows can have: all of them among the 50 of 250
    least = [2 * hypergeom.pmf(k, 250, k, 50) for k in (1, 2, 3)]
    assert [one > 0.01 / 2 for one in least] == [True, True, True]
    assert reachable(n, marked, whole, 0.01) == 2
    assert reachable(n, marked, whole, 0.5) == 5  # those of two marked rows reach 0.1, too


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(20, 80), st.integers(20, 80))
def test_the_test_by_ranks_is_scipys(seed: int, n: int, total: int) -> None:
    generator = np.random.default_rng(seed)
    window, reference = generator.integers(0, 6, n), generator.integers(0, 5, total)
    counts = [np.append(np.bincount(one, minlength=6), [0, 7]) for one in (reference, window)]
    exact = mannwhitneyu(window, reference, use_continuity=False, method="asymptotic").pvalue
    assert shifted(*counts, known=6) == pytest.approx(exact)
    assert shifted(np.array([50, 1, 0]), np.array([50, 5, 0]), 2) is None  # most are of one bin
    assert shifted(np.array([10, 10]), np.array([9, 9]), 2) is None


def test_which_tests_are_made_follows_from_all_rows_together_alone() -> None:
    field = Field("input", "x", cuts=(0.0, 1.0, 2.0))
    together = np.array([30, 0, 20, 5, 0, 2])
    made = []
    for window in ([10, 0, 5, 0, 0, 1], [0, 0, 20, 5, 0, 2], [30, 0, 0, 0, 0, 0]):
        here = np.array(window)
        made.append([one.what for one in ways(field, together - here, here)])
    assert made[0] == made[1] == made[2]
    assert made[0] == ["missing", "under 0", "under 2", "from 1 to 2", "2 or more"]


@pytest.mark.parametrize("n", [50, 200, 1000])
def test_clean_windows_raise_few_alarms(n: int) -> None:
    """``benchmarks/drift.py`` does it with 1,000 windows of each size; the usual 0.2 of the PSI
    is passed by nearly every window of 50."""
    alarms, usual = 0, 0
    for seed in range(120):
        generator = np.random.default_rng([seed, n])
        found = compare(counts(generator, 400), counts(generator, n))
        alarms += any(one.drifted for one in found)
        usual += any(one.psi > 0.2 for one in found)
    # 120 windows at the bound of 0.01 have more than 4 with a chance of 0.8 %
    assert alarms <= 4
    assert usual > 100 or n > 50


@pytest.mark.parametrize(
    ("drift", "where"),
    [("unit", "input/x3"), ("missing", "input/x3"), ("new", "input/ward"), ("label", "score/")],
)
def test_200_rows_show_what_went_wrong(drift: str, where: str) -> None:
    for seed in range(10):
        generator = np.random.default_rng(seed)
        reference = counts(generator, 400)
        found = rows(generator, 200, 0.6 if drift == "label" else 0.3)
        if drift == "unit":
            found["input/x3"] = Column((found["input/x3"].values + 5) / 38.67 - 5)
        if drift == "missing":
            found["input/x3"] = Column(np.full(200, np.nan))
        if drift == "new":
            ward = found["input/ward"].values.copy()
            ward[:20] = -2
            found["input/ward"] = Column(ward)
        alarms = [one for one in compare(reference, Counts.of(FIELDS, found)) if one.drifted]
        assert any(one.field.key.startswith(where) for one in alarms), drift
        if drift in ("unit", "missing", "new"):
            assert [one.field.key for one in alarms] == [where]
        if drift == "missing":
            assert alarms[0].what == "missing" and alarms[0].window == 200
        if drift == "new":
            assert "doesn't know" in alarms[0].what


def test_what_is_beyond_chance_and_small_is_told_and_is_no_alarm() -> None:
    fields = (Field("input", "x", texts=("0", "1")),)

    def of(ones: int, n: int) -> Counts:
        return Counts.of(fields, {"input/x": Column((np.arange(n) < ones).astype(np.int64))})

    (found,) = compare(of(25_000, 50_000), of(26_000, 50_000))
    assert found.beyond_chance and not found.drifted and abs(found.change) == pytest.approx(0.02)
    (found,) = compare(of(25_000, 50_000), of(30_000, 50_000))
    assert found.drifted


def test_the_index_is_the_written_sum() -> None:
    reference, window = np.array([80, 20, 0, 0]), np.array([30, 20, 0, 0])
    r, w = np.array([80.5, 20.5]) / 101, np.array([30.5, 20.5]) / 51
    assert psi(reference, window) == pytest.approx(sum((w - r) * np.log(w / r)))


def test_no_role_gets_more_than_its_share() -> None:
    generator = np.random.default_rng(0)
    found = compare(counts(generator, 400), counts(generator, 200))
    limits = {one.field.role: one.limit for one in found}
    assert limits["outcome"] == pytest.approx(ALPHA / 4)  # one test of one field
    assert limits["input"] < ALPHA / 2 / WIDE and limits["score"] < ALPHA / 8
