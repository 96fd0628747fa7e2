"""``[federation]``, ``[data]``, ``[strategy]`` and ``[evaluation]``: the run as a whole."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from wardround.common.settings.base import DAY_S, MANY, Fraction, PathText, Seconds, Table
from wardround.common.settings.key_errors import WrongKey
from wardround.common.settings.strategies import STRATEGIES
from wardround.common.settings.strategy_options import StrategyOptions

BUFFERED = ("pace", "buffer", "max_staleness")
"""What all parties of a buffered run share; nobody of another one has it."""


class FederationTable(Table):
    """``[federation]``: the run as a whole."""

    name: str = Field(
        "federation",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="names the run directory: letters, digits, `.`, `_`, `-`",
    )
    seed: int = Field(1, ge=0, lt=2**63, description="same seed and settings, same model")
    rounds: int = Field(20, ge=1, le=MANY, description="how often models are sent out and averaged")
    clients_per_round: int | None = Field(
        None, ge=1, le=MANY, description="cohort size, drawn per round; left out: all hospitals"
    )
    pace: Literal["synchronous", "buffered"] = Field(
        "synchronous",
        description="`buffered`: a round is of the first `buffer` hospitals that are ready, and "
        "the others train on: [rounds that don't wait](asynchronous.md)",
    )
    buffer: int | None = Field(
        None, ge=1, le=MANY, description="K: of how many hospitals a buffered round is; to be set"
    )
    max_staleness: int = Field(
        10,
        ge=0,
        le=MANY,
        description="an update is dropped once more rounds than these have passed since its model",
    )
    min_clients: int = Field(
        2, ge=1, le=MANY, description="fewer accepted replies: the round is repeated"
    )
    round_timeout_s: float = Field(
        600.0, gt=0, le=365 * DAY_S, description="a later reply is refused"
    )
    round_attempts: int = Field(
        3,
        ge=1,
        le=100,
        description="of a round; then the run stops with its last checkpoint. One that fails as a "
        "hospital was stopped or withdrew isn't counted",
    )
    retry_wait_s: Seconds = Field(0.0, description="pause before a round is repeated")
    initial: PathText = Field(
        "",
        description=(
            "a model file of an earlier run (`model/model.safetensors`), or another safetensors "
            "file, that the first model takes arrays from: [training](training.md#warm-start)"
        ),
    )
    runs: PathText = Field("runs", description="where run directories are made")

    @property
    def buffered(self) -> bool:
        """Whether rounds don't wait for whoever is slow."""
        return self.pace == "buffered"

    @property
    def cohort(self) -> int | None:
        """The most hospitals that a round asks for an update; None: all of them."""
        return self.buffer if self.buffered else self.clients_per_round


def without_pace(tables: dict[str, Any], table: FederationTable) -> None:
    """Take out of settings as they are written what isn't there where rounds are synchronous: so
    they are the same bytes as before there was a choice."""
    if not table.buffered:
        for key in BUFFERED:
            tables["federation"].pop(key, None)


class DataTable(Table):
    """``[data]``: where rows are, and how each hospital splits its own."""

    path: PathText = Field(
        "",
        description=(
            "empty: the task's example data; a folder of hospitals; or one data set (a file, or a "
            "folder with a split or classes) to partition"
        ),
    )
    test_fraction: Fraction = Field(
        0.3,
        description="of each hospital's rows: "
        "[how they are split](tasks.md#training-validation-and-test-rows)",
    )
    validation_fraction: Fraction = Field(
        0.0,
        description=(
            'as the test rows; `evaluation.select = "best"` and `evaluation.patience` need some, '
            "unless the data give validation rows of their own"
        ),
    )

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> DataTable:
        if self.test_fraction + self.validation_fraction >= 1:
            raise ValueError("test_fraction and validation_fraction together must be below 1")
        return self


class StrategyTable(BaseModel):
    """``[strategy]``: how updates become the next model, and the strategy's own options."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    name: PathText = Field(
        "fedavg", description="a [strategy](strategies.md), or `path/to/file.py:Class`"
    )
    weighting: Literal["auto", "examples", "uniform"] = Field(
        "auto",
        description=(
            "of a hospital's update: by its training rows, all the same, or as the strategy's "
            "paper does"
        ),
    )
    personal_layers: list[str] = Field(
        [], description="patterns of model entries that stay at each hospital"
    )

    @model_validator(mode="after")
    def _has_the_strategys_options(self) -> StrategyTable:
        if (kind := STRATEGIES.get(self.name)) is None:
            return self  # the user's own, or unknown: server/strategies says so
        if kind.keeps == "model" and self.personal_layers:
            raise WrongKey(
                "personal_layers",
                f"'{self.name}' gives each hospital a whole model of its own; leave them out",
            )
        try:
            kind.model_validate(self.options)
        except ValidationError as error:
            first = error.errors()[0]
            message = f"{first['msg'][0].lower()}{first['msg'][1:]} (found {first['input']!r:.60})"
            if first["type"] == "extra_forbidden":
                has = ", ".join(kind.model_fields) or "no options"
                message = f"'{self.name}' has no such option; it has: {has}"
            raise WrongKey(str(first["loc"][0]), message) from None
        return self

    @property
    def options(self) -> dict[str, Any]:
        """The keys that this table doesn't know itself: keyword arguments of the strategy."""
        return dict(self.model_extra or {})

    @property
    def settings(self) -> StrategyOptions | None:
        """The options of a built-in strategy, with their defaults; None of a user's own."""
        kind = STRATEGIES.get(self.name)
        return kind.model_validate(self.options) if kind else None

    @property
    def keeps(self) -> str:
        """What each hospital has for itself: '', 'layers' or a whole 'model'
        (``StrategyOptions``)."""
        kind = STRATEGIES.get(self.name)
        return (kind.keeps if kind else "") or ("layers" if self.personal_layers else "")


class EvaluationTable(Table):
    """``[evaluation]``: when hospitals evaluate, and which model is the run's result."""

    every: int = Field(
        1, ge=1, le=MANY, description="rounds between evaluations; the last round always is"
    )
    clients: int | None = Field(
        None,
        ge=1,
        le=MANY,
        description=(
            "so many are asked, drawn once from the seed: the same in every round; left out: all, "
            "or 1000 of a [virtual population](simulation.md#virtual-populations)"
        ),
    )
    select: Literal["last", "best"] = Field(
        "last",
        description=(
            "whose model is the result: `best` is the round with the best validation figure"
        ),
    )
    patience: int = Field(
        0,
        ge=0,
        le=MANY,
        description=(
            "the run ends when the validation figure hasn't improved in so many evaluated rounds; "
            "`0`: never. As `best`, it needs validation rows"
        ),
    )
