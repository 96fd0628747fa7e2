"""What goes with a joint procedure: its task, its parties, and no table that others need.

Settings that joint procedures ignore are refused where somebody has changed them, by their key: a
reader of the file would think that they protect or do something. Defaults stand in nobody's way.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from wardround.common.config.load import Config
from wardround.common.errors import ConfigError
from wardround.common.settings import LINKAGE, LINKED, SPLIT
from wardround.common.tasks.base import Task
from wardround.common.tasks.linked import LinkedOptions, LinkedTask

_SUMS = "joint procedures have no rounds of sums over hospitals"
_IGNORED = (
    ("federation", "clients_per_round, min_clients", "all parties take part"),
    ("federation", "rounds, initial", _SUMS),
    ("strategy", "", _SUMS),
    ("secure_aggregation", "", "letters are sealed from party to party in any case"),
    ("privacy", "", "no noise would be added to what parties open of their rows"),
    ("evaluation", "", _SUMS),
    ("data", "test_fraction, validation_fraction", "no party alone knows which rows are linked"),
)
"""Table, keys ('' for all) and why they do nothing."""
_OF_TRAINING = "device, processes"
"""Keys of a machine, which mean the same whatever is computed."""


def check_joint(config: Config, task: Task[Any]) -> None:
    """Raise ConfigError, by key, for a joint procedure without the task of one, or the other way
    round, and for settings that have no effect with it."""
    name = config.procedure.name
    if not config.procedure.joint:
        if config.task.name == LINKED:
            raise config.error(
                "procedure.name",
                f"task 'linked' is for joint procedures, and '{name}' is none",
                "set 'linkage' or 'vertical'",
            )
        return
    if not isinstance(task, LinkedTask):
        raise config.error(
            "task.name",
            f"'{name}' is of rows by identifiers, and '{config.task.name}' has none",
            "set task.name = 'linked', with [task.identifiers] and [task.parties.NAME]",
        )
    if config.judgement is not None:
        raise config.error("judgement", f"has no effect with procedure.name = '{name}'")
    asked = config.study.hospitals if config.study is not None else []
    if asked and set(asked) != set(task.options.names):
        raise config.error(
            "study.hospitals",
            f"'{name}' is of the parties of [task.parties], {', '.join(task.options.names)}",
            "name the same ones",
        )
    for table, keys, why in _IGNORED:
        _check_ignored(config, table, keys, why)
    _check_ignored(config, "training", "", "no model is trained in rounds", _OF_TRAINING)
    _check_images(config, task.options)
    if name != LINKAGE:
        _check_columns(config, task.options)


def _check_ignored(config: Config, table: str, keys: str, why: str, but: str = "") -> None:
    """Raise ConfigError for a key of a table that has another value than the default.

    keys : which; '' for all ``but`` some
    """
    found: BaseModel = getattr(config, table)
    default = type(found)()
    for key in keys.split(", ") if keys else type(found).model_fields:
        if key not in but.split(", ") and getattr(found, key) != getattr(default, key):
            raise _no_effect(config, f"{table}.{key}", why)
    if extra := sorted(found.model_extra or {}):
        raise _no_effect(config, f"{table}.{extra[0]}", why)


def _no_effect(config: Config, key: str, why: str) -> ConfigError:
    name = config.procedure.name
    return config.error(key, f"has no effect with procedure.name = '{name}': {why}", "leave it out")


def _check_columns(config: Config, options: LinkedOptions) -> None:
    """Raise ConfigError where a model of several parties' columns would have none."""
    name = config.procedure.name
    if options.holder is None:
        raise config.error(
            "task.parties",
            f"'{name}' needs an outcome, and no party has one",
            'name it at one of them: outcome = "COLUMN", or time and event',
        )
    dealer = getattr(config.procedure.settings, "dealer", None)
    for party, columns in options.parties.items():
        if not columns.has_inputs and not columns.outcomes and party != dealer:
            raise config.error(
                f"task.parties.{party}",
                f"has no column, so it has no part in '{name}'",
                "name its numeric or categorical ones, or leave the party out",
            )
    if not any(one.has_inputs for one in options.parties.values()):
        raise config.error("task.parties", f"'{name}' needs inputs, and no party has any")


def _check_images(config: Config, options: LinkedOptions) -> None:
    """Raise ConfigError for images that nothing would be computed from."""
    for party, columns in options.parties.items():
        if columns.images is not None and config.procedure.name not in (LINKAGE, SPLIT):
            raise _no_effect(
                config, f"task.parties.{party}.images", "images are for procedure.name = 'split'"
            )
