"""The options of the built-in tabular task: the ``[task]`` table of ``federation.toml``."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from wardround.common.effects import Effect, check_effects
from wardround.common.key_errors import WrongKey


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


class Columns(Options):
    """``[task.columns]``: what each column of the files means."""

    target: str | None = "malignant"
    time: str | None = None
    event: str | None = None
    numeric: list[str] = ["*"]
    categorical: list[str] = []
    binary: list[str] = []
    ignore: list[str] = []
    patient_id: str | None = None
    split: str | None = None
    categories: dict[str, list[str]] = {}

    def named(self) -> list[str]:
        """Every column named here, as often as it is named."""
        single = [self.target, self.time, self.event, self.patient_id, self.split]
        lists = [*self.numeric, *self.categorical, *self.binary, *self.ignore]
        return [name for name in [*single, *lists] if name and name != "*"]

    @model_validator(mode="after")
    def _consistent(self) -> Columns:
        named = self.named()
        if twice := sorted({name for name in named if named.count(name) > 1}):
            raise ValueError(f"column '{twice[0]}' has two meanings; name it once")
        if "*" in self.numeric and len(self.numeric) > 1:
            raise WrongKey("numeric", "['*'] already means every other column; name no others")
        if unknown := sorted(set(self.categories) - set(self.categorical)):
            raise WrongKey("categories", f"declared for '{unknown[0]}', not a categorical one")
        for name, values in self.categories.items():
            if len(values) < 2 or len(set(values)) < len(values):
                raise WrongKey("categories", f"of '{name}': at least two different texts")
        return self


class ModelOptions(Options):
    """``[task.model]``: a linear model or a multi-layer perceptron."""

    effects = tuple(Effect(key, "kind", ("mlp",)) for key in ("hidden", "dropout", "norm"))

    kind: Literal["logistic", "linear", "mlp"] = "logistic"
    hidden: list[int] = Field([64, 32], min_length=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    norm: Literal["none", "layer", "batch"] = "none"
    zero_init: bool = False

    @model_validator(mode="after")
    def _positive(self) -> ModelOptions:
        if any(width < 1 for width in self.hidden):
            raise WrongKey("hidden", "widths are at least 1")
        return self


class TabularOptions(Options):
    """``[task]`` with ``name = 'tabular'``."""

    effects = (
        Effect("normalise_encoded", "normalise", ("none",), but=True),
        Effect("encoding", "columns.categorical", ([],), but=True),
        Effect("unknown", "columns.categories", ({},), but=True),
        Effect("bins", "kind", ("binary", "multiclass")),
    )

    kind: Literal["binary", "multiclass", "regression", "survival"] = "binary"
    columns: Columns = Columns()
    positive: list[str] | None = None
    classes: list[str] | None = None
    header: list[str] | None = None
    delimiter: str = Field(",", min_length=1, max_length=1)
    missing_values: list[str] = ["", "?", "NA", "NaN", "nan", "null"]
    missing: Literal["median", "drop", "refuse"] = "median"
    normalise: Literal["federated", "local", "none"] = "federated"
    normalise_encoded: bool = False
    encoding: Literal["one_hot", "dummy"] = "one_hot"
    unknown: Literal["refuse", "ignore"] = "refuse"
    min_category_count: int = Field(5, ge=1)
    bins: int = Field(1000, ge=2, le=100_000)
    model: ModelOptions = ModelOptions()

    @model_validator(mode="after")
    def _target_fits(self) -> TabularOptions:
        columns = self.columns
        if self.kind == "survival":
            if not columns.time or not columns.event:
                lacking = "event" if columns.time else "time"
                raise WrongKey(
                    f"columns.{lacking}", "kind = 'survival' needs columns.time and columns.event"
                )
        elif not columns.target:
            raise WrongKey("columns.target", f"kind = '{self.kind}' needs columns.target")
        if self.classes is not None and (self.kind != "multiclass" or len(self.classes) < 2):
            raise WrongKey("classes", "two or more texts, for kind = 'multiclass'")
        if self.positive is not None and (self.kind != "binary" or not self.positive):
            raise WrongKey("positive", "a list of target texts, for kind = 'binary'")
        return self
