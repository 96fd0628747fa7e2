"""Names and lists that a configuration declares, in the normal form that cells are compared in."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from wardround.common.settings.declared import Value
from wardround.common.settings.effects import Effect, check_effects
from wardround.common.text import code


class Options(BaseModel):
    """Options of a built-in task: frozen, unknown keys and wrong types are refused.

    effects : keys that do something only together with others
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    effects: ClassVar[tuple[Effect, ...]] = ()

    @model_validator(mode="after")
    def _has_no_key_without_effect(self) -> Self:
        check_effects(self, self.effects)
        return self


def distinct_codes(texts: list[str]) -> list[str]:
    """The texts as codes. Raises ValueError for an empty one, and for two that are one code."""
    codes = [code(text) for text in texts]
    for position, one in enumerate(codes):
        if not one:
            raise ValueError("a text in it is empty; leave it out")
        if one in codes[:position]:
            first, second = texts[codes.index(one)], texts[position]
            what = f"'{first}' and '{second}' are the same text" if first != second else ""
            raise ValueError(f"{what or f'{first!r} stands there twice'}; name it once")
    return codes


Codes = Annotated[list[str], AfterValidator(distinct_codes)]
"""Values that cells may have: all different."""
Code = Annotated[Value, Field(min_length=1, max_length=60)]
"""One value that cells may have."""
