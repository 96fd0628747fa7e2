"""Where the keys of a TOML file stand, so that a mistake is told with file, line and key."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeGuard, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from wardround.common.errors import ConfigError
from wardround.common.settings.key_errors import WrongKey


class Source:
    """Where the keys of a configuration were written."""

    def __init__(self, text: str, path: Path | None, overridden: Iterable[str] = ()) -> None:
        self.path = path
        self.folder = path.parent if path else Path()
        self.overridden = set(overridden)
        self.text = text

    @cached_property
    def lines(self) -> dict[str, int]:
        """Line of each table and key; looked for at the first mistake only."""
        return key_lines(self.text)

    def place(self, key: str) -> str:
        """'file:line: ' of a dotted key, or of its nearest table; '--set ' for an override."""
        if any(key == name or key.startswith(name + ".") for name in self.overridden):
            return "--set "
        name = str(self.path) if self.path else "configuration"
        while key:
            if key in self.lines:
                return f"{name}:{self.lines[key]}: "
            key = key.rpartition(".")[0]
        return f"{name}: "


def validation_error(
    error: ValidationError,
    place: Callable[[str], str],
    model: type[BaseModel] | None,
    prefix: str = "",
) -> ConfigError:
    """The first problem of a pydantic error as one ConfigError line, with hints.

    ``model`` is what was validated, to name its keys; None where it isn't known.
    """
    first, others = error.errors()[0], error.error_count() - 1
    key = _key_of(first, prefix)
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        known = _known_keys(model, first["loc"][:-1])
        near = difflib.get_close_matches(str(first["loc"][-1]), known, 1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        if known and not near:
            hint = f"; allowed: {', '.join(known)}"
        message = f"unknown key{hint}"
    elif first["type"] in ("model_type", "dict_type"):
        message = f"is a table of keys, not {first['input']!r:.60}; write [{key}]"
    elif first["type"] != "value_error":
        message = f"{message[0].lower()}{message[1:]} (found {first['input']!r:.60})"
    more = f" (and {others} more)" if others else ""
    return ConfigError(f"{place(key)}{key + ': ' if key else ''}{message}{more}")


def _key_of(found: ErrorDetails, prefix: str) -> str:
    """The full name of the key at fault, or of the table that the check was over."""
    parts = [prefix.rstrip("."), *(str(part) for part in found["loc"])]
    cause = found.get("ctx", {}).get("error")
    if isinstance(cause, WrongKey):
        parts.append(cause.key)
    return ".".join(part for part in parts if part)


def _known_keys(model: type[BaseModel] | None, loc: Sequence[int | str]) -> list[str]:
    kind: object = model
    for part in loc:
        if get_origin(kind) is dict:  # tables by name
            kind = get_args(kind)[1]
            continue
        field = kind.model_fields.get(str(part)) if _is_model(kind) else None
        kind = field.annotation if field else None
    if not _is_model(kind):
        return []
    return sorted(field.alias or name for name, field in kind.model_fields.items())


def _is_model(kind: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def key_lines(text: str) -> dict[str, int]:
    """Line number of each table and key of a valid TOML document; of a value, its first line.

    Names are dotted, with the number of the element in an array of tables. The standard parser
    gives no positions, but it says where a statement ends: the shortest run of lines that it reads
    as a document, since what is cut off inside a string or an array is none.
    """
    stated: dict[str, int] = {}
    implied: dict[str, int] = {}
    elements: dict[str, int] = {}
    table, chunk, first = "", "", 1
    for number, line in enumerate(text.split("\n"), 1):
        chunk += line + "\n"
        if number > first and not _may_end(line):
            continue
        try:
            read = tomllib.loads(chunk)
        except tomllib.TOMLDecodeError:
            continue
        header = chunk.lstrip().startswith("[")
        if header:
            table = _header(read, elements)
            stated.setdefault(table, first)
        for name in (table,) if header else _names(read, table):
            stated.setdefault(name, first)
            while name := name.rpartition(".")[0]:
                implied.setdefault(name, first)
        chunk, first = "", number + 1
    return implied | stated


def _may_end(line: str) -> bool:
    """Whether a value of several lines may end here: asking the parser each time is quadratic."""
    return "#" in line or line.rstrip().endswith(("]", "}", '"', "'"))


def _header(read: dict[str, Any], elements: dict[str, int]) -> str:
    """The full name of the table of a ``[header]`` read by itself; counts elements of arrays."""
    name, value = "", read
    while value:
        ((key, inner),) = value.items()
        name = f"{name}.{key}" if name else key
        if isinstance(inner, list):
            elements[name] = elements.get(name, -1) + 1
            inner = inner[0]
        if name in elements:
            name = f"{name}.{elements[name]}"
        value = inner
    return name


def _names(tables: dict[str, Any], above: str) -> Iterator[str]:
    for key, value in tables.items():
        name = f"{above}.{key}" if above else key
        yield name
        if isinstance(value, dict):
            yield from _names(value, name)
