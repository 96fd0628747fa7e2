"""Data that is cut, replaced or removed while the client stays up."""

from __future__ import annotations

import json
import re
from pathlib import Path
from unittest.mock import Mock

import pytest

from tests.provisioning import federation
from wardround.client.data.watch import DataWatch
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
    process.own.place.begin("run-1")
    process.own.place.begin("run-1")
    lines = shard.read_text().splitlines()
    shard.write_text("\n".join(lines[:41]) + "\n")
    process.own.place.begin("run-1")
    assert sum(process.own.place.work.hospital.sizes().values()) == 40
    assert "read again: 40 rows" in caplog.text and "other rows than it began" in caplog.text
    shard.unlink()
    with pytest.raises(DataError, match="can't be read"):
        process.own.place.begin("run-2")
    process.close()
    told = [json.loads(x) for x in (kit / "state" / "audit.jsonl").read_text().splitlines()]
    assert [(x["run"], x["rows"]) for x in told if x["event"] == "data"] == [
        ("run-1", 60),
        ("run-1", 40),
    ]


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        (["run-1", "0" * 64], "other rows than it began"),
        ({"format": "digest of the data", "version": 2, "run": "run-1", "digest": "0"}, "other r"),
        ({"version": 3, "run": "run-1", "rows": 3}, "isn't known: .*version 3.*reads up to 2"),
    ],
)
def test_what_an_earlier_or_later_wardround_kept_of_a_run(tmp_path, caplog, stored, told) -> None:
    (tmp_path / "shard").mkdir()
    (tmp_path / "kept").write_text(json.dumps(stored))
    audit, hospital = Mock(), Mock()
    hospital().sizes.return_value = {}
    DataWatch(lambda: tmp_path / "shard", hospital, audit, tmp_path / "kept").begin("run-1")
    assert re.search(told, caplog.text)
    kept = json.loads((tmp_path / "kept").read_bytes())
    assert (kept["version"], kept["run"]) == (2, "run-1")
    assert kept["digest"] == audit.append.call_args.kwargs["digest"]
