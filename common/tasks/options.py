"""The options of the built-in tabular task: the ``[task]`` table of ``federation.toml``."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from wardround.common.settings.declared import BY_NAME, BY_VALUE, Name
from wardround.common.settings.effects import Effect, NoEffect
from wardround.common.settings.key_errors import WrongKey
from wardround.common.tasks.class_limits import MOST_CLASSES, too_fine
from wardround.common.tasks.data.reading.dialect import Dialect
from wardround.common.tasks.data.two_values import TwoValues
from wardround.common.tasks.declared import Code, Codes, Options
from wardround.common.tasks.expected import Expected

_MOST_WEIGHTS = 2**26
_LEAST_COUNT = 5


class Columns(Options):
    """``[task.columns]``: what each column of the files means."""

    target: Name | None = Field("malignant", description="the column to predict")
    time: Name | None = Field(None, description="survival: time to the event or to the last visit")
    event: Name | None = Field(
        None, description="survival: whether the event was seen; see `positive`"
    )
    numeric: list[Name] = Field(
        ["*"], description='columns of numbers; `["*"]` is every column not named elsewhere'
    )
    categorical: list[Name] = Field(
        [], description="columns of texts, whose categories are agreed from counts, or declared"
    )
    binary: list[Name] = Field([], description="columns of 0 and 1, yes and no, or `positive`")
    ignore: list[Name] = Field([], description="columns to leave out")
    patient_id: Name | None = Field(
        None, description="whose rows belong together: they stay on one side of the split"
    )
    split: Name | None = Field(
        None, description="a column that says `train`, `validation` or `test`"
    )
    categories: Annotated[dict[Name, Codes], BY_NAME] = Field(
        {}, description='a categorical column\'s texts, declared: `{ sex = ["female", "male"] }`'
    )
    positive: Annotated[dict[Name, Codes], BY_NAME] = Field(
        {}, description='texts of `binary` columns that mean 1: `{ smoker = ["Ja"] }`'
    )
    negative: Annotated[dict[Name, Codes], BY_NAME] = Field(
        {}, description="texts of `binary` columns that mean 0; needed where there are several"
    )
    codes: Annotated[dict[Name, Annotated[dict[Code, Codes], BY_VALUE]], BY_NAME] = Field(
        {},
        description=(
            "how hospitals write a category, class or event, by what it is called here: "
            '`{ sex = { female = ["F", "w"], male = ["M"] } }`; a text that stands nowhere in it '
            "stays as it is"
        ),
    )

    expected: Annotated[dict[Name, Expected], BY_NAME] = Field(
        {},
        description=(
            "usual values of columns of numbers, for `wardround data check KIT`, and the `range` "
            "that a [private preparation](privacy.md#a-private-preparation) clips to: "
            '`{ creatinine = { unit = "umol/L", median = 88.0, range = [20.0, 2000.0] } }`'
        ),
    )

    def spellings(self, column: str) -> dict[str, str]:
        """What a text of this column is called, by how it is written; {} without ``codes``."""
        lists = self.codes.get(column, {})
        return {text: name for name, texts in lists.items() for text in texts}

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
            if len(values) < 2:
                raise WrongKey("categories", f"of '{name}': at least two different texts")
        for key, lists in (("positive", self.positive), ("negative", self.negative)):
            if unknown := sorted(set(lists) - set(self.binary)):
                raise WrongKey(key, f"'{unknown[0]}' isn't in columns.binary")
        for name, values in self.negative.items():
            _check_two(f"negative.{name}", self.positive.get(name), values)
        self._check_codes()
        texts = {*self.ignore, *self.categorical, *self.binary, self.patient_id, self.split}
        if odd := sorted(name for name in self.expected if name in texts):
            raise WrongKey(f"expected.{odd[0]}", "isn't a column of numbers")
        return self

    def _check_codes(self) -> None:
        """Raise WrongKey unless every text of ``codes`` has one name, and lists use the names."""
        roles = {*self.categorical, *self.binary, self.target, self.event}
        for column, lists in self.codes.items():
            if column not in roles:
                raise WrongKey(
                    "codes",
                    f"'{column}' isn't a categorical or binary column, target or event; add it to "
                    "task.columns.categorical",
                )
            called: dict[str, str] = {}
            for name, texts in lists.items():
                for text in (name, *texts):
                    same = text if column in self.categorical else text.casefold()
                    if (other := called.setdefault(same, name)) != name:
                        raise WrongKey(
                            f"codes.{column}", f"'{text}' is '{other}' and '{name}'; name it once"
                        )
            for key, declared in (
                ("categories", self.categories),
                ("positive", self.positive),
                ("negative", self.negative),
            ):
                _check_spelling(f"{key}.{column}", declared.get(column), self.spellings(column))


class ModelOptions(Options):
    """``[task.model]``: a linear model or a multi-layer perceptron."""

    effects = tuple(Effect(key, "kind", ("mlp",)) for key in ("hidden", "dropout", "norm"))

    kind: Literal["logistic", "linear", "mlp", "own"] = Field(
        "logistic",
        description=(
            "`logistic` and `linear` are the linear model; `own` is what a program gave as "
            "`simulate(model=...)`, and no file can name"
        ),
    )
    hidden: list[Annotated[int, Field(ge=1, le=8192)]] = Field(
        [64, 32], min_length=1, max_length=32, description="widths of the hidden layers"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="after each hidden layer")
    norm: Literal["none", "layer", "batch"] = Field(
        "none", description="after each hidden layer; `batch`: see strategy `fedbn`"
    )
    zero_init: bool = Field(True, description="start the linear model at 0")

    @model_validator(mode="after")
    def _fits_into_memory(self) -> ModelOptions:
        weights = sum(one * other for one, other in pairwise(self.hidden))
        if weights > _MOST_WEIGHTS:
            raise WrongKey(
                "hidden",
                f"{weights:,} weights between hidden layers are too many, at most "
                f"{_MOST_WEIGHTS:,} can be; make them fewer or narrower",
            )
        return self


class TabularOptions(Options):
    """``[task]`` with ``name = 'tabular'``."""

    effects = (
        Effect("normalise_encoded", "normalise", ("none",), but=True),
        Effect("encoding", "columns.categorical", ([],), but=True),
        Effect("unknown", "columns.categories", ({},), but=True),
        Effect("bins", "kind", ("binary", "multiclass")),
    )

    kind: Literal["binary", "multiclass", "regression", "survival", "none"] = Field(
        "binary",
        description=(
            "what is predicted; `none`: nothing, for `statistics`, where it is the default: every "
            "row counts, and a column is what an analysis uses it as"
        ),
    )
    columns: Columns = Columns()
    positive: Codes | None = Field(
        None,
        min_length=1,
        description=(
            "texts of a binary target, or of the event, that mean 1, in any case of letters; left "
            "out: 1, true, yes"
        ),
    )
    negative: Codes | None = Field(
        None,
        min_length=1,
        description="texts that mean 0; needed where there are several beside `positive`",
    )
    classes: Codes | None = Field(
        None,
        max_length=MOST_CLASSES,
        description="class names of a multi-class target; left out: agreed from counts",
    )
    dialect: Dialect = Dialect()
    missing_values: list[str] = Field(
        ["", "?", ".", "NA", "N/A", "NaN", "nan", "NULL", "null"],
        description="texts that mean missing, beside empty cells",
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
        _LEAST_COUNT,
        ge=1,
        le=1_000_000,
        description=(
            "categories and classes that fewer rows of a hospital have (or patients, with "
            "patient_id) are not sent; only where some are agreed from counts, not declared"
        ),
    )
    bins: int = Field(
        1000, ge=2, le=100_000, description="score bins of the areas under a curve, in the logit"
    )
    model: ModelOptions = ModelOptions()

    @property
    def text_columns(self) -> frozenset[str]:
        """Columns that are used as they are written, whatever their texts look like."""
        columns = self.columns
        names = {columns.patient_id, columns.split, columns.event}
        if self.kind in ("binary", "multiclass"):
            names.add(columns.target)
        named = [name for name in names if name is not None]
        return frozenset([*named, *columns.categorical, *columns.binary])

    @property
    def target_values(self) -> TwoValues:
        """What the texts of a binary target, or of the event, mean."""
        columns = self.columns
        column = columns.event if self.kind == "survival" else columns.target
        spellings = columns.spellings(str(column))
        return TwoValues(self.positive, self.negative, "task.positive", spellings=spellings)

    def binary_values(self, column: str) -> TwoValues:
        """What the texts of one of ``columns.binary`` mean."""
        positive, negative = self.columns.positive, self.columns.negative
        return TwoValues(
            positive.get(column),
            negative.get(column),
            f"task.columns.positive.{column}",
            ", or list the column under task.columns.categorical, not binary",
            self.columns.spellings(column),
        )

    @model_validator(mode="after")
    def _target_fits(self) -> TabularOptions:
        columns = self.columns
        if self.kind == "survival":
            if not columns.time or not columns.event:
                lacking = "event" if columns.time else "time"
                raise WrongKey(
                    f"columns.{lacking}", "kind = 'survival' needs columns.time and columns.event"
                )
        elif self.kind != "none" and not columns.target:
            raise WrongKey("columns.target", f"kind = '{self.kind}' needs columns.target")
        if self.classes is not None and (self.kind != "multiclass" or len(self.classes) < 2):
            raise WrongKey("classes", "two or more texts, for kind = 'multiclass'")
        if why := too_fine(len(self.classes or ()), self.bins):
            raise WrongKey("bins", why)
        for key, texts in (("positive", self.positive), ("negative", self.negative)):
            if texts is not None and self.kind not in ("binary", "survival"):
                raise WrongKey(key, "it is for kind = 'binary' or 'survival'; leave it out")
        if self.negative is not None:
            _check_two("negative", self.positive, self.negative)
        self.__check_spelling()
        self._check_counts()
        return self

    def __check_spelling(self) -> None:
        """Raise WrongKey for a list of the target's texts that has one as hospitals write it."""
        columns = self.columns
        spellings = columns.spellings(str(columns.event or columns.target))
        for key, texts in (
            ("positive", self.positive),
            ("negative", self.negative),
            ("classes", self.classes),
        ):
            _check_spelling(key, texts, spellings)

    def _check_counts(self) -> None:
        """Raise NoEffect for a least count of categories where none are agreed from counts."""
        key = "min_category_count"
        if key not in self.model_fields_set or self.min_category_count == _LEAST_COUNT:
            return
        declared = set(self.columns.categorical) <= set(self.columns.categories)
        if declared and (self.kind != "multiclass" or self.classes is not None):
            raise NoEffect(
                key,
                "columns.categorical",
                "has no effect: no column has categories, or classes, that are agreed from counts "
                "(all are declared); leave it out",
            )


def _check_spelling(key: str, texts: list[str] | None, spellings: Mapping[str, str]) -> None:
    """Raise WrongKey for a text that nothing would be: ``columns.codes`` calls it otherwise."""
    for text in texts or ():
        if (name := spellings.get(text, text)) != text:
            raise WrongKey(key, f"'{text}' is called '{name}' by columns.codes; write that")


def _check_two(key: str, positive: list[str] | None, negative: list[str]) -> None:
    """Raise WrongKey unless every text means one of the two values."""
    if positive is None:
        raise WrongKey(key, "it goes with positive, the texts that mean 1; name these too")
    known = {text.casefold() for text in positive}
    if both := [text for text in negative if text.casefold() in known]:
        raise WrongKey(key, f"'{both[0]}' means 1 already, by positive; name it once")
