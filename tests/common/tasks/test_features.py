"""Preparation at its edges: constants, tiny units, even medians, long names, rare categories."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.common.tasks.made import table
from wardround.common.errors import DataError
from wardround.common.figures.sums import add_sums
from wardround.common.tasks import features
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.tabular import TabularTask


def agree(task: TabularTask, shards: list[Table]) -> dict:
    totals: dict = {}
    for phase in range(task.phases):
        totals |= add_sums([task.statistics(shard, phase, totals) for shard in shards])
    return task.condense(totals)


@pytest.mark.parametrize("normalise", ["federated", "local"])
@pytest.mark.parametrize("value", ["1000000.1", "0.1", "1e-20", "0", "-3e9"])
def test_a_constant_column_becomes_zero_whatever_its_size(normalise, value) -> None:
    """The mean's rounding is no deviation: seven times 1000000.1 has std 1e-10 in float64."""
    shard = table(x=[value] * 7, y=["0"] * 7)
    task = TabularTask(columns={"target": "y"}, normalise=normalise)
    inputs = task.prepare(shard, agree(task, [shard]), shard).inputs
    np.testing.assert_allclose(inputs, 0, atol=1e-6)


@pytest.mark.parametrize("normalise", ["federated", "local"])
def test_a_tiny_unit_is_standardised_like_any(normalise) -> None:
    shard = table(x=["1e-14", "3e-14"], y=["0", "1"])
    task = TabularTask(columns={"target": "y"}, normalise=normalise)
    inputs = task.prepare(shard, agree(task, [shard]), shard).inputs
    np.testing.assert_allclose(inputs[:, 0], [-1, 1], rtol=1e-6)


@settings(deadline=None, max_examples=80)
@given(
    values=st.lists(st.integers(-20, 20).map(float), min_size=2, max_size=40),
    cut=st.integers(0, 40),
)
def test_the_median_is_numpys_within_the_bound(values, cut) -> None:
    task = TabularTask(columns={"target": "y"})
    shards = [
        table(x=[repr(v) for v in part], y=["0"] * len(part))
        for part in (values[:cut], values[cut:])
        if part
    ]
    median = agree(task, shards)["numeric/x/median"][0]
    bound = np.std(values) / features.MEDIAN_BINS
    assert abs(median - np.median(values)) <= bound * (1 + 1e-6) + 1e-9


def test_names_too_long_for_a_key_are_refused_at_their_place() -> None:
    task = TabularTask(columns={"target": "y"})
    with pytest.raises(DataError, match="x.csv: column 'é{20}...' has too long a name"):
        task.statistics(table(**{"é" * 80: ["1"], "y": ["0"]}), 0, {})
    many = TabularTask(kind="multiclass", columns={"target": "y"}, min_category_count=1)
    with pytest.raises(DataError, match="x.csv:3: column 'y'.*free text") as caught:
        many.statistics(table(x=["1", "2"], y=["a", "Jane Doe " * 60]), 0, {})
    assert "Jane" not in str(caught.value)
    text = TabularTask(columns={"target": "y", "categorical": ["c"]}, min_category_count=1)
    for longest in ("é" * 60, "a" * 61):
        with pytest.raises(DataError, match="x.csv:2: column 'c'.*free text"):
            text.statistics(table(c=[longest], y=["0"]), 0, {})
    keys = text.statistics(table(c=["a" * 60, "é" * 30], y=["0", "1"]), 0, {})
    assert max(len(key) for key in keys) <= 200


@pytest.mark.parametrize("encoded", [True, False])
def test_counts_of_declared_categories_are_sent_only_if_needed(encoded) -> None:
    columns = {"target": "y", "categorical": ["c"], "categories": {"c": ["1.0", "2"]}}
    task = TabularTask(columns=columns, normalise_encoded=encoded)
    shard = table(c=["1", "2.0", "1.0"], y=["0", "1", "1"])
    sent = [key for key in task.statistics(shard, 0, {}) if key.startswith("category/")]
    assert sent == (["category/c/1", "category/c/2"] if encoded else [])
    inputs = task.prepare(shard, agree(task, [shard]), shard).inputs.numpy()
    raw = np.array([[1, 0], [0, 1], [1, 0]], dtype=float)
    expected = (raw - raw.mean(axis=0)) / raw.std(axis=0) if encoded else raw
    np.testing.assert_allclose(inputs, expected, rtol=1e-6)


def test_other_columns_than_agreed_are_named_before_they_are_summed() -> None:
    task = TabularTask(columns={"target": "y"})
    totals = task.statistics(table(x=["1"], y=["0"]), 0, {})
    sums = task.statistics(table(x=["1"], z=["1"], y=["0"]), 1, totals)
    assert not [key for key in sums if "/z/" in key]
    with pytest.raises(DataError, match="x.csv: there is no column 'x'"):
        task.statistics(table(y=["0"]), 1, totals)


def test_an_outlier_of_a_late_hospital_does_not_overflow_a_bin() -> None:
    task = TabularTask(columns={"target": "y"})
    early, late = table(x=["0", "1e-25"], y=["0", "1"]), table(x=["-1e13", "1e13"], y=["0", "1"])
    totals: dict = {}
    for phase in (0, 1):
        totals |= task.statistics(early, phase, totals)
    sums = task.statistics(late, 2, totals)
    assert sums["numeric/x/below"][0] == 1 and sums["numeric/x/histogram"].sum() == 0
