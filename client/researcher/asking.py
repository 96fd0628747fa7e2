"""From a researcher's file to a study: what is asked, as it is signed and as people read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from wardround.common.config.load import Config, load_config, parse_config
from wardround.common.config.task import make_task
from wardround.common.manifest.planned import task_sha256
from wardround.common.procedures.finished import check_finished, check_named
from wardround.common.procedures.known import needs_model
from wardround.common.settings import LINKED
from wardround.common.study.study import Study
from wardround.common.tasks import built_in
from wardround.common.text import one_line
from wardround.common.trust.description import Description

Asked = Path | str | Config | Mapping[str, Any]
"""A study.toml, or what stands in one."""


def read_asked(asked: Asked, overrides: Sequence[str] = ()) -> Config:
    """The settings of a file, of tables, or of a Config. Raises ConfigError, naming the key."""
    if isinstance(asked, Config):
        if not overrides:
            return asked
        return parse_config(asked.to_toml(), overrides)
    if isinstance(asked, Mapping):
        return parse_config(tomli_w.dumps(dict(asked)), overrides)
    return load_config(Path(asked), overrides)


def make_study(
    config: Config, description: Description, researcher: str, now: datetime, repeat: int = 0
) -> Study:
    """The study that a file asks for, with the digest of its task's own file.

    Raises ConfigError for a task's own key, by file and line; StudyRefused, naming the key, for
    what can't be asked of this network; TaskError where the task's file isn't there.
    """
    _check_options(config)
    check_named(config)
    if needs_model(config):
        check_finished(config, make_task(config), None)
    return Study.of(
        config,
        description,
        researcher,
        now=now,
        task_sha256=task_sha256(config),
        repeat=repeat,
    )


def _check_options(config: Config) -> None:
    """Hold a built-in task's options against its keys here, where the file's lines are known: the
    server would name those of the text that it gets."""
    model = None if ":" in config.task.name else built_in(config.task.name).options_model
    if model is not None:
        try:
            model.model_validate(config.task.options)
        except ValidationError as error:
            raise config.options_error(error, "task.", model) from None


def facts(study: Study, description: Description) -> list[tuple[str, str]]:
    """What is asked, line by line: (what, how it is); each a harmless line, whoever wrote the
    study."""
    return [(one_line(what, 100), one_line(how, 2000)) for what, how in _facts(study, description)]


def _facts(study: Study, description: Description) -> list[tuple[str, str]]:
    config = study.config(description)
    columns = config.task.options.get("columns")
    private = config.privacy.enabled
    repeat = f", repeat {study.repeat}" if study.repeat else ""
    found = [
        ("study", f"{study.name} ({study.id[:12]}{repeat})"),
        ("purpose", study.purpose),
        ("of", ", ".join(study.hospitals)),
        ("fewest that do", f"{_fewest(study, config)} of {len(study.hospitals)}"),
        ("waits for others", f"{study.wait_s / 3600:g} hours, once so many have accepted"),
        ("until", study.until),
        ("task", config.task.name),
    ]
    if study.task_sha256:
        found.append(("task's file", f"SHA-256 {study.task_sha256}; it travels by other means"))
    if isinstance(columns, Mapping):
        found += [(key, _columns(value)) for key, value in sorted(columns.items())]
    if config.task.name == LINKED:
        options = config.task.options
        found.append(("persons by", _columns(options.get("identifiers"))))
        parties = options.get("parties", {}).items()
        found += [(f"columns of {party}", _columns(value)) for party, value in parties]
    rounds, procedure = config.federation.rounds, config.procedure.name
    trained = ("training", f"{rounds} round{'s' * (rounds != 1)} of {config.strategy.name}")
    return [
        *found,
        trained if config.procedure.trains else ("procedure", f"{procedure}: no model is trained"),
        ("aggregation", _aggregation(config)),
        ("privacy", _privacy(config) if private else "no differential privacy"),
    ]


def _fewest(study: Study, config: Config) -> int:
    return len(study.hospitals) if config.procedure.joint else config.federation.min_clients


def _aggregation(config: Config) -> str:
    if config.procedure.joint:
        return "none: parties' letters are sealed for each other, the server carries them"
    secure = config.secure_aggregation
    if secure.blind:
        return "secure and blind: the server can't read sums of updates, and has no model"
    return "secure: the server learns sums only" if secure.enabled else "PLAIN"


def _privacy(config: Config) -> str:
    table = config.privacy
    return f"{table.noise} noise, of each {table.unit}"


def _columns(value: object) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_columns(one)}" for key, one in value.items()) or "none"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
