"""Counts add, are the same from a file and from memory, and are read again from what holds them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.common.drift.compare import compare
from wardround.common.drift.counts import Column, Counts, none_of
from wardround.common.drift.field import Field, fields_of
from wardround.common.drift.metrics import counts_of_metrics, metrics_text
from wardround.common.drift.recent import Recent, Recently
from wardround.common.drift.reference import Reference
from wardround.common.drift.rows import predictable, table_inputs, table_outcomes, with_absent
from wardround.common.errors import DataError
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.data.tables import read_table
from wardround.common.tasks.options import TabularOptions
from wardround.common.tasks.schema import Input, Output, Schema

ODD_NAME = 'we"ird\\ {x}'
SCHEMA = Schema(
    task="tabular",
    kind="binary",
    target="died",
    inputs=(
        Input(name="age", kind="number", mean=60.0, std=10.0, median=62.0),
        Input(name=ODD_NAME, kind="number"),
        Input(name="smoker", kind="binary"),
        Input(name="ward", kind="category", categories=("icu", "general")),
    ),
    outputs=(Output(name="probability", kind="probability", of="1"),),
)
FIELDS = fields_of(SCHEMA)
OPTIONS = TabularOptions(
    columns={
        "target": "died",
        "numeric": ["age", ODD_NAME],
        "binary": ["smoker"],
        "categorical": ["ward"],
    }
)
numbers = st.floats(allow_nan=True, allow_infinity=True, width=64)
rows = st.lists(
    st.tuples(numbers, numbers, st.integers(-2, 1), st.integers(-2, 1), st.floats(0, 1)),
    min_size=1,
    max_size=40,
)


def columns(found: list[tuple[float, float, int, int, float]]) -> dict[str, Column]:
    values = [np.array(one) for one in zip(*found, strict=True)]
    return {field.key: Column(one) for field, one in zip(FIELDS[:5], values, strict=True)}


@settings(max_examples=60, deadline=None)
@given(rows, st.data())
def test_counts_of_halves_add_up_to_the_whole_and_survive_what_holds_them(
    found: list[tuple[float, float, int, int, float]], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(1, len(found)))
    whole = Counts.of(FIELDS, columns(found))
    rest = Counts.of(FIELDS, columns(found[cut:])) if cut < len(found) else none_of(FIELDS)
    added = Counts.of(FIELDS, columns(found[:cut])) + rest
    again = [
        Counts.of_sums(FIELDS, added.sums()),
        counts_of_metrics(metrics_text(Recently(added, (), 0)), FIELDS, "here"),
        Reference.of_values(json.loads(Reference(added).to_text()), FIELDS, "", "here").counts,
    ]
    for one in (added, *again):
        assert one.cells.keys() == whole.cells.keys()
        for key, cells in whole.cells.items():
            np.testing.assert_array_equal(one.cells[key], cells)
            assert cells.sum() == len(found)  # every row is in one place of each field


def test_places_are_bins_of_numpy_and_the_last_two_are_odd_and_missing() -> None:
    generator = np.random.default_rng(1)
    field = FIELDS[0]
    values = generator.normal(60, 30, 500)
    expected, _ = np.histogram(values, (-np.inf, *field.cuts, np.inf))
    odd = np.zeros(502, dtype=bool)
    odd[500] = True
    places = field.of_numbers(np.append(values, [1.0, np.nan]), odd)
    np.testing.assert_array_equal(field.counted(places), [*expected, 1, 1])
    ward = FIELDS[3]
    places = ward.of_numbered(np.array([0, 1, 1, -1, -2, -2, -2]))
    np.testing.assert_array_equal(ward.counted(places), [1, 2, 3, 1])
    assert [ward.place(n) for n in range(ward.size)] == [
        "'icu'", "'general'", "a category that the model doesn't know", "missing",
    ]  # fmt: skip
    assert field.place(0).startswith("under ") and field.place(5).startswith("from ")


def test_a_file_and_memory_give_the_same_counts_and_nothing_in_them_is_refused(
    tmp_path: Path,
) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(
        'age,"we""ird\\ {x}",smoker,ward,died\n'
        "61,1e3,yes,icu,1\n,,,,\nold,2,perhaps,ward 9,0\n70,?,no,general,\n"
    )
    found = read_table(file, OPTIONS.dialect, OPTIONS.missing_values, OPTIONS.text_columns)
    lines = {
        "age": ["61", None, "old", "70"],
        ODD_NAME: ["1e3", None, "2", None],
        "smoker": ["yes", None, "perhaps", "no"],
        "ward": ["icu", None, "ward 9", "general"],
        "died": ["1", None, "0", None],
    }
    both = []
    for table in (found, Table.of(lines, Path("memory"))):
        inputs = table_inputs(table, OPTIONS, SCHEMA)
        both.append(Counts.of(FIELDS, inputs | table_outcomes(table, OPTIONS, SCHEMA)))
        fine = predictable(table, OPTIONS, inputs, SCHEMA)
        assert fine.tolist() == [True, True, False, True]  # 'old' and 'perhaps' get no score
    for key in both[0].cells:
        np.testing.assert_array_equal(both[0].cells[key], both[1].cells[key])
    ends = {
        field.name: both[0].cells[field.key][-2:].tolist() for field in (*FIELDS[:4], FIELDS[5])
    }
    assert ends["age"] == ends["smoker"] == ends["ward"] == [1, 1]
    assert ends[ODD_NAME] == ends["died"] == [0, 2]


def test_a_column_that_is_not_there_is_missing_in_every_row() -> None:
    table = Table.of({"age": [50.0, 60.0], "ward": ["icu", "icu"]}, Path("memory"))
    whole, lacking = with_absent(table, SCHEMA)
    assert lacking == [ODD_NAME, "smoker"]
    counts = Counts.of(FIELDS, table_inputs(whole, OPTIONS, SCHEMA))
    assert [counts.cells[FIELDS[at].key][-1] for at in range(4)] == [0, 2, 2, 0]


def test_windows_of_served_rows_are_compared_once_they_are_full_and_forgotten() -> None:
    generator = np.random.default_rng(3)

    def some(shift: float, n: int) -> dict[str, Column]:
        return {FIELDS[0].key: Column(generator.normal(60 + shift, 10, n))}

    recent = Recent(FIELDS, Counts.of(FIELDS, some(0, 500)), window=100)
    for _ in range(9):
        recent.add(some(0, 11))
    assert recent.state().windows == 0 and not recent.state().findings
    recent.add(some(0, 11))
    assert recent.state().windows == 1 and not recent.state().findings[0].drifted
    recent.add(some(30, 100))
    state = recent.state()
    assert state.findings[0].drifted and state.counts.rows() == 210
    text = metrics_text(state)
    assert 'wardround_model_drift{role="input",field="age"} 1' in text
    assert 'field="we\\"ird' not in text  # nobody counted it


def test_references_and_metrics_of_another_model_are_refused_in_a_line(tmp_path: Path) -> None:
    other = (Field("input", "age", (1.0,)),)
    counts = Counts.of(other, {"input/age": Column(np.array([2.0]))})
    path = tmp_path / "reference.json"
    for text, says in [
        (Reference(counts).to_text(), "of other inputs"),
        ("[]", "damaged"),
        ("{", "damaged"),
        (Reference(none_of(FIELDS)).to_text(), "no counts"),
        ('{"model": "ab", "whose": "", "cells": {}}', "of another model"),
    ]:
        path.write_text(text)
        with pytest.raises(DataError, match=says) as error:
            Reference.read(path, FIELDS, model="cd")
        assert "\n" not in str(error.value)
    line = 'wardround_model_cells_total{role="input",field="x",place="1"} 1\n'
    with pytest.raises(DataError, match="this model's inputs"):
        counts_of_metrics(line, FIELDS, "here")
    with pytest.raises(DataError, match="holds no counts"):
        counts_of_metrics("process_cpu_seconds_total 4\n", FIELDS, "here")
    with pytest.raises(ValueError, match="another model"):
        compare(counts, none_of(FIELDS))
