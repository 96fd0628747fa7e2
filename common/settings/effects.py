"""One rule for settings without effect: a key that is set and does nothing is refused by its name.

What gives a key its effect is declared once, as data (``Effect``), beside the tables that hold it.
Only keys that somebody set count; one that stands there with its default counts only while the key
that decides doesn't stand there itself, so that a whole configuration, written out, can be read
again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from wardround.common.settings.key_errors import WrongKey


@dataclass(frozen=True)
class Effect:
    """``key`` has an effect where ``switch`` has one of ``values``; if ``but``, any other value.

    Both keys are dotted, from the model that the effect is declared for.
    """

    key: str
    switch: str
    values: tuple[Any, ...]
    but: bool = False

    def works(self, model: BaseModel) -> bool:
        """Whether the key does anything in this configuration."""
        return (_value(model, self.switch) in self.values) is not self.but

    @property
    def needs(self) -> str:
        """The condition, for people and documents."""
        if self.values in ((None,), ([],), ({},)):
            return f"{'only' if self.but else 'not'} with `{self.switch}`"
        values = " or ".join(f"`{toml_word(value)}`" for value in self.values)
        return f"{'not' if self.but else 'only'} where `{self.switch}` is {values}"


class NoEffect(WrongKey):
    """A key is set and does nothing. ``switch``: the key that decides, below the same table."""

    def __init__(self, key: str, switch: str, message: str) -> None:
        super().__init__(key, message)
        self.switch = switch


def check_effects(model: BaseModel, effects: Iterable[Effect]) -> None:
    """Raise NoEffect for the first key that is set and has no effect."""
    for effect in effects:
        if _is_set(model, effect.key) and not effect.works(model):
            harmless = _is_default(model, effect.key) and _is_set(model, effect.switch)
            if not harmless:
                raise NoEffect(effect.key, effect.switch, _message(model, effect))


def keys_without_effect(error: ValidationError, prefix: str = "") -> list[tuple[str, str]]:
    """(key, switch) of each error that ``check_effects`` raised, dotted, below ``prefix``."""
    found = []
    for one in error.errors():
        cause = one.get("ctx", {}).get("error")
        if isinstance(cause, NoEffect):
            place = prefix + "".join(f"{part}." for part in one["loc"])
            found.append((place + cause.key, place + cause.switch))
    return found


def toml_word(value: Any) -> str:
    """A value of a configuration as it is typed."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _message(model: BaseModel, effect: Effect) -> str:
    now = _value(model, effect.switch)
    message = f"has no effect with {effect.switch} = {toml_word(now)}; leave it out"
    if effect.values == (None,):
        message = f"has no effect beside {effect.switch} = {toml_word(now)}; leave one of them out"
    elif now is None:
        message = f"has no effect without {effect.switch}; set that too, or leave this out"
    elif effect.but:
        message += f", or set {effect.switch} to another value"
    else:
        message += f", or set {effect.switch} = {' or '.join(map(toml_word, effect.values))}"
    return message


def _holder(model: BaseModel, key: str) -> tuple[BaseModel, str]:
    *tables, name = key.split(".")
    for table in tables:
        model = getattr(model, table)
    return model, name


def _value(model: BaseModel, key: str) -> Any:
    holder, name = _holder(model, key)
    return getattr(holder, name)


def _is_set(model: BaseModel, key: str) -> bool:
    holder, name = _holder(model, key)
    return name in holder.model_fields_set


def _is_default(model: BaseModel, key: str) -> bool:
    holder, name = _holder(model, key)
    default = type(holder).model_fields[name].get_default(call_default_factory=True)
    return bool(getattr(holder, name) == default)
