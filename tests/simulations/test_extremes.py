"""G5: every key of every table at its ends, and beyond them: a run, or one sentence; no traceback,
no warning of numpy's, no wait."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import annotated_types
import numpy as np
import pytest
from pydantic import BaseModel

from wardround.common.config.load import Config, parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import ConfigError, DataError, WardroundError
from wardround.common.settings.known_effects import EFFECTS
from wardround.common.settings.strategies import STRATEGIES
from wardround.common.tasks.declared import Options
from wardround.common.tasks.imaging import ImagingTask
from wardround.common.tasks.imaging.options import ImagingOptions
from wardround.common.tasks.options import ModelOptions, TabularOptions
from wardround.common.tasks.text.options import TextOptions
from wardround.simulations import simulate
from wardround.simulations.run import simulate as runner
from wardround.simulations.search.values import toml_text

BEYOND = [-1, 0, 2**31, 2**63, -1.0, 1e308, 5e-324, 0.999, True, "", "x", "a\x00b", [], [0], {}]
NOT_RUN = {
    "federation.rounds": "a million rounds are a wait that was asked for",
    "federation.round_timeout_s": "hospitals that answer at once are never late",
    "federation.retry_wait_s": "a wait that was asked for",
    "training.local_epochs": "a wait that was asked for",
    "training.local_steps": "a wait that was asked for",
    "training.processes": "a simulation trains in one process",
    "secure_aggregation.threads": "a pool of 64 threads",
    "simulation.clients": "a million clients are a wait that was asked for",
    "simulation.rows_per_client": "of virtual populations only: tests/simulations/population",
    "simulation.alpha": "a folder isn't partitioned: tests/simulations/population",
    "simulation.min_examples": "a folder isn't partitioned: tests/simulations/population",
    "simulation.threads": "torch makes as many threads",
}
"""Keys whose extremes aren't run here, and why."""


def numbers() -> Iterator[tuple[str, Any]]:
    """(key, its lowest or highest value) of every number with a range, defaults left out."""
    tables = ("federation", "data", "training", "secure_aggregation", "privacy", "evaluation")
    for table in (*tables, "simulation"):
        yield from ends(table, table_of(table))
    yield from ends("task", TabularOptions)
    yield from ends("task.model", ModelOptions)


