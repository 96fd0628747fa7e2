"""Rows in every form get the same bits; what can't be read is refused as a whole, and quoted by
nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.federate import Line
from wardround.common.errors import ConfigError, DataError, TaskError
from wardround.common.predict import Predictions, Predictor, load_model
from wardround.common.predict.exported import load_export
from wardround.common.predict.given import pieces_of

NAMES = ("age", "crp", "ward", "smoker")
CELLS = st.tuples(
    st.none() | st.floats(-1e6, 1e6).map(lambda x: round(x, 6)),
    st.none() | st.integers(-(10**6), 10**6),
    st.sampled_from([None, "a", "b", "c", "seldom", "é"]),
    st.sampled_from([None, "yes", "no", "1", "0"]),
)
ROW = {"age": 61.0, "crp": 3.0, "ward": "a", "smoker": "yes"}


class OnlyInterchange:
    """A data frame of a library that knows the older interface alone."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __dataframe__(self, *args: Any, **kwargs: Any) -> Any:
        return self._table.__dataframe__(*args, **kwargs)


def same(found: Predictions, other: Predictions) -> bool:
    return found["probability"].tobytes() == other["probability"].tobytes()


@settings(max_examples=10)
@given(rows=st.lists(CELLS, min_size=1, max_size=12))
def test_the_form_of_rows_changes_no_bit(
    model: Predictor, tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[Any, ...]]
) -> None:
    records = [dict(zip(NAMES, row, strict=True)) for row in rows]
    columns = {name: [row[number] for row in rows] for number, name in enumerate(NAMES)}
    kinds = (pa.float64(), pa.int64(), pa.string(), pa.string())
    typed = zip(columns.items(), kinds, strict=True)
    table = pa.table({name: pa.array(values, kind) for (name, values), kind in typed})
    place = tmp_path_factory.mktemp("forms")
    lines = [",".join("" if cell is None else str(cell) for cell in row) for row in rows]
    (place / "rows.csv").write_text("\n".join([",".join(NAMES), *lines]) + "\n")
    pq.write_table(table, place / "rows.parquet")
    expected = model.predict(table)
    assert expected["row"].tolist() == list(range(1, len(rows) + 1))
    frame = pd.DataFrame(records, index=[f"patient {n}" for n in range(len(rows))])
    forms = [records, columns, frame, OnlyInterchange(table)]
    if any(row[3] not in ("1", "0", None) for row in rows):  # else pandas' own reading has numbers
        forms.append(pd.read_csv(place / "rows.csv", keep_default_na=True))
    forms += [place / "rows.csv", str(place / "rows.parquet"), table.to_batches()[0]]
    for form in forms:
        assert same(model.predict(form), expected), type(form)


def test_what_stands_beside_the_inputs_is_told_kept_or_left(model: Predictor) -> None:
    rows = {name: [value, value] for name, value in ROW.items()}
    extra = {"died": ["?", "x"], "mrn": ["007", "008"], "note": ["free", "text"]}
    found = model.predict(rows | extra, keep=["note"])
    assert list(found.columns) == ["row", "mrn", "note", "probability"]
    assert found["mrn"].tolist() == ["007", "008"] and found["note"][1] == "text"
    assert model.predict(rows | extra, keep=["died"])["died"].tolist() == ["?", "x"]
    (note,) = model.predict(rows | {"height": [1, 2]}).notes
    assert note == "not used, as the model has no such inputs: 'height'"
    with pytest.raises(DataError, match="there is no column 'nothing'"):
        model.predict(rows, keep=["nothing"])
    (left,) = model.predict(rows | {"ward": ["q", "a"]}).left_out
    assert (left.count, left.what) == (1, "cells") and "'ward'" in left.reason


def test_all_that_is_wrong_is_told_at_once_and_no_cell_of_it(model: Predictor) -> None:
    rows = [ROW, ROW | {"age": "SECRET1"}, ROW | {"crp": "SECRET2", "smoker": "SECRET3"}]
    with pytest.raises(DataError) as caught:
        model.predict(rows)
    text = str(caught.value)
    assert "3 problems" in text and "row 2: column 'age'" in text and "SECRET" not in text
    assert "row 3: column 'crp'" in text and "row 3: column 'smoker'" in text
    with pytest.raises(DataError, match=r"2 of 4 columns.*'age', 'ward'"):
        model.predict({"crp": [1.0], "smoker": ["no"]})
    with pytest.raises(DataError, match="column 'ward': neither numbers, texts nor dates"):
        model.predict([ROW | {"ward": object()}])
    with pytest.raises(DataError, match="rows of type int can't be read"):
        model.predict(3)
    with pytest.raises(DataError, match="column 'crp' is one float; give a list of values"):
        model.predict({"age": [50], "crp": 1.5, "smoker": ["no"], "ward": ["A"]})
    with pytest.raises(DataError, match="column 'age': neither numbers, texts nor dates"):
        model.predict({"age": np.array([1 + 2j]), "crp": [1.5], "smoker": ["no"], "ward": ["A"]})
    with pytest.raises(TaskError, match="predicts no lists of texts or arrays"):
        model.predict(["a text"])


def test_predictions_are_written_and_read(model: Predictor, tmp_path: Path) -> None:
    found = model.predict([ROW, ROW | {"age": None}])
    for ending in (".csv", ".parquet"):
        found.write(tmp_path / f"out{ending}")
    assert (
        pd.read_csv(tmp_path / "out.csv")["probability"].tolist()
        == found.to_pandas()["probability"].tolist()
    )
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == found.to_records()
    with pytest.raises(ConfigError, match=r"written as \.csv, \.jsonl, \.parquet"):
        found.write(tmp_path / "out.txt")
    none = {name: pa.array([], pa.string()) for name in NAMES}
    assert len(model.predict(none)) == 0


def test_an_export_predicts_the_same_without_the_model(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from wardround.common.export.exporting import export_model
    from wardround.common.export.source import Source

    model = load_model(run)
    made = export_model(Source.of(model.folder), tmp_path / "graph")
    graph = load_export(made.path)
    rows = run.parent.parent / "data" / "north.csv"
    found, expected = graph.predict(rows, keep=["died"]), model.predict(rows)
    assert found["mrn"].tolist() == expected["mrn"].tolist() and found["mrn"][7] == "00007"
    assert np.abs(found["probability"] - expected["probability"]).max() < 1e-5
    with pytest.raises(DataError, match="there is no column 'ward', which the model needs"):
        graph.predict([{"age": 1, "crp": 1, "smoker": "no"}])


def test_a_task_of_ones_own_is_read_by_its_load_or_says_what_it_lacks(tmp_path: Path) -> None:
    class Own(Line):
        def load(self, path: Path | None) -> Any:
            if path is not None:
                raise DataError(f"{path.name}: no column 'y'")
            return super().load(path)

    (tmp_path / "rows.csv").write_text("x\n1\n")
    (piece,) = pieces_of(Line(), tmp_path / "rows.csv")
    assert len(piece.raw) == 40  # its load() reads whatever it is given
    with pytest.raises(TaskError, match=r"Own has no load_rows\(\).*no column 'y'"):
        list(pieces_of(Own(), tmp_path / "rows.csv"))
    with pytest.raises(TaskError, match=r"Own has no rows_of_table\(\)"):
        list(pieces_of(Own(), {"x": [1]}))
