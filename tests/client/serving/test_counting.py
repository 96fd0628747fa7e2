"""What /metrics shows is what was asked, in bins, and never of one patient."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.client.serving.asgi import Client
from tests.client.serving.made import Made, asked
from tests.client.serving.test_model import calibration
from tests.common.export.made import rows
from tests.common.tasks.made import table
from wardround.client.serving.counting import AT_ONCE, MOST
from wardround.common.drift.counts import Counts
from wardround.common.drift.field import fields_of
from wardround.common.drift.metrics import CELLS, counts_of_metrics
from wardround.common.drift.reference import Reference
from wardround.common.drift.rows import table_inputs
from wardround.common.tasks.schema import Schema

NAMES = ("age", "tiny", "constant", "smoker", "ward")


def columns(count: int, seed: int = 7) -> dict[str, list[Any]]:
    found = rows("binary", count, seed)
    return {name: found[name] for name in NAMES}


def shown(client: Client, schema: Schema) -> Counts:
    return counts_of_metrics(client.get("/metrics").text, fields_of(schema), "here")


def test_bins_are_those_that_the_rows_fall_into(model: Made) -> None:
    own = columns(120)
    with asked(model.export) as (client, served):
        schema = served.model.schema
        for part in range(0, 120, 40):
            some = {name: values[part : part + 40] for name, values in own.items()}
            assert client.post("/predict", json={"columns": some}).status_code == 200
        answer = client.post("/predict", json={"columns": own}).json()
        found = shown(client, schema)
    options = model.source.task.options
    wanted = Counts.of(fields_of(schema), table_inputs(table(**own), options, schema))
    for key, cells in wanted.cells.items():
        assert found.cells[key].tolist() == (2 * cells).tolist(), key
    scores = np.array(answer["predictions"]["probability"])
    (field,) = [one for one in fields_of(schema) if one.role == "score"]
    assert found.cells[field.key].tolist() == (2 * field.counted(field.of_numbers(scores))).tolist()


def test_no_two_scrapes_differ_by_few_rows(model: Made) -> None:
    own = columns(1)
    with asked(model.export) as (client, _):
        for number in range(1, 2 * AT_ONCE + 2):
            client.post("/predict", json={"columns": own})
            text = client.get("/metrics").text
            total = sum(int(n) for n in re.findall(rf'{CELLS}{{role="score".*}} (\d+)', text))
            assert total == number // AT_ONCE * AT_ONCE
            assert f"wardround_serve_rows_total {number}.0" in text


def test_of_a_large_request_some_are_counted(model: Made) -> None:
    with asked(model.export) as (client, served):
        client.post("/predict", json={"columns": columns(3 * MOST)})
        assert shown(client, served.model.schema).rows("score") == MOST


def test_recent_rows_are_held_against_a_reference(model: Made, tmp_path: Path) -> None:
    """Of the model's own scores: a calibration is no drift. A wrong unit is."""
    path, corrects = tmp_path / "reference.json", calibration(model, tmp_path / "calibration.json")
    with asked(model.export) as (client, served):
        client.post("/predict", json={"columns": columns(500, 1)})
        path.write_text(Reference(shown(client, served.model.schema)).to_text())
    with asked(model.export, reference=path, calibration=corrects) as (client, _):
        for seed, drifted in ((2, False), (3, True)):
            own = columns(200, seed)
            if drifted:
                own["age"] = [None if x is None else 12 * x for x in own["age"]]
            client.post("/predict", json={"columns": own})
            lines = re.findall(
                r'wardround_model_drift{role="(\w+)",field="(\w+)"} (\d)',
                client.get("/metrics").text,
            )
            alarms = {field for _, field, alarm in lines if alarm == "1"}
            assert lines and ("age" in alarms) == drifted and (drifted or not alarms)


def test_whatever_the_rules_ask_for_is_written(model: Made) -> None:
    """And when the model's last day has passed is what refuses it then."""
    rules = (Path(__file__).parents[3] / "deploy" / "model.rules.yml").read_text()
    asked_for = {name for rule in expressions(rules) for name in re.findall(r"wardround_\w+", rule)}
    with asked(model.export) as (client, served):
        client.post("/predict", json={"columns": columns(60)})
        text, own = client.get("/metrics").text, served.model
    written = set(re.findall(r"^(?:# TYPE )?(wardround_\w+)[ {]", text, re.M))
    assert len(asked_for) >= 6 and asked_for <= written
    (ends,) = re.findall(r"^wardround_serve_expires_timestamp_seconds (\S+)$", text, re.M)
    last = datetime.fromtimestamp(float(ends), UTC) - timedelta(seconds=1)
    assert not own.is_over(last.date()) and own.is_over(last.date() + timedelta(days=1))
    assert last.date().isoformat() == own.expires


def expressions(rules: str) -> list[str]:
    return [one["expr"] for group in yaml.safe_load(rules)["groups"] for one in group["rules"]]


def test_what_is_neither_yes_nor_no_is_counted_as_another_value(model: Made) -> None:
    """A request's rows may have anything there: a cast of infinity is undefined."""
    values = np.array([0.0, 1.0, np.nan, np.inf, -np.inf, 7.0] * AT_ONCE)
    with asked(model.export) as (_, served):
        found = served.counting._column("smoker", values).values
    assert found[:6].tolist() == [0, 1, -1, -2, -2, -2]