def ends(prefix: str, model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    for key, field in model.model_fields.items():
        step = 1 if "int" in str(field.annotation) else 1e-9
        for one in field.metadata:
            value: Any = field.default
            if isinstance(one, annotated_types.Ge):
                value = one.ge
            elif isinstance(one, annotated_types.Gt):
                value = one.gt + step
            elif isinstance(one, annotated_types.Le):
                value = one.le
            elif isinstance(one, annotated_types.Lt):
                value = one.lt - step
            if value != field.default:
                yield f"{prefix}.{key}", value


BESIDE = {"judgement": 'judgement.groups = ["sex"]'}
"""What a table can't be without."""


def every_key() -> list[str]:
    # network and study: who asks what of whom; a simulation knows nothing of them
    names = [name for name in Config.model_fields if name not in ("task", "network", "study")]
    return [f"{name}.{key}" for name in names for key in table_of(name).model_fields]


def table_of(name: str) -> type[BaseModel]:
    """The model of a table, which may be one that can be left out."""
    kind: Any = Config.model_fields[name].annotation
    (model,) = {*get_args(kind)} - {NoneType} or {kind}
    return model


@pytest.mark.parametrize("key", every_key())
def test_what_no_key_can_be_is_refused_by_its_name(key: str) -> None:
    for value in BEYOND:
        try:
            config = parse_config("", [f"{key}={toml_text(value)}"])
        except ConfigError as error:
            assert key.partition(".")[0] in str(error) and "\n" not in str(error)
        else:
            tomllib.loads(config.to_toml())
    for word in ("nan", "inf", "-inf"):
        if is_number(key):
            with pytest.raises(ConfigError, match=key):
                parse_config(BESIDE.get(key.partition(".")[0], ""), [f"{key}={word}"])


TASKS: dict[str, type[Options]] = {
    "tabular": TabularOptions,
    "imaging": ImagingOptions,
    "text": TextOptions,
}


def task_keys() -> Iterator[tuple[str, str]]:
    """(task, dotted key) of every option of the built-in tasks."""

    def below(prefix: str, model: type[BaseModel]) -> Iterator[str]:
        for name, field in model.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from below(f"{prefix}{name}.", inner)
            else:
                yield f"{prefix}{name}"

    for task, model in TASKS.items():
        for key in below("task.", model):
            yield task, key


@pytest.mark.parametrize(("task", "key"), list(task_keys()))
def test_what_no_option_of_a_task_can_be_is_refused_by_its_name(task: str, key: str) -> None:
    *tables, name = key.split(".")[1:]
    for value in [*BEYOND, [""] * 2, ["x"] * 2000, [2**31] * 2, math.nan, math.inf, -math.inf]:
        options: dict[str, Any] = {name: value}
        for table in reversed(tables):
            options = {table: options}
        text = "".join(f"{k} = {toml_text(v)}\n" for k, v in options.items())
        try:
            config = parse_config(f"[task]\nname = '{task}'\n{text}")
            make_task(config)
        except ConfigError as error:
            assert f"task.{key.split('.')[1]}" in str(error) and "\n" not in str(error)
        else:
            make_task(parse_config(config.to_toml()))


WIDE = {
    "hidden layers of 268 million weights": (
        "tabular",
        "model={kind='mlp', hidden=[8192, 8192, 8192, 8192, 8192]}",
        "task.model.hidden",
    ),
    "a thousand classes in 100,000 bins": (
        "tabular",
        f"kind='multiclass'\nbins=100_000\nclasses={[f'c{i}' for i in range(1000)]}",
        "task.bins",
    ),
    "pictures of 1.1 billion pixels": ("imaging", "size=[32768, 32768]", "task.size"),
    "a volume of 2 billion": ("imaging", "size=[1290, 1290, 1290]", "task.size"),
    "more classes than a confusion can have": (
        "text",
        f"kind='sequence'\nclasses={[f'c{i}' for i in range(1001)]}",
        "task.classes",
    ),
}


@pytest.mark.parametrize(("task", "options", "key"), WIDE.values(), ids=WIDE)
def test_what_no_memory_holds_is_refused_before_it_is_made(
    task: str, options: str, key: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(key)):
        make_task(parse_config(f"[task]\nname = '{task}'\n{options}\n"))


def test_images_that_no_memory_holds_are_refused_before_they_are_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("wardround.common.tasks.imaging.gather.most_bytes", lambda: 2**30)
    with pytest.raises(
        DataError, match="take over 26 GiB, and there are 1 GiB of memory; set task.store"
    ):
        ImagingTask(size=[2800, 2800]).load(None)


def is_number(key: str) -> bool:
    table, _, name = key.partition(".")
    annotation = str(table_of(table).model_fields[name].annotation)
    return "int" in annotation or "float" in annotation


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its page is megabytes, for each of a hundred runs."""
    monkeypatch.setattr(runner, "report_run", lambda run: None)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three hospitals of 24 rows. Masks are off where nothing else is asked for: they cost most."""
    folder: Path = tmp_path_factory.mktemp("extremes")
    generator = np.random.default_rng(3)
    (folder / "data").mkdir()
    for name in ("north", "south", "west"):
        rows = generator.normal(size=(24, 2))
        labels = (rows[:, 0] + generator.normal(size=24) > 0).astype(int)
        lines = [f"{a:.3f},{b:.3f},{y}" for (a, b), y in zip(rows, labels, strict=True)]
        (folder / "data" / f"{name}.csv").write_text("\n".join(["a,b,y", *lines]) + "\n")
    return [
        f'federation.runs="{folder / "runs"}"',
        f'data.path="{folder / "data"}"',
        "task.columns={target='y'}",
        "federation.rounds=1",
        "secure_aggregation.enabled=false",
        "simulation.baselines=false",
    ]


def settings_for(key: str) -> list[str]:
    """What else must be set for the key to have an effect."""
    sets = ["privacy.unit=example", "privacy.noise_multiplier=1.0"] if "privacy." in key else []
    if "secure_aggregation." in key or key == "simulation.unmask_dropout":
        sets.append("secure_aggregation.enabled=true")
    sets = [x for x in sets if not (key == "privacy.epsilon" and "noise" in x)]
    for effect in EFFECTS:
        if effect.key == key and not effect.but and effect.switch not in "".join(sets):
            sets.append(f"{effect.switch}={toml_text(effect.values[0])}")
        elif effect.key == key and effect.but and effect.values == (0.0,):
            sets.append(f"{effect.switch}=0.5")
    return [x for x in sets if not x.startswith("training.local_steps")]


def try_run(sets: list[str]) -> None:
    """A run whose numbers are finite, or one sentence."""
    try:
        result = simulate(overrides=sets)
    except WardroundError as error:
        assert "\n" not in str(error) and "Error at" not in str(error), str(error)
        return
    for row in result.rounds:
        assert not any("Error" in one["reason"] for one in row["refused"]), row["refused"]
        assert row["train_loss"] is None or math.isfinite(row["train_loss"])


@pytest.mark.parametrize(("key", "value"), [x for x in numbers() if x[0] not in NOT_RUN])
def test_an_end_of_a_range_runs_or_is_told(base: list[str], key: str, value: Any) -> None:
    try_run([*base, *settings_for(key), f"{key}={toml_text(value)}"])


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [(name, *x) for name, table in STRATEGIES.items() for x in ends("strategy", table)],
)
def test_an_end_of_a_strategys_range_runs_or_is_told(
    base: list[str], name: str, key: str, value: Any
) -> None:
    try_run([*base, f"strategy.name={name}", f"{key}={toml_text(value)}"])
