"""What identifies a run: every key is declared, and only what shapes the model is held fast."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import get_args

import pytest

from wardround.common.config.load import Config, load_config, parse_config
from wardround.common.errors import ConfigError
from wardround.common.run.shaping import OPERATIONAL, SHAPES, check_same, digest, shaping
from wardround.common.settings.dashboard import DashboardTable

OTHER = {
    "teacher.model": '"runs/elsewhere"',
    "federation.min_clients": "5",
    "federation.round_timeout_s": "7.0",
    "federation.round_attempts": "9",
    "federation.retry_wait_s": "1.0",
    "federation.runs": "'elsewhere'",
    "data.path": "'moved/rows'",
    "training.device": "'cuda:0'",
    "training.processes": "2",
    "training.micro_batch_size": "4",
    "training.checkpoint_activations": "true",
    "training.compile": "true",
    "secure_aggregation.threshold": "0.8",
    "secure_aggregation.min_cohort": "4",
    "secure_aggregation.threads": "3",
    "privacy.epsilon_limit": "2.0",
    "privacy.engine": "'opacus'",
    "simulation.baselines": "false",
    "simulation.threads": "2",
    "simulation.executor": "'sequential'",
    "simulation.masks": "'emulated'",
    "simulation.ray_address": "'auto'",
    "tracking.to": '["mlflow"]',
    "tracking.folder": "'figures'",
    "tracking.mlflow": "'http://127.0.0.1:5000'",
    "server.address": "'elsewhere:9000'",
    "server.listen": "'0.0.0.0:9000'",
    "server.hospitals": '["north", "south"]',
    "server.researchers": '["anna"]',
    "server.coordinators": '["office"]',
    "server.description_days": "9",
    "server.folder": "'keys'",
    "server.dashboard_hosts": '["board.example"]',
    "server.dashboard": "{session_hours = 1.0}",
    "server.wait_s": "1.0",
    "server.heartbeat_s": "1.0",
    "server.lease_s": "99.0",
    "server.max_message_mb": "1",
    "server.max_spool_mb": "9",
    "server.max_connections": "2",
}


def test_every_key_is_declared_once() -> None:
    """A new key: say in ``common/run/shaping.py`` whether it shapes the model or is operational."""
    for table, field in Config.model_fields.items():
        if table in ("network", "study", "needs", "card"):  # who asks whom, who says what: left out
            continue
        model = next(kind for kind in (*get_args(field.annotation), field.annotation))
        keys = set(model.model_fields)
        shapes, operational = set(SHAPES.get(table, ())), set(OPERATIONAL.get(table, ()))
        assert not shapes & operational, f"[{table}] twice: {shapes & operational}"
        assert keys == shapes | operational, f"[{table}]: {keys ^ (shapes | operational)}"


def test_what_is_operational_is_outside_the_identity() -> None:
    plain = parse_config(f'[teacher]\nmodel_digest = "{"0" * 64}"\n')
    declared = {f"{table}.{key}" for table, keys in OPERATIONAL.items() for key in keys}
    assert declared == set(OTHER), "give each a value here"
    for key, value in OTHER.items():
        table, _, name = key.partition(".")
        x = tomllib.loads(f"x = {value}")["x"]
        given = {name: DashboardTable(**x) if key == "server.dashboard" else x}
        one = getattr(plain, table).model_copy(update=given)  # unchecked: some need another key
        changed = plain.model_copy(update={table: one})
        assert changed.model_dump() != plain.model_dump(), key
        for deployed in (False, True):
            assert digest(changed, deployed) == digest(plain, deployed), key
            check_same(plain, changed, deployed, "run")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("training.lr=0.5", "training.lr was 0.05, is 0.5"),
        ("federation.clients_per_round=3", "federation.clients_per_round was left out, is 3"),
        ("task.columns.target=x", 'task.columns.target was left out, is "x"'),
        ("task.name=own.py:Mine", 'task.name was "tabular", is "own.py:Mine"'),
        ("strategy.weighting=uniform", 'strategy.weighting was "auto", is "uniform"'),
    ],
)
def test_a_refusal_names_key_and_both_values(change: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_same(parse_config(""), parse_config("", [change]), True, "runs/x")
    assert str(refused.value).startswith(f"runs/x: this run was begun with other settings: {told}")
    assert "--new" in str(refused.value)


def test_a_deployed_run_has_no_simulation() -> None:
    plain, other = parse_config(""), parse_config("", ["simulation.clients=7"])
    check_same(plain, other, deployed=True, who="run")
    with pytest.raises(ConfigError, match=r"simulation.clients was 5, is 7"):
        check_same(plain, other, deployed=False, who="run")
    assert not any(key.startswith("simulation") for key in shaping(plain, deployed=True))


def test_a_moved_folder_is_the_same_run(tmp_path: Path) -> None:
    """Relative paths stay so, from where the run's own copy lies; absolute ones stay, too."""
    text = (
        '[data]\npath = "rows"\n[task]\nname = "own/mine.py:Mine"\n[federation]\ninitial = "/m.st"'
    )
    before = tmp_path / "before"
    (before / "runs" / "x").mkdir(parents=True)
    (before / "federation.toml").write_text(text)
    config = load_config(before / "federation.toml")
    (before / "runs" / "x" / "config.toml").write_text(config.to_toml(config.runs_folder() / "x"))
    before.rename(tmp_path / "after")
    moved = load_config(tmp_path / "after" / "runs" / "x" / "config.toml")
    assert moved.data_path().resolve() == tmp_path / "after" / "rows"  # type: ignore[union-attr]
    assert moved.runs_folder().resolve() == tmp_path / "after" / "runs"
    assert (moved.folder / moved.task.name).resolve() == tmp_path / "after" / "own" / "mine.py:Mine"
    assert moved.federation.initial == "/m.st"
    assert digest(moved, False) == digest(
        load_config(tmp_path / "after" / "federation.toml"), False
    )
    assert str(before) not in config.to_toml(config.runs_folder() / "x")


def test_who_asks_and_of_whom_is_no_part_of_a_run() -> None:
    """Another researcher in the network ends no run that goes on."""
    text = '[study]\nname = "sepsis"\npurpose = "why?"\n'
    asked, again = parse_config(text), parse_config(text.replace("why?", "why then?"))
    plain = parse_config("")
    with_more = parse_config('server.researchers = ["anna"]\nserver.coordinators = ["office"]')
    assert digest(asked, True) == digest(again, True) == digest(plain, True)
    assert digest(with_more, True) == digest(plain, True)
