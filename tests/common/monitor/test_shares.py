"""A rule on shares: whose classes it reads, of what rows, in which windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.common.tasks.text.tiny import tiny_encoder
from wardround.common.drift.counts import Column
from wardround.common.drift.field import Field
from wardround.common.errors import DataError
from wardround.common.monitor.rows import read_rows
from wardround.common.monitor.shares import ALL, Rule, watch_shares
from wardround.common.monitor.windows import by_date, by_size
from wardround.common.tasks import load_task

WEEKS = 6


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Any:
    heads = {"topic": ["food", "wait", "staff"], "angry": ["no", "yes"]}
    encoder = tiny_encoder(tmp_path_factory.mktemp("encoder"))
    options = {"kind": "labels", "encoder": str(encoder), "max_length": 16, "heads": heads}
    return load_task("text", options)


@pytest.fixture
def stream(task: Any, tmp_path: Path) -> Any:
    """Forty texts a week for six weeks, of two wards, as a monitor reads them."""
    lines = ["day,text,ward"]
    for week in range(WEEKS):
        for row in range(40):
            lines.append(f"2026-03-{2 + 7 * week if week < 4 else 27 + week - 4:02},the,{row % 2}")
    (tmp_path / "stream.csv").write_text("\n".join(lines) + "\n")
    return read_rows(task, tmp_path / "stream.csv", named=True)


def scores(angry: np.ndarray, topic: np.ndarray) -> dict[str, Column]:
    """What a model might say: probabilities of .9 for the given classes."""
    found = {"probability_angry": np.where(angry, 0.9, 0.1)}
    for place, name in enumerate(("food", "wait", "staff")):
        found[f"probability_topic_{name}"] = np.where(topic == place, 0.9, 0.05)
    return {Field("score", name).key: Column(values) for name, values in found.items()}


def test_the_surge_of_one_topic_is_its_alarm_alone(task: Any, stream: Any) -> None:
    rows = len(stream)
    topic = np.arange(rows) % 2
    angry = (np.arange(rows) // 2) % 5 == 0  # every fifth
    last = (np.arange(rows) >= rows - 40) & (topic == 1)
    columns = scores(angry | (last & (np.arange(rows) % 4 != 1)), topic)
    found = watch_shares(
        task, task.schema({}), stream, columns, by_size(rows, 40), Rule.read("angry=yes", "topic")
    )
    assert [one.group for one in found if one.surge.alarm] == ["wait"]
    assert {one.window for one in found} == {"rows 161 to 200", "rows 201 to 240"}
    (alarm,) = [one.surge for one in found if one.surge.alarm]
    assert alarm.rows == 20 and alarm.before == 20 and alarm.of == 100


def test_topics_may_be_a_column_of_the_rows_and_windows_those_of_its_dates(
    task: Any, stream: Any
) -> None:
    windows, without = by_date(stream, "day", "day")
    assert len(windows) == WEEKS and not without
    rows = len(stream)
    columns = scores(np.zeros(rows, dtype=bool), np.zeros(rows, dtype=int))
    columns[Field("score", "probability_angry").key].values[:3] = np.nan  # without a score
    for per, groups in (("ward", {"0", "1"}), ("", {ALL})):
        found = watch_shares(
            task, task.schema({}), stream, columns, windows, Rule("angry", "yes", per)
        )
        assert {one.group for one in found} == groups and not any(x.surge.alarm for x in found)
        assert sum(one.surge.of for one in found if one.window == windows[-1].name) == rows - 43


@pytest.mark.parametrize(
    ("rule", "size", "message"),
    [
        (Rule("angry", "maybe"), 40, "no class 'maybe'; one of no, yes"),
        (Rule("mood", "bad"), 40, "no column 'mood'"),
        (Rule("ward", "7"), 40, "no such value"),
        (Rule("angry", "yes", "clinic"), 40, "no column 'clinic'"),
        (Rule("angry", "yes"), 100, "too few"),
    ],
)
def test_what_is_not_there_is_named(
    task: Any, stream: Any, rule: Rule, size: int, message: str
) -> None:
    rows = len(stream)
    columns = scores(np.zeros(rows, dtype=bool), np.zeros(rows, dtype=int))
    with pytest.raises(DataError, match=message):
        watch_shares(task, task.schema({}), stream, columns, by_size(rows, size), rule)


def test_a_rule_is_column_and_value() -> None:
    assert Rule.read("") is None
    assert Rule.read("a=b=c", "d") == Rule("a", "b=c", "d")
    for text, per in (("a", ""), ("=b", ""), ("", "d")):
        with pytest.raises(DataError, match="COLUMN=VALUE"):
            Rule.read(text, per)
