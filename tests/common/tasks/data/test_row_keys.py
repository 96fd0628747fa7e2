"""A row is known again by what the data say of it, whatever a study makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from tests.common.tasks.imaging.shards import png
from wardround.common.tasks.data.reading.dialect import Dialect
from wardround.common.tasks.data.row_keys import identifier_digest, record_keys, tensor_keys
from wardround.common.tasks.data.tables import read_table
from wardround.common.tasks.imaging.task import ImagingTask
from wardround.common.tasks.tabular import TabularTask


def test_cells_are_compared_as_codes_and_stay_apart() -> None:
    assert len({*keys(["1.0", " Ä b"], [None, "x"]), *keys(["1", "Ä  b"], ["", "x"])}) == 2
    assert len(set(keys(["ab", "a"], ["c", "bc"]))) == 2


def test_a_value_has_one_key_whatever_type_its_column_got() -> None:
    day, instant = date(1899, 2, 28), datetime(2024, 1, 31, 12, 30)
    alike = [
        (["1.50", "007", "-0"], [1.5, 7.0, 0.0]),
        (["1,5", "1e3", "+2"], [1.5, 1000.0, 2.0]),
        (["3", "NA", ""], [3, None, None]),
        (["TRUE", "false"], [True, False]),
        (["1899-02-28"], [day]),
        (["2024-01-31 12:30", "1899-02-28"], [instant, datetime(1899, 2, 28)]),
    ]
    for texts, values in alike:
        assert keys(texts) == keys(values)
    assert len(set(keys(["1.5", "15", "x", "X", None, "0", "007a"]))) == 7


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n007,2024-01-31\n1.50,NA\n,x\n",
        "a,b\n7,1e3\n0x10,nan\n",
        "a;b\n1,5;2024-01-31 00:00\n007;2024-02-01 12:30\n",
    ],
)
def test_what_a_study_uses_a_column_as_changes_no_key(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.csv").write_text(content)
    first, *others = (
        read_table(tmp_path / "x.csv", texts=texts, missing_values=missing).keys.tolist()
        for texts in ([], ["a"], ["b"], ["a", "b"], None)
        for missing in (["NA"], ["7", "-9"])
    )
    assert others == [first] * 9 and len(set(first)) == len(first)


def keys(*columns: Sequence[object]) -> list[str]:
    made = [pa.chunked_array([pa.array(column)]) for column in columns]
    made = [c.cast(pa.timestamp("us")) if pa.types.is_timestamp(c.type) else c for c in made]
    return record_keys(made, len(columns[0])).tolist()


def test_neither_columns_that_a_study_drops_nor_their_order_nor_missing_texts_change_a_key(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.csv").write_text("x,note,y\n1,-9,0\n2,b,1\n3,c,\n1,-9,0\n")
    (tmp_path / "b.csv").write_text("y,x,note\n1,2.0,b\n,3,c\n0,1,-9\n0,1,-9\n")
    a = read_table(tmp_path / "a.csv").keys
    b = read_table(tmp_path / "b.csv", missing_values=["-9", ""]).keys
    assert sorted(a) == sorted(b) and len(set(a)) == 3 and a[0] == a[3]
    task = TabularTask(columns={"target": "y", "numeric": ["x"]}, missing_values=["", "b"])
    assert list(task.row_keys(task.load(tmp_path / "a.csv"))) == [a[0], a[1], a[3]]
    named = read_table(tmp_path / "a.csv", Dialect(header=["p", "q", "r"])).keys
    other = read_table(tmp_path / "a.csv", Dialect(header=["z", "y", "x"])).keys
    assert list(named) == list(other)  # the header's line is a row there


def test_a_patient_is_one_in_a_table_and_in_images(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("patient,x,y\n7.0,1,0\n8,2,1\n")
    columns = {"target": "y", "numeric": ["x"], "patient_id": "patient"}
    table = TabularTask(columns=columns)
    images = listed(tmp_path / "images", "file,label,who\n0.png,a,8\n1.png,b,7\n")
    keys = ImagingTask(**OPTIONS, files={"patient_id": "who"})
    assert list(table.row_keys(table.load(tmp_path / "a.csv"))) == [
        *keys.row_keys(keys.load(images))[::-1]
    ]
    assert list(table.row_keys(table.load(tmp_path / "a.csv")))[0] == identifier_digest("7")


OPTIONS = {"classes": ["a", "b"], "size": [8, 8]}


def listed(folder: Path, lines: str) -> Path:
    for number in range(2):
        png(folder / f"{number}.png", np.full((8, 8), number, dtype=np.uint8))
    (folder / "list.csv").write_text(lines)
    return folder


def test_an_image_is_known_by_its_files_content(tmp_path: Path) -> None:
    """Not by its name, its size in a study, or the layout that it lies in."""
    folder = listed(tmp_path / "listed", "file,label\n0.png,a\n1.png,b\n")
    task, small = ImagingTask(**OPTIONS), ImagingTask(classes=["a", "b"], size=[16, 12])
    keys = list(task.row_keys(task.load(folder)))
    assert len(set(keys)) == 2 and keys == list(small.row_keys(small.load(folder)))
    for number, name in ((0, "b"), (1, "a")):
        (tmp_path / "folders" / name).mkdir(parents=True)
        content = (folder / f"{number}.png").read_bytes()
        (tmp_path / "folders" / name / "renamed.png").write_bytes(content)
    assert list(task.row_keys(task.load(tmp_path / "folders"))) == keys[::-1]
    raw = task.load(folder)
    assert list(task.row_keys(task.select(raw, np.array([1])))) == keys[1:]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_examples_of_any_type_have_keys(dtype: torch.dtype) -> None:
    inputs = torch.arange(6).reshape(3, 2).to(dtype)
    assert len(set(tensor_keys(inputs))) == 3 and len(tensor_keys(inputs[:0])) == 0
    assert list(tensor_keys(inputs[:, 0])) != list(tensor_keys(inputs[:, 1]))
