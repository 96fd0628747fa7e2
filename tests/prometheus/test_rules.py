"""``deploy/model.rules.yml`` by Prometheus' own tool, and whether its metrics are written."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml

from wardround.common.drift.counts import Column, Counts
from wardround.common.drift.field import Field
from wardround.common.drift.metrics import metrics_text
from wardround.common.drift.recent import Recent

BRING = "apt-get install -y --no-install-recommends prometheus"
ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "model.rules.yml"


def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip(f"promtool isn't here: {BRING}")
    return found


def test_each_rule_tells_what_it_is_for_and_nothing_else(tmp_path: Path) -> None:
    cases = (Path(__file__).parent / "model.test.yml").read_text()
    (tmp_path / "test.yml").write_text(cases.replace("RULES", str(RULES)))
    done = subprocess.run(
        [promtool(), "test", "rules", str(tmp_path / "test.yml")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    alerts = {
        rule["alert"]
        for group in yaml.safe_load(RULES.read_text())["groups"]
        for rule in group["rules"]
    }
    assert alerts == set(re.findall(r"alertname: (\w+)", cases))


def test_the_metrics_that_rules_ask_of_counts_are_those_that_are_written() -> None:
    field = Field("input", "age", (50.0,))
    values = {field.key: Column(np.array([40.0, np.nan] * 60))}
    recent = Recent([field], Counts.of([field], values), window=100)
    recent.add({field.key: Column(np.full(100, 60.0))})
    text = metrics_text(recent.state())
    for name in set(re.findall(r"wardround_model_\w+", RULES.read_text())):
        assert re.search(rf'^{name}{{role="input",field="age"', text, re.M), name
    # both ends are there before anything falls into them: a rate has to begin somewhere
    for place in ("odd", "missing"):
        assert f'wardround_model_cells_total{{role="input",field="age",place="{place}"}} 0' in text
    done = subprocess.run(
        [promtool(), "check", "metrics"], input=text, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
