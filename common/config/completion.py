"""What a shell completes: keys of ``federation.toml``, and the values of those that are words."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from wardround.common.config.load import Config
from wardround.common.settings.strategies import STRATEGIES


def settings_like(incomplete: str) -> list[str]:
    """Every ``TABLE.KEY=`` that begins so; once a key is whole, ``TABLE.KEY=VALUE`` for each value
    that has a name."""
    key, typed, _ = incomplete.partition("=")
    found = []
    for name, annotation in _keys():
        if not typed:
            found.append(f"{name}=")
        elif name == key:
            found += [f"{name}={word}" for word in _words(name, annotation)]
    return sorted(one for one in found if one.startswith(incomplete))


def words_of(key: str) -> list[str]:
    """The values of a key that takes words, as ``simulation.executor`` does; else none."""
    return [word for name, annotation in _keys() if name == key for word in _words(key, annotation)]


def _keys() -> Iterator[tuple[str, Any]]:
    for table, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            for key, below in field.annotation.model_fields.items():
                yield f"{table}.{key}", below.annotation


def _words(name: str, annotation: Any) -> Iterator[str]:
    if name == "strategy.name":
        yield from STRATEGIES
    elif annotation is bool:
        yield from ("true", "false")
    elif get_origin(annotation) is Literal:
        yield from (str(word) for word in get_args(annotation))
    elif get_origin(annotation) in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _words(name, part)
