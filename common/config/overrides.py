"""Settings from the command line, put over those of a file: ``--set table.key=value``.

The later word counts. Where an override takes the effect from a key of the file (another optimiser
has no momentum), or names another task or strategy than the one that the file's options are for,
these are left out, and told.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from wardround.common.errors import ConfigError
from wardround.common.settings import StrategyTable, TaskTable

Tables = dict[str, Any]


class Overridden:
    """The tables of a file with overrides put over them, in place.

    keys : dotted, that were overridden
    notes : what was left out of the file, for people
    """

    def __init__(self, tables: Tables, overrides: Sequence[str], path: Path | None) -> None:
        self._tables, self._folder = tables, path.parent if path else Path()
        self.keys: list[str] = []
        self.notes: list[str] = []
        pairs = [_split(override) for override in overrides]
        for name, known in (("task", TaskTable), ("strategy", StrategyTable)):
            for parts, value, _ in pairs:
                if parts == [name, "name"]:
                    self._leave_options(name, set(known.model_fields), value)
        for parts, value, option in pairs:
            self._put(parts, value, option)

    def take_out(self, found: Iterable[tuple[str, str]]) -> bool:
        """Take out the file's keys that an overridden (key, switch) left without effect; True if
        there was one."""
        taken = False
        for key, switch in found:
            if self._is_overridden(switch) and not self._is_overridden(key):
                *tables, last = key.split(".")
                table = self._tables
                for name in tables:
                    table = table[name]
                del table[last]
                taken = True
                self.notes.append(
                    f"{key} of the file is left out: {switch} was set to another value"
                )
        return taken

    def _is_overridden(self, key: str) -> bool:
        return any(key == name or key.startswith(name + ".") for name in self.keys)

    def _leave_options(self, name: str, own: set[str], value: Any) -> None:
        """Leave out the file's options of another task or strategy than the one now named."""
        table = self._tables.get(name)
        if not isinstance(table, dict):
            return
        before = table.get("name", TaskTable().name if name == "task" else StrategyTable().name)
        if self._same(before, value):
            return
        if options := [key for key in table if key not in own]:
            for key in options:
                del table[key]
            self.notes.append(
                f"{name}.name was set to {value!r:.80}: the options of '{before}' in the file are "
                f"left out ({', '.join(options)})"
            )

    def _same(self, before: Any, value: Any) -> bool:
        """Whether both name the same class, however the path is written."""
        if before == value or not all(isinstance(x, str) and ":" in x for x in (before, value)):
            return bool(before == value)
        return bool((self._folder / before).resolve() == (self._folder / value).resolve())

    def _put(self, parts: list[str], value: Any, option: str) -> None:
        table = self._tables
        for part in parts[:-1]:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise ConfigError(f"--set {option}: '{part}' is a value, not a table")
        table[parts[-1]] = value
        self.keys.append(".".join(parts))


def override_value(text: str) -> Any:
    """What stands behind the '=' of an override: a TOML value, or else a bare word."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()  # a string, as a shell user expects


def _split(option: str) -> tuple[list[str], Any, str]:
    key, equals, value = option.partition("=")
    parts = key.strip().split(".")
    if not equals or len(parts) < 2 or not all(parts):
        raise ConfigError(f"--set {option}: write it as table.key=value, e.g. training.lr=0.01")
    return parts, override_value(value), option
