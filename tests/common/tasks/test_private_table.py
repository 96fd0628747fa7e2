"""A table's private preparation: what a unit changes, what is found, what noise hides."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.common.config.covers import check_covers, covered
from wardround.common.config.load import parse_config
from wardround.common.errors import ConfigError, TaskError
from wardround.common.figures.sums import Sums
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.imaging import ImagingTask
from wardround.common.tasks.private import (
    GRID,
    Matrix,
    PrivatePreparation,
    sensitivity,
    shapes_of,
    unit_sums,
)
from wardround.common.tasks.tabular import TabularTask

COLUMNS = {
    "target": "cost",
    "numeric": ["age", "sodium"],
    "categorical": ["ward"],
    "categories": {"ward": ["a", "b"]},
    "binary": ["smoker"],
}
RANGES = {
    "age": {"range": [0.0, 100.0]},
    "sodium": {"range": [100.0, 180.0]},
    "cost": {"range": [0.0, 5000.0]},
}


def task(expected: dict[str, Any] | None = None, **more: Any) -> TabularTask:
    columns = COLUMNS | {"expected": expected or {}}
    return TabularTask(kind="regression", columns=columns, normalise_encoded=True, **more)


def table(rows: list[tuple[Any, ...]]) -> Table:
    names = ("age", "sodium", "ward", "smoker", "cost")
    return Table.of(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)), Path("t"))


def sums(
    private: PrivatePreparation, data: Table, units: list[int], phase: int, totals: Sums
) -> Sums:
    starts = np.concatenate([[0], np.cumsum(units)]).astype(np.int64)
    rows = np.arange(starts[-1])
    return unit_sums(private.parts(data, phase, totals), rows, starts)


number = st.none() | st.floats(-1e6, 1e6)
row = st.tuples(
    number, number, st.sampled_from(["a", "b"]), st.sampled_from([0, 1]), st.floats(-1e5, 1e5)
)
KNOWN: Sums = {
    "numeric/age/count": np.ones(1),
    "numeric/age/magnitude": np.eye(1, 35, 15)[0],
    "numeric/age/place": np.eye(1, 64, 40)[0],
    "numeric/sodium/count": np.ones(1),
    "numeric/sodium/magnitude": np.eye(1, 35, 16)[0],
    "numeric/sodium/place": np.eye(1, 64, 50)[0],
    "target/magnitude": np.eye(1, 35, 18)[0],
    "target/place": np.eye(1, 64, 33)[0],
}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(row, min_size=1, max_size=5),
    st.lists(row, min_size=1, max_size=4),
    st.sampled_from([None, RANGES]),
    st.integers(0, 2),
)
def test_no_unit_changes_more_than_is_said_however_many_rows_it_has(
    others: list[tuple[Any, ...]], own: list[tuple[Any, ...]], expected: Any, phase: int
) -> None:
    private = task(expected).private_preparation()
    phase = min(phase, private.phases - 1)
    ones = [1] * len(others)
    before = sums(private, table(others), ones, phase, KNOWN)
    after = sums(private, table([*others, *own]), [*ones, len(own)], phase, KNOWN)
    moved = math.sqrt(sum(float(((after[key] - before[key]) ** 2).sum()) for key in before))
    shapes = {key: value.shape for key, value in before.items()}
    assert moved <= sensitivity(private, shapes)
    assert all(np.array_equal(value, np.rint(value)) for value in after.values())
    none = table(others).keep(np.zeros(len(others), np.bool_), "none")
    assert shapes_of(private.parts(none, phase, KNOWN)) == shapes


def test_the_bound_is_reached() -> None:
    private = task(RANGES).private_preparation()
    found = sums(private, table([(100.0, 180.0, "a", 1, 5000.0)]), [1], 0, {})
    length = math.sqrt(sum(float((value**2).sum()) for value in found.values()))
    said = sensitivity(private, {key: value.shape for key, value in found.items()})
    assert 0.9999 * said < length <= said


def made(rows: int, seed: int = 0) -> tuple[Table, Matrix]:
    generator = np.random.default_rng(seed)
    age, sodium = generator.uniform(20, 90, rows), generator.normal(140, 4, rows)
    cost = generator.exponential(800, rows)
    smoker, ward = generator.random(rows) < 0.3, generator.random(rows) < 0.8
    age[::10] = np.nan
    data = [
        (None if np.isnan(a) else float(a), float(s), "ba"[int(w)], int(k), float(c))
        for a, s, w, k, c in zip(age, sodium, ward, smoker, cost, strict=True)
    ]
    return table(data), np.stack([age, sodium, cost])


def run(private: PrivatePreparation, data: Table, rows: int, sigma: float) -> Sums:
    totals: Sums = {}
    generator = np.random.default_rng(1)
    for phase in range(private.phases):
        private.check(phase, totals)
        found = sums(private, data, [1] * rows, phase, totals)
        totals = totals | {
            key: value + np.rint(generator.normal(0, sigma * GRID, value.shape))
            for key, value in found.items()
        }
    private.check(private.phases, totals)
    return private.condense(totals, sigma * GRID)


@pytest.mark.parametrize("expected", [None, RANGES])
@pytest.mark.parametrize(("rows", "sigma"), [(3000, 1e-3), (30_000, 40.0)])
def test_means_and_deviations_are_those_of_the_rows_where_noise_is_small(
    expected: Any, rows: int, sigma: float
) -> None:
    data, truth = made(rows)
    found = run(task(expected).private_preparation(), data, rows, sigma)
    for key, values in zip(("numeric/age", "numeric/sodium", "target"), truth, strict=True):
        mean, std = np.nanmean(values), np.nanstd(values)
        assert abs(found[f"{key}/mean"][0] - mean) < 0.15 * std
        assert 0.8 * std < found[f"{key}/std"][0] < 1.3 * std
    assert found["rows"][0] == pytest.approx(rows, abs=10 * sigma + 1)
    assert found["numeric/age/count"][0] == pytest.approx(0.9 * rows, abs=10 * sigma + 1)
    assert found["numeric/age/median"] == found["numeric/age/mean"]
    assert found["binary/smoker/ones"][0] == pytest.approx(0.3 * rows, rel=0.1)
    assert found["category/ward/a"][0] == pytest.approx(0.8 * rows, rel=0.1)
    assert task(expected).prepare(data, found, data).inputs.isfinite().all()


def test_columns_that_are_constant_mostly_zero_or_huge_have_a_range_too() -> None:
    columns = {"target": "cost", "numeric": ["x"]}
    plain = TabularTask(kind="regression", columns=columns)
    generator, rows = np.random.default_rng(3), 2000
    cost = generator.normal(0, 1, rows)
    for values in (
        np.full(rows, 7.0),
        np.zeros(rows),
        (generator.random(rows) < 0.05).astype(float),
        generator.normal(3e9, 1e7, rows),
        generator.normal(0, 1e-5, rows),
    ):
        data = Table.of({"x": values.tolist(), "cost": cost.tolist()}, Path("t"))
        found = run(plain.private_preparation(), data, rows, 1.0)
        scaled = plain.prepare(data, found, data).inputs.numpy()
        assert np.abs(scaled).max() < 40 and abs(scaled.mean()) < 1.5


def test_with_too_much_noise_a_declared_range_is_used_and_another_one_refused() -> None:
    data, _ = made(100)
    found = run(task(RANGES).private_preparation(), data, 100, 1e4)
    assert found["numeric/age/mean"][0] == pytest.approx(50, abs=5)
    assert 15 < found["numeric/age/std"][0] < 60
    with pytest.raises(TaskError, match="hides in which range.*declare it"):
        run(task().private_preparation(), data, 100, 30.0)


def test_images_are_bounded_and_come_out_as_they_are() -> None:
    plain = ImagingTask(classes=[str(n) for n in range(10)], size=[8, 8])
    digits = plain.load(None)
    private = plain.private_preparation()
    assert private is not None
    rows = plain.size(digits)
    parts = private.parts(digits, 0, {})
    starts = np.arange(rows + 1)
    found = unit_sums(parts, np.arange(rows), starts)
    exact, mine = plain.statistics(digits, 0, {}), private.condense(found, 0.0)
    for key in ("images", "mean", "squares"):
        assert mine[key] == pytest.approx(exact[key], rel=1e-4)
    lengths = sum(np.square(part.values).sum(axis=1) for part in parts.values())  # type: ignore[union-attr]
    assert float(np.sqrt(np.max(lengths))) <= private.bound(frozenset(parts))
    none = plain.select(digits, np.zeros(0, np.int64))
    assert shapes_of(private.parts(none, 0, {})) == shapes_of(parts)


def test_all_of_a_run_is_covered_where_ranges_are_declared() -> None:
    assert covered(parse_config(PRIVATE + DECLARED)) == ("training", "preparation", "evaluation")


# --- what can be covered --------------------------------------------------------------------------
PRIVATE = '[privacy]\nunit = "example"\nepsilon = 3.0\n'
DECLARED = '[task.columns]\nnumeric = ["age"]\n[task.columns.expected.age]\nrange = [0.0, 120.0]\n'


@pytest.mark.parametrize(
    ("text", "is_covered"),
    [
        (PRIVATE, False),  # columns without ranges: only where somebody asks for it
        (PRIVATE + DECLARED, True),
        (PRIVATE + '[task]\nnormalise = "none"\nmissing = "drop"\n', True),
        (PRIVATE + '[task]\nname = "imaging"\nclasses = ["a", "b"]\nsize = [8, 8]\n', True),
        (PRIVATE.replace("example", "hospital") + DECLARED, False),
    ],
)
def test_what_is_covered_unasked(text: str, is_covered: bool) -> None:
    assert ("preparation" in covered(parse_config(text))) is is_covered


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[task.columns]\ncategorical = ["ward"]\n', "'ward' are agreed from counts.*declare them"),
        ('[task]\nkind = "multiclass"\n', "classes are agreed from counts.*declare task.classes"),
        ('[task]\nnormalise = "local"\n', "own rows.*set task.normalise = 'federated'"),
        ('[task]\nnormalise = "none"\n', "own rows.*task.missing = 'refuse' or 'drop'"),
        ('[task]\nname = "mine.py:Mine"\n', "one's own says no bound.*use a built-in task"),
    ],
)
def test_what_cant_be_covered_is_refused_with_the_mend(text: str, says: str) -> None:
    made = parse_config(PRIVATE + 'covers = ["training", "preparation"]\n' + text)
    with pytest.raises(ConfigError, match=f"'preparation' can't be covered: .*{says}"):
        check_covers(made)
    assert "preparation" not in covered(parse_config(PRIVATE + text))
