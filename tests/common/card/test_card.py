"""A card says what the run knows, tells no small count, and marks what nobody has written."""

from __future__ import annotations

import re
from typing import Any, get_args

import numpy as np
import pytest
import yaml

from wardround.common.card.facts import Facts
from wardround.common.card.items import FRAMES
from wardround.common.card.text import MISSING, card_text, unwritten
from wardround.common.config.load import parse_config
from wardround.common.settings.card import CardTable
from wardround.common.tasks.schema import Output, Schema
from wardround.common.tasks.tabular import TabularTask

COLUMNS = {"target": "died", "categorical": ["ward"], "binary": ["smoker"]}
TOTALS = {
    "rows": np.array([1000.0]),
    "numeric/age/count": np.array([997.0]),
    "numeric/age/mean": np.array([61.5]),
    "numeric/age/std": np.array([12.25]),
    "numeric/age/median": np.array([62.0]),
    "numeric/crp/count": np.array([750.0]),
    "numeric/crp/mean": np.array([30.0]),
    "numeric/crp/std": np.array([9.0]),
    "numeric/crp/median": np.array([28.0]),
    "binary/smoker/count": np.array([900.0]),
    "binary/smoker/ones": np.array([3.0]),
    "category/ward/a": np.array([500.0]),
}
ROUND = {
    "round": 4,
    "overall": {"test": {"auc": 0.81, "auc_error_bound": 0.001, "brier": 0.1, "prevalence": 0.002}},
    "within": {"test": {"auc": {"mean": 0.79, "bound": 0.001, "hospitals": 4}}},
    "hospitals": {},
}


def facts(**changed: Any) -> Facts:
    config = parse_config(
        '[task]\nname = "tabular"\n[task.columns]\ntarget = "died"\n'
        'categorical = ["ward"]\nbinary = ["smoker"]\n'
    )
    values: dict[str, Any] = {
        "config": config,
        "schema": TabularTask(columns=COLUMNS).schema(TOTALS),
        "totals": TOTALS,
        "summary": {"members": 4, "rows": {"train": 1000, "test": 400}, "primary": "auc"},
        "rounds": [ROUND],
        "run": "r-1",
        "round": 4,
        "created": "2026-01-31",
        "expires": "2028-01-31",
        "simulated": False,
        "parameters": 4,
    }
    return Facts(**values | changed)


def test_small_counts_are_told_by_no_line() -> None:
    text = card_text(facts(), CardTable())
    rows = {
        line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| `")
    }
    assert "mean 61.5" in rows["`age`"] and "fewer than 5" in rows["`age`"]  # 3 gaps
    assert "25.0%" in rows["`crp`"]
    assert "fewer than 5 of one value" in rows["`smoker`"] and "0.3%" not in rows["`smoker`"]


def test_what_nobody_has_written_is_marked_and_what_is_known_is_not() -> None:
    said = CardTable(intended_use="# Triage\n<b>only</b> of | adults", licence="CC-BY-4.0")
    text = card_text(facts(), said)
    assert "**Intended use**: Triage\n&lt;b&gt;only&lt;/b&gt;".replace("&gt;", ">") in text
    assert "card.intended_use" not in text
    for key in unwritten(said):
        assert f"`card.{key}`" in text, key
    for items in FRAMES.values():  # every item has its line, and none is answered by nothing
        for item in items:
            (row,) = re.findall(
                rf"(?m)^\| {re.escape(item.number)} \| {re.escape(item.asks)} \|.*$", text
            )
            assert "«" in row or "**" in row or MISSING.lower() in row
    assert unwritten(CardTable(**{key: "x" for key in unwritten(CardTable())})) == []


def test_its_front_is_the_yaml_of_a_model_hub() -> None:
    front = card_text(facts(), CardTable(title='A: "b"')).split("---")[1]
    found = yaml.safe_load(front)
    assert found["pipeline_tag"] == "tabular-classification"
    (result,) = found["model-index"][0]["results"]
    values = {one["type"]: one["value"] for one in result["metrics"]}
    assert values["auc"] == 0.79 and values["brier"] == 0.1  # within hospitals where that stands
    assert found["model-index"][0]["name"] == 'A: "b"'


@pytest.mark.parametrize(("task", "kind"), [("own", ""), ("tabular", "survival")])
def test_what_a_hub_has_no_name_for_has_no_index(task: str, kind: str) -> None:
    other = facts(schema=Schema(task=task, kind=kind))
    assert "model-index" not in card_text(other, CardTable())
    assert "| brier |  | 0.1 (0.05 to 0.2) |" in card_text(
        facts(spans={"test": {"overall": {"brier": (0.05, 0.2)}}}), CardTable()
    )


@pytest.mark.parametrize("kind", get_args(Output.model_fields["kind"].annotation))
def test_every_kind_of_output_has_a_line(kind: Any) -> None:
    text = card_text(
        facts(schema=Schema(task="own", outputs=(Output(name="o", kind=kind),))), CardTable()
    )
    assert re.search(r"^- `o`: \S", text, re.MULTILINE)


@pytest.mark.parametrize(("masks", "said"), [("emulated", True), ("protocol", False)])
def test_emulated_masks_are_not_sold_as_masks(masks: str, said: bool) -> None:
    text = card_text(facts(simulated=True, summary={"members": 4, "masks": masks}), CardTable())
    assert ("no keys or masks" in text) is said and "Secure aggregation" in text


@pytest.mark.parametrize(("changed", "said"), [({"simulated": True}, True), ({}, False)])
def test_a_simulation_says_so(changed: dict[str, Any], said: bool) -> None:
    assert ("**Simulated**" in card_text(facts(**changed), CardTable())) is said
