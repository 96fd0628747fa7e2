"""``begin``: from tables to a configuration that runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from wardround.common.config.load import parse_config
from wardround.common.config.overrides import override_value
from wardround.common.errors import ConfigError, DataError
from wardround.common.tasks.data.reading.dialect import Dialect
from wardround.simulations.beginning.check import problems
from wardround.simulations.beginning.decide import Decision, decide
from wardround.simulations.beginning.found import Found, find, found_in
from wardround.simulations.beginning.questions import answers, study_text
from wardround.simulations.beginning.text import federation_text
from wardround.simulations.given.held import GivenData


@dataclass(frozen=True)
class Begun:
    """A configuration that was tried, and why it is as it is."""

    text: str
    found: Found
    decision: Decision


def begin_at(
    path: Path,
    data: Path,
    target: str | None = None,
    positive: Sequence[str] = (),
    dialect: Sequence[str] = (),
    statistics: bool = False,
) -> Begun:
    """``begin`` of the tables in a folder or file. dialect : 'key=value' of ``[task.dialect]``"""
    keys, known = dialect_of(dialect)
    return begin(path, looked_at(data, known), target, positive, keys, statistics)


def looked_at(data: Path, dialect: Dialect) -> Found:
    """The tables there. Raises DataError with every problem of every file, a line each."""
    found = find(data, dialect)
    _check_readable(found)
    return found


def begin(
    path: Path,
    found: Found,
    target: str | None,
    positive: Sequence[str],
    keys: Mapping[str, Any],
    statistics: bool,
) -> Begun:
    """The text of a ``federation.toml`` that will lie at ``path``, of tables that were read.

    target : a column's name; None: the one whose name says it
    positive : texts of the target that mean 1, where these aren't plain
    keys : of ``[task.dialect]``, where a file can be read in two ways
    statistics : a study of statistics is made instead, and the target is the outcome

    Raises ConfigError where the researcher must say more, and DataError with every problem, a line
    each.
    """
    decision = decide(found, target, positive)
    made, tried = (study_text, answers) if statistics else (federation_text, problems)
    text = made(decision, found, relative(found.path, path), keys)
    if wrong := tried(parse_config(text, path=path)):
        raise DataError("\n".join(wrong))
    return Begun(text, found, decision)


def begin_given(
    given: GivenData,
    target: str | None = None,
    positive: Sequence[str] = (),
    dialect: Sequence[str] = (),
) -> Begun:
    """The same of data that a program holds: a configuration that names no data, and isn't tried.
    Raises as ``begin`` does."""
    keys, known = dialect_of(dialect)
    found = found_in(given, known)
    _check_readable(found)
    decision = decide(found, target, positive)
    return Begun(federation_text(decision, found, None, keys), found, decision)


def _check_readable(found: Found) -> None:
    """Raise DataError with all problems of all files."""
    if found.problems:
        lines = list(found.problems)
        if any("task.dialect" in line for line in lines):
            lines.append(
                "(what a message calls task.dialect.KEY is said here by --dialect KEY=VALUE)"
            )
        raise DataError("\n".join(lines))


def dialect_of(options: Sequence[str]) -> tuple[dict[str, Any], Dialect]:
    """``KEY=VALUE`` as keys and as a dialect. Raises ConfigError."""
    keys: dict[str, Any] = {}
    for option in options:
        key, equals, text = option.partition("=")
        if not equals or key not in Dialect.model_fields:
            raise ConfigError(
                f"--dialect {option}: write it as KEY=VALUE; keys are "
                f"{', '.join(sorted(Dialect.model_fields))}"
            )
        value = override_value(text) if key == "header" else text
        keys[key] = "\t" if value == "\\t" else value
    try:
        return keys, Dialect(**keys)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"--dialect {first['loc'][0]}: {first['msg']}") from None


def relative(data: Path, file: Path) -> str:
    """The data's path as the file says it: from its own folder, where the data lie below that."""
    folder = file.resolve().parent
    whole = data.resolve()
    inside = whole.is_relative_to(folder)
    return Path(os.path.relpath(whole, folder)).as_posix() if inside else str(whole)
