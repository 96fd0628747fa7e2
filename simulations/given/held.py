"""Hospitals' data that are in memory, or at paths that a program names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

from wardround.common.config.load import Config
from wardround.common.tasks.base import Task
from wardround.common.tasks.data.row_keys import file_key, record_keys

Held: TypeAlias = pa.Table | Path
WHOLE = "data"
"""The title of one data set, of which hospitals are made."""


@dataclass(frozen=True)
class GivenData:
    """What ``simulate(data=...)`` was given.

    shards : a table, or a path, by the hospital's title, in the order of titles
    one_set : it is one data set, called ``WHOLE``, and no hospital's
    arrays : names of columns that were made up for an array's
    notes : what of it isn't used, one line each
    """

    shards: Mapping[str, Held]
    one_set: bool
    arrays: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)

    def called(self, title: str) -> str:
        """What messages call a shard."""
        return WHOLE if self.one_set else f"{WHOLE}[{title!r}]"

    def load(self, title: str, task: Task[Any], large: Path) -> Any:
        """A shard in the task's own form. Raises DataError.

        large : see ``Task.load_large``
        """
        shard = self.shards[title]
        if isinstance(shard, Path):
            return task.load_large(shard, large)
        return task.load_table(shard, self.called(title))

    def digests(self) -> dict[str, str]:
        """What tells the same data from others, by title."""
        return {title: _digest(shard) for title, shard in self.shards.items()}


def _digest(shard: Held) -> str:
    if isinstance(shard, Path):
        return file_key(shard)
    names = sorted(shard.column_names)
    keys = record_keys([shard.column(name) for name in names], len(shard))
    text = "\0".join([*names, *keys.tolist()])
    return hashlib.sha256(text.encode()).hexdigest()


def check_given(config: Config, given: GivenData) -> str:
    """How hospitals are made of data that a program holds: ``simulation.partition``, 'sites' where
    hospitals were given. Raises ConfigError where the settings say otherwise."""
    kind = config.simulation.partition
    if config.data.path:
        raise config.error(
            "data.path", "has no effect beside simulate(data=...)", "leave one of the two out"
        )
    if given.one_set and kind == "sites":
        raise config.error(
            "simulation.partition",
            "'sites' needs hospitals, and data is one data set",
            "give a dict by hospital, or set 'iid'",
        )
    if not given.one_set and kind not in ("auto", "sites"):
        raise config.error(
            "simulation.partition",
            f"'{kind}' makes hospitals of one data set, and data has hospitals",
            "leave the key out, or give one data set",
        )
    return kind if given.one_set else "sites"
