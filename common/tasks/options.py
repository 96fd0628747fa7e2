"""The options of the built-in tabular task: the ``[task]`` table of ``federation.toml``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

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

    target: str | None = Field("malignant", description="the column to predict")
    time: str | None = Field(None, description="survival: time to the event or to the last visit")
    event: str | None = Field(None, description="survival: whether the event was seen")
    numeric: list[str] = Field(
        ["*"], description='columns of numbers; `["*"]` is every column not named elsewhere'
    )
    categorical: list[str] = Field(
        [], description="columns of texts, whose categories are agreed from counts, or declared"
    )
    binary: list[str] = Field([], description="columns of 0 and 1")
    ignore: list[str] = Field([], description="columns to leave out")
    patient_id: str | None = Field(
        None, description="whose rows belong together: they stay on one side of the split"
    )
    split: str | None = Field(
        None, description="a column that says `train`, `validation` or `test`"
    )
    categories: dict[str, list[str]] = Field(
        {}, description='a categorical column\'s texts, declared: `{ sex = ["female", "male"] }`'
    )

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

    kind: Literal["logistic", "linear", "mlp"] = Field(
        "logistic", description="`logistic` and `linear` are the linear model"
    )
    hidden: list[Annotated[int, Field(ge=1, le=65_536)]] = Field(
        [64, 32], min_length=1, max_length=32, description="widths of the hidden layers"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="after each hidden layer")
    norm: Literal["none", "layer", "batch"] = Field(
        "none", description="after each hidden layer; `batch`: see strategy `fedbn`"
    )
    zero_init: bool = Field(False, description="start the linear model at 0")


class TabularOptions(Options):
    """``[task]`` with ``name = 'tabular'``."""

    effects = (
        Effect("normalise_encoded", "normalise", ("none",), but=True),
        Effect("encoding", "columns.categorical", ([],), but=True),
        Effect("unknown", "columns.categories", ({},), but=True),
        Effect("bins", "kind", ("binary", "multiclass")),
    )

    kind: Literal["binary", "multiclass", "regression", "survival"] = Field(
        "binary", description="what is predicted"
    )
    columns: Columns = Columns()
    positive: list[str] | None = Field(
        None, description="target texts that count as positive; left out: 1, true, yes"
    )
    classes: list[str] | None = Field(
        None, description="class names of a multi-class target; left out: agreed from counts"
    )
    header: list[str] | None = Field(
        None, description="column names of files without a header line"
    )
    delimiter: str = Field(
        ",", min_length=1, max_length=1, description="between the columns of a CSV"
    )
    missing_values: list[str] = Field(
        ["", "?", "NA", "NaN", "nan", "null"], description="texts that mean missing"
    )
    missing: Literal["median", "drop", "refuse"] = Field(
        "median", description="what becomes of a row with a missing number"
    )
    normalise: Literal["federated", "local", "none"] = Field(
        "federated",
        description=(
            "numbers are standardised by sums over all hospitals, by each hospital's own, or not"
        ),
    )
    normalise_encoded: bool = Field(
        False, description="also standardise binary and category columns"
    )
    encoding: Literal["one_hot", "dummy"] = Field(
        "one_hot", description="of categories; `dummy`: without the first one"
    )
    unknown: Literal["refuse", "ignore"] = Field(
        "refuse", description="a category outside a declared list"
    )
    min_category_count: int = Field(
        5, ge=1, le=1_000_000, description="rarer categories of a hospital are not sent"
    )
    bins: int = Field(1000, ge=2, le=100_000, description="score bins of AUC and calibration")
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
