"""``task.columns.codes``: spellings of categories, classes and events, one name everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from wardround.common.errors import DataError
from wardround.common.figures.sums import add_sums
from wardround.common.tasks.features import feature_names
from wardround.common.tasks.tabular import TabularTask

SEX = {"sex": {"female": ["F", "f", "w"], "male": ["M", "m", "1"]}}


def csv(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n", "utf-8")
    return path


def test_spellings_count_as_one_category_at_every_hospital(tmp_path: Path) -> None:
    """Three spellings of 2 rows each are 6 rows of 'female': enough to be named, and one input."""
    north = csv(tmp_path / "n.csv", "sex,y", *["F,1", "f,0", "w ,1"] * 2, *["M,0"] * 5)
    south = csv(tmp_path / "s.csv", "sex,y", *["female,1"] * 5, *["1.0,0"] * 5, ",1")
    task = TabularTask(columns={"target": "y", "categorical": ["sex"], "codes": SEX})
    shards = [task.load(north), task.load(south)]
    totals: dict = {}
    for phase in range(task.phases):
        totals = totals | add_sums([task.statistics(one, phase, totals) for one in shards])
    totals = task.condense(totals)
    assert feature_names(totals, task.options) == ["sex=female", "sex=male"]
    assert task.prepare(shards[0], totals, shards[0]).inputs.tolist() == [[1, 0]] * 6 + [[0, 1]] * 5
    inputs = task.prepare(shards[1], totals, shards[1]).inputs.tolist()
    assert inputs == [[1, 0]] * 5 + [[0, 1]] * 5 + [[0, 0]]


def test_row_keys_do_not_follow_from_codes(tmp_path: Path) -> None:
    path = csv(tmp_path / "n.csv", "sex,y", *["F,1", "f,0"] * 5)
    columns = {"target": "y", "categorical": ["sex"]}
    plain, coded = TabularTask(columns=columns), TabularTask(columns=columns | {"codes": SEX})
    keys = [task.row_keys(task.load(path)).tolist() for task in (plain, coded)]
    assert keys[0] == keys[1]


def test_two_values_and_an_event_are_read_by_their_names(tmp_path: Path) -> None:
    path = csv(
        tmp_path / "n.csv", "y,b,t", "tot,Ja,1", "lebt,nein,2", "Verstorben,J,3", "alive,no,4"
    )
    codes = {
        "y": {"died": ["tot", "verstorben"], "alive": ["lebt"]},
        "b": {"yes": ["ja", "j"], "no": ["nein"]},
    }
    task = TabularTask(
        columns={"target": "y", "binary": ["b"], "ignore": ["t"], "codes": codes}, positive=["died"]
    )
    raw = task.load(path)
    assert task.labels(raw).tolist() == [1, 0, 1, 0]
    assert task.options.binary_values("b").read(raw, "b").tolist() == [1, 0, 1, 0]
    survival = TabularTask(
        kind="survival",
        columns={
            "time": "t",
            "event": "y",
            "numeric": [],
            "ignore": ["b"],
            "codes": {"y": codes["y"]},
        },
        positive=["died"],
    )
    assert survival.labels(survival.load(path)).tolist() == [1, 0, 1, 0]


def test_classes_are_named_by_codes_and_a_text_outside_stays_refused(tmp_path: Path) -> None:
    columns = {"target": "y", "codes": {"y": {"a": ["A"], "b": ["B", "beta"]}}}
    task = TabularTask(kind="multiclass", columns=columns, classes=["a", "b"])
    assert task.labels(
        task.load(csv(tmp_path / "n.csv", "x,y", "1,A", "2,beta", "3,a"))
    ).tolist() == [0, 1, 0]
    with pytest.raises(DataError, match="n.csv:3: column 'y': a class that is none of"):
        task.labels(task.load(csv(tmp_path / "n.csv", "x,y", "1,A", "2,alpha")))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"columns": {"target": "y", "codes": SEX}}, "'sex' isn't a categorical or binary column"),
        (
            {"columns": {"categorical": ["c"], "codes": {"c": {"a": ["x"], "b": ["x"]}}}},
            "'x' is 'a' and 'b'; name it once",
        ),
        (
            {"columns": {"categorical": ["c"], "codes": {"c": {"a": ["b"], "b": ["x"]}}}},
            "'b' is 'a' and 'b'; name it once",
        ),
        (
            {"columns": {"binary": ["c"], "codes": {"c": {"a": ["x"], "b": ["X"]}}}},
            "'X' is 'a' and 'b'; name it once",
        ),
        (
            {"columns": {"target": "y", "codes": {"y": {"died": ["tot"]}}}, "positive": ["tot"]},
            "'tot' is called 'died' by columns.codes; write that",
        ),
        (
            {
                "columns": {
                    "categorical": ["c"],
                    "categories": {"c": ["F", "m"]},
                    "codes": {"c": {"f": ["F"]}},
                }
            },
            "'F' is called 'f' by columns.codes",
        ),
    ],
)
def test_codes_that_contradict_are_refused_by_key(options: dict, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        TabularTask(**options)
