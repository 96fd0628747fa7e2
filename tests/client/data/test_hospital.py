"""A hospital's own rows: what is wrong with them, and what its people are told."""

from __future__ import annotations

import pytest
import torch

from wardround.client.data.hospital import Hospital
from wardround.client.data.shard import OwnShard
from wardround.common.config.load import parse_config
from wardround.common.errors import ConfigError, DataError
from wardround.common.tasks.base import Examples
from wardround.common.tasks.tabular import TabularTask


def config(test: float, validation: float, seed: int = 1):
    return parse_config(
        f"[federation]\nseed = {seed}\n[data]\ntest_fraction = {test}\n"
        f"validation_fraction = {validation}\n"
    )


def test_patients_that_nobody_names_are_asked_for_by_every_tasks_key(line) -> None:
    text = "[privacy]\nunit = 'patient'\nepsilon = 1.0\n"

    rows = Examples(torch.zeros(9, 1), torch.zeros(9))
    hospital = Hospital(OwnShard("north", line(), parse_config(text), lambda: rows))
    keys = "task.columns.patient_id; imaging: task.files.patient_id"
    with pytest.raises(ConfigError, match=f"north: .*privacy.unit: .*{keys}"):
        hospital.unit_counts()


def test_an_empty_shard_is_named(line) -> None:
    empty = Examples(torch.zeros(0, 1), torch.zeros(0))
    with pytest.raises(DataError, match="north: the shard has no usable rows"):
        Hospital(OwnShard("north", line(), config(0.3, 0), lambda: empty)).parts()


def test_what_was_left_out_is_said_first_and_once_for_the_whole_shard(tmp_path) -> None:
    path = tmp_path / "north.csv"
    rows = [f"{n},{'' if n < 3 else n % 2}" for n in range(40)]
    path.write_text("\n".join(["x,y", *rows]) + "\n")
    settings = config(0.2, 0.1)
    task = TabularTask(columns={"target": "y"})
    hospital = Hospital(OwnShard("north", task, settings, lambda: task.load(path)))
    assert hospital.warnings()[0] == "north: 3 rows were left out: column 'y' is empty"
    assert sum("left out" in line for line in hospital.warnings()) == 1
