"""Data that is cut, replaced or removed while the client stays up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.provisioning import federation
from wardround.client.process.main import HospitalProcess
from wardround.client.site.kit import Kit
from wardround.common.config.load import load_config
from wardround.common.errors import DataError
from wardround.common.trust.pki import now_utc
from wardround.server.provision import kits as provision


def write(path: Path, rows: int) -> None:
    lines = [f"{i * 0.1},{i % 2}" for i in range(rows)]
    path.write_text("x,y\n" + "\n".join(lines) + "\n")


def test_changed_rows_are_read_again_at_each_run_and_told(tmp_path: Path, caplog) -> None:
    federation(tmp_path, hospitals=("north", "south", "east"))
    toml = tmp_path / "federation.toml"
    toml.write_text(toml.read_text() + '[task.columns]\ntarget = "y"\nnumeric = ["x"]\n')
    config = load_config(toml)
    kit = provision.provision(config, now=now_utc()).kits[0]
    shard = tmp_path / "north.csv"
    write(shard, 60)
    process = HospitalProcess(Kit.open(kit), shard)
    process.data.begin("run-1")
    process.data.begin("run-1")
    lines = shard.read_text().splitlines()
    shard.write_text("\n".join(lines[:41]) + "\n")
    process.data.begin("run-1")
    assert sum(process.hospital.sizes().values()) == 40
    assert "read again: 40 rows" in caplog.text and "other rows than it began" in caplog.text
    shard.unlink()
    with pytest.raises(DataError, match="can't be read"):
        process.data.begin("run-2")
    process.close()
    told = [json.loads(x) for x in (kit / "state" / "audit.jsonl").read_text().splitlines()]
    assert [(x["run"], x["rows"]) for x in told if x["event"] == "data"] == [
        ("run-1", 60),
        ("run-1", 40),
    ]
