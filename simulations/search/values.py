"""What stands behind ``--sweep KEY=...`` and ``--param KEY=...``, and values as TOML text again.

A list of values is split at its commas, but not inside quotes, brackets or braces; each value is
then read as that of ``--set``: TOML, or else a bare word.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from wardround.common.config.overrides import override_value
from wardround.common.errors import ConfigError

Settings = Mapping[str, Any]
"""Dotted keys of a configuration, with their values."""
_OPENING, _CLOSING, _QUOTES = "[{", "]}", "\"'"


def split_option(option: str, text: str) -> tuple[str, str]:
    """The dotted key and what stands behind its '='. Raises ConfigError, naming ``option``."""
    key, equals, rest = text.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or len(parts) < 2 or not all(parts) or not rest.strip():
        raise ConfigError(
            f"{option} {text}: write it as table.key=value,value, e.g. training.lr=0.01,0.1"
        )
    return ".".join(parts), rest.strip()


def split_values(option: str, key: str, text: str) -> list[Any]:
    """The values of a comma-separated list. Raises ConfigError for an empty or a repeated one."""
    values = [override_value(part) for part in _split(text)]
    texts = [toml_text(value) for value in values]
    if '""' in texts and not all(part.strip() for part in _split(text)):
        raise ConfigError(f"{option} {key}={text}: a value is empty; leave out the extra comma")
    if repeated := [one for one in texts if texts.count(one) > 1]:
        raise ConfigError(f"{option} {key}={text}: {repeated[0]} stands there twice; leave one out")
    return values


def whole_numbers(option: str, text: str) -> list[int]:
    """A comma-separated list of whole numbers, e.g. of seeds. Raises ConfigError."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"{option} {text}: write whole numbers, e.g. 1,2,3") from None


def toml_text(value: Any) -> str:
    """The value as TOML on one line. Raises ConfigError for what a configuration can't hold."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):  # JSON escapes all that TOML wants escaped, but this one
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_text, value))}]"
    if isinstance(value, Mapping):
        pairs = (f"{toml_text(str(k))} = {toml_text(v)}" for k, v in value.items())
        return f"{{{', '.join(pairs)}}}"
    raise ConfigError(
        f"{value!r:.60}: no value of a configuration; give a number, a text, true, false, a list "
        "or a table"
    )


def shown(value: Any) -> str:
    """The value as a person types it: a word without its quotes."""
    plain = isinstance(value, str) and value and not set(value) & set(" ,=[]{}\"'")
    return str(value) if plain else toml_text(value)


def brief(value: Any) -> str:
    """The value for a narrow column: a number in four digits."""
    return f"{value:.4g}" if isinstance(value, float) else shown(value)


def label(settings: Settings) -> str:
    """All settings on one line, to be read."""
    return " ".join(f"{key}={brief(value)}" for key, value in settings.items())


def overrides(settings: Settings) -> list[str]:
    """The settings as overrides that ``parse_config`` reads."""
    return [f"{key}={toml_text(value)}" for key, value in settings.items()]


def _split(text: str) -> list[str]:
    parts, depth, quote, start = [], 0, "", 0
    for place, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in _QUOTES:
            quote = character
        elif character in _OPENING:
            depth += 1
        elif character in _CLOSING:
            depth -= 1
        elif character == "," and depth == 0:
            parts.append(text[start:place].strip())
            start = place + 1
    return [*parts, text[start:].strip()]
