"""``simulate(data=..., target=...)``: from what a program holds to a run."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import tomli_w

from wardround.common.config.load import Config, load_config, parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import ConfigError, DataError, WardroundError
from wardround.common.tasks.base import Task
from wardround.common.tasks.own_model import OwnModel
from wardround.server.observer import Observer
from wardround.simulations.beginning.begin import Begun, begin_at, begin_given
from wardround.simulations.beginning.check import problems
from wardround.simulations.given.forms import given_data
from wardround.simulations.given.held import GivenData, check_given
from wardround.simulations.python.decided import decided, in_python
from wardround.simulations.python.progress import shown_line
from wardround.simulations.run import simulate as runs
from wardround.simulations.run.result import Result
from wardround.simulations.search.values import overrides as override_texts

Overrides = Sequence[str] | Mapping[str, Any]
_OWN = 'task.model.kind="own"'
_FILE = Path("federation.toml")
"""Where the configuration of data at a path would lie; none is written."""


def simulate(
    config: Config | Path | str | None = None,
    *,
    data: Any = None,
    target: str | None = None,
    positive: str | Sequence[str] = (),
    model: OwnModel | None = None,
    overrides: Overrides = (),
    resume: Path | str | None = None,
    task: Task[Any] | None = None,
    observer: Observer | None = None,
    progress: bool | None = None,
) -> Result:
    """Run (or go on with) a simulated federation. Raises WardroundError subclasses.

    Parameters
    ----------
    config : a ``Config``, the path of a ``federation.toml``, or None for the built-in example, or
        for what ``wardround init`` decides about ``data``; beside that its tables go over it
    data : hospitals by name, each a frame, an Arrow table, columns, records, a pair (X, y) or a
        path; or one of these, of which hospitals are made; or a folder with a file for each
    target, positive : of ``data``: the column to predict, and its texts that mean 1
    model : of tables: a torch module, or what makes one of the numbers of inputs and outputs
    overrides : {'table.key': value}, or 'table.key=value' texts as ``--set`` has them
    resume : a run directory to go on with; ``data``, ``model`` and ``task`` are given again
    task : a task object of your own; the configuration then has no ``[task]``
    observer : is told what happens, instead of the line that ``progress`` is about (whether one
        shows the round; None: in a notebook and at a prompt)

    >>> ages = [30 + 7 * i % 50 for i in range(300)]
    >>> rows = {"age": ages, "died": [int(x + i % 9 > 60) for i, x in enumerate(ages)]}
    >>> bool(simulate(data=rows, target="died").predict({"age": [85]})["probability"][0] > 0.5)
    True
    """
    _check_together(data, target, positive, model, task, observer, progress)
    texts, given, begun = as_texts(overrides), None, None
    with in_python():
        if resume is not None:
            given = None if data is None else given_data(data, target)
            settings = runs.load(config, texts, resume)
        elif data is None:
            settings = runs.load(config, texts + [_OWN] * (model is not None))
        else:
            given, begun, settings = _looked_at(config, data, target, positive, texts, model)
        task = task if model is None else make_task(settings, model)
        if begun is not None and (wrong := problems(settings, task, given)):
            raise DataError("\n".join(wrong))
    as_it_came = data is None and model is None  # what a task of one's own is held against
    asked = (None if resume else config, texts) if resume or as_it_came else (settings, [])
    call = partial(runs.simulate, asked[0], overrides=asked[1], resume=resume, given=given)
    return _run(call, settings, task, begun, observer, progress)


def _run(
    call: Callable[..., Result],
    settings: Config,
    task: Task[Any] | None,
    begun: Begun | None,
    observer: Observer | None,
    progress: bool | None,
) -> Result:
    line = None
    if observer is None:
        primary = (task or make_task(settings)).figure_table().primary
        line = shown_line(progress, settings.federation.rounds, primary)
    watching, told = observer or line, [] if begun is None else decided(begun)
    with line or nullcontext():
        if watching is not None and told:
            watching.begins(told)
        result = call(task=task, observer=watching)
    return replace(result, notes=(*dict.fromkeys([*told, *result.notes]),))


def _check_together(
    data: Any,
    target: str | None,
    positive: str | Sequence[str],
    model: OwnModel | None,
    task: Task[Any] | None,
    observer: Observer | None,
    progress: bool | None,
) -> None:
    """Raise ConfigError for arguments that have no effect together, or are of another type."""
    if target is not None and not isinstance(target, str):
        raise ConfigError(
            f"target: {type(target).__name__} is no name", mend="give one column's, a text"
        )
    if not isinstance(positive, str) and not (
        isinstance(positive, Sequence) and all(isinstance(one, str) for one in positive)
    ):
        raise ConfigError(
            "positive: neither a text nor a list of them",
            mend="write what the cells have in quotes, positive='1'",
        )
    if data is None and target is not None:
        raise ConfigError(
            "target: goes with data=...; a file names its own in [task.columns]",
            mend="leave it out, or set overrides={'task.columns.target': ...}",
        )
    if data is None and len(positive):
        raise ConfigError("positive: goes with data=...; a file has its own, task.positive")
    if model is not None and task is not None:
        raise ConfigError("model: has no effect beside task=..., whose model() makes its own")
    if observer is not None and progress is not None:
        raise ConfigError("progress: has no effect beside observer=..., which is told instead")


def as_texts(overrides: Overrides) -> list[str]:
    """As ``parse_config`` reads them. Raises ConfigError for a value that no configuration
    has."""
    if isinstance(overrides, str):
        raise ConfigError(f"overrides: one text; write [{overrides!r}], or a dict")
    if isinstance(overrides, Mapping):
        return override_texts(overrides)
    return list(overrides)


def _looked_at(
    config: Config | Path | str | None,
    data: Any,
    target: str | None,
    positive: str | Sequence[str],
    texts: list[str],
    model: OwnModel | None,
) -> tuple[GivenData | None, Begun | None, Config]:
    """The data as they are held (None: at ``data.path``), what was decided of them (None: the
    configuration says all), and the configuration."""
    positive = [positive] if isinstance(positive, str) else list(positive)
    if isinstance(config, str | Path):
        config = load_config(Path(config))
    own = set() if config is None else config.model_fields_set
    if config is not None and config.data.path:
        raise config.error("data.path", "has no effect beside data=...", "leave one of the two out")
    texts = texts + [_OWN] * (model is not None)
    at_path = isinstance(data, str | Path)
    if config is not None and "task" in own:
        if target is not None or positive:
            raise config.error("task", "says the target, and so do target=... and positive=...")
        if at_path:
            path = str(Path(data).resolve())
            return None, None, _over({"data": {"path": path}}, config, texts)
        given = given_data(data)
        return given, None, _checked(_over({}, config, texts), given)
    dialect = [one.removeprefix("task.dialect.") for one in texts if _is_dialect(one)]
    if at_path:
        begun = begin_at(_FILE, Path(data), target, positive, dialect)
        return None, begun, _over(tomllib.loads(begun.text), config, texts)
    given = given_data(data, target)
    begun = begin_given(given, target, positive, dialect)
    return given, begun, _checked(_over(tomllib.loads(begun.text), config, texts), given)


def _checked(config: Config, given: GivenData) -> Config:
    """The configuration. Raises ConfigError where it doesn't go with data in memory."""
    check_given(config, given)
    return config


def _is_dialect(override: str) -> bool:
    return override.strip().startswith("task.dialect.")


def _over(decided: dict[str, Any], config: Config | None, texts: list[str]) -> Config:
    """What was decided, the tables of a configuration over it, and the overrides over both.
    Raises ConfigError."""
    tables = dict(decided)
    folder = Path()
    if config is not None:
        folder = config.folder
        found = config.model_dump(mode="json", exclude_unset=True, exclude_none=True)
        for name, table in found.items():
            tables[name] = {**tables.get(name, {}), **table} if isinstance(table, dict) else table
    try:
        return parse_config(
            tomli_w.dumps(tables), texts, folder / "config.toml" if config else None
        )
    except WardroundError as error:
        raise ConfigError(str(error).replace(f"{folder / 'config.toml'}:", "config:")) from None
